//! The listener and the connection thread: one front end after the other.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use vhost::vhost_user::{BackendReqHandler, Error};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::connection::Connection;
use super::device::Device;
use super::events::Event;
use super::lobby::{Lobby, next_message, takes_replies};
use super::lock;
use super::socket::{SocketFile, Source, adopt, bind};

/// How long a front end may leave a reply unread.
const REPLY_WAIT: Duration = Duration::from_secs(1);

/// See the module text.
pub struct Server {
    device: Arc<Device>,
    /// The connection being served, to be shut down by `close`.
    current: Arc<Mutex<Option<UnixStream>>>,
    stop: Arc<EventFd>,
    serving: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    file: Mutex<Option<SocketFile>>,
}

impl Server {
    /// A server that does not listen yet.
    pub fn new(device: Arc<Device>) -> io::Result<Self> {
        Ok(Server {
            device,
            current: Arc::default(),
            stop: Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?),
            serving: Arc::default(),
            thread: Mutex::default(),
            file: Mutex::default(),
        })
    }

    /// The device served.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Bind a path and serve. Returns when connections are accepted.
    pub fn listen(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut thread = self.idle()?;
        let (listener, file) = bind(path, mode, None)?;
        *lock(&self.file) = Some(file);
        self.serve(Source::Listener(listener), &mut thread)
    }

    /// Serve a socket that was bound before; it and its file are the server's from now on.
    pub fn listen_on(&self, listener: UnixListener, file: SocketFile) -> io::Result<()> {
        let mut thread = self.idle().inspect_err(|_| file.remove())?;
        *lock(&self.file) = Some(file);
        self.serve(Source::Listener(listener), &mut thread)
    }

    /// Serve a listening or a connected socket. The descriptor stays the caller's.
    pub fn listen_fd(&self, fd: RawFd) -> io::Result<()> {
        let mut thread = self.idle()?;
        self.serve(adopt(fd)?, &mut thread)
    }

    fn idle(&self) -> io::Result<std::sync::MutexGuard<'_, Option<JoinHandle<()>>>> {
        let thread = lock(&self.thread);
        if thread.is_some() || self.stopped() {
            let what = "the server listens already, or was closed";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(thread)
    }

    fn stopped(&self) -> bool {
        let mut p = libc::pollfd { fd: self.stop.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live, initialised pollfd.
        unsafe { libc::poll(&mut p, 1, 0) > 0 }
    }

    fn serve(&self, source: Source, thread: &mut Option<JoinHandle<()>>) -> io::Result<()> {
        let (device, current, stop) = (self.device.clone(), self.current.clone(), self.stop.clone());
        let serving = self.serving.clone();
        if let Source::Listener(l) = &source {
            // A client that is gone before it is accepted must not hold us.
            l.set_nonblocking(true)?;
        }
        serving.store(true, Ordering::Release);
        let run = move || {
            match source {
                Source::Connected(stream) => serve_one(stream, None, &device, &current, &stop),
                Source::Listener(listener) => {
                    let mut lobby = Lobby::default();
                    while let Some(stream) = lobby.next(&listener, &stop) {
                        serve_one(stream, Some(&listener), &device, &current, &stop);
                    }
                }
            }
            serving.store(false, Ordering::Release);
            // Whoever was told of the end of the connection before this looks again.
            device.events.wake();
        };
        *thread = Some(std::thread::Builder::new().name("vsnd-vhost".into()).spawn(run)?);
        Ok(())
    }

    /// True from `listen` until `close`, or until the only connection of a connected descriptor ended.
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    /// True while there is a front end.
    pub fn is_connected(&self) -> bool {
        lock(&self.current).is_some()
    }

    fn tell_to_stop(&self) {
        let _ = self.stop.write(1);
        self.device.events.close();
        if let Some(s) = lock(&self.current).as_ref() {
            let _ = s.shutdown(std::net::Shutdown::Both);
        }
        if let Some(f) = lock(&self.file).take() {
            f.remove();
        }
    }

    /// Drop the connection, stop listening, remove the socket file, join. Idempotent.
    pub fn close(&self) {
        self.tell_to_stop();
        if let Some(t) = lock(&self.thread).take() {
            let _ = t.join();
        }
        self.device.close();
    }
}

/// The reason of a connection's end, empty for an orderly one.
fn reason(e: Error) -> String {
    match e {
        Error::Disconnected => String::new(),
        e => format!("the front end was dropped: {e}"),
    }
}

/// Serve a front end until it goes.
fn serve_one(
    stream: UnixStream,
    listener: Option<&UnixListener>,
    device: &Arc<Device>,
    current: &Mutex<Option<UnixStream>>,
    stop: &EventFd,
) {
    let (Ok(shutdown), Ok(ear), Ok(other_ear)) = (stream.try_clone(), stream.try_clone(), stream.try_clone()) else {
        return;
    };
    let _ = stream.set_nonblocking(false);
    *lock(current) = Some(shutdown);
    device.stats.connections.fetch_add(1, Ordering::Relaxed);
    device.events.push(Event::Connected);
    let connection = Arc::new(Mutex::new(Connection::new(device.clone()).listening_to(other_ear)));
    let mut handler = BackendReqHandler::from_stream(stream, connection.clone());
    let why = loop {
        let wants_reply = match next_message(&ear, listener, stop, &device.alarm) {
            Ok(Some(wants_reply)) => wants_reply,
            Ok(None) => break String::new(),
            Err(why) => break format!("the front end was dropped: {why}"),
        };
        // Here, because the crate tries for ever to send a reply.
        if !takes_replies(&ear, stop, REPLY_WAIT) {
            break "the front end was dropped: it does not read its replies".into();
        }
        if let Err(e) = handler.handle_request() {
            if !(lock(&connection).take_refusal() && wants_reply) {
                break reason(e);
            }
            // The front end knows that its message changed nothing, and goes on.
            device.events.offer(Event::Fault { queue: -1, reason: format!("a vhost-user message was refused: {e}") });
        }
        device.stats.messages.fetch_add(1, Ordering::Relaxed);
    };
    lock(&connection).forget_kicks();
    device.disconnected(why);
    let _ = device.alarm.read();
    lock(current).take();
}

impl Drop for Server {
    /// Only tells the threads: a drop may run where a join could hang.
    fn drop(&mut self) {
        self.tell_to_stop();
    }
}
