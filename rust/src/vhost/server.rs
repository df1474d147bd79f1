//! The connection thread: one front end after the other, from a listener of ours or a descriptor that was handed to us.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use vhost::vhost_user::{BackendReqHandler, Error};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::connection::Connection;
use super::device::Device;
use super::events::Event;
use super::listener::{Listener, SocketFile};
use super::lock;

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

enum Source {
    Listener(UnixListener),
    Connected(UnixStream),
}

/// Block until `fd` is readable (true) or we are told to stop (false).
fn readable(fd: RawFd, stop: &EventFd) -> bool {
    let mut p = [fd, stop.as_raw_fd()].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    loop {
        // SAFETY: `p` is a live array of two initialised pollfds.
        let n = unsafe { libc::poll(p.as_mut_ptr(), 2, -1) };
        if p[1].revents != 0 {
            return false;
        }
        if n > 0 {
            return true;
        }
    }
}

/// A descriptor that was handed to us: ask it what it is.
fn adopt(fd: RawFd) -> io::Result<Source> {
    let (mut value, mut len) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: `value` and `len` are live; a wrong descriptor gives an error.
    let fd = unsafe {
        let rc = libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, (&raw mut value).cast(), &mut len);
        if rc < 0 {
            return Err(io::Error::last_os_error());
        }
        let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(copy)
    };
    Ok(if value != 0 { Source::Listener(UnixListener::from(fd)) } else { Source::Connected(UnixStream::from(fd)) })
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
        let Listener { socket, file } = Listener::bind(path, mode, None)?;
        *lock(&self.file) = Some(file);
        self.serve(Source::Listener(socket), &mut thread)
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
                Source::Connected(stream) => serve_one(stream, &device, &current, &stop),
                Source::Listener(listener) => {
                    while readable(listener.as_raw_fd(), &stop) {
                        match listener.accept() {
                            Ok((stream, _)) => serve_one(stream, &device, &current, &stop),
                            // Out of descriptors: wait for better times instead of spinning.
                            Err(e) if e.kind() != io::ErrorKind::WouldBlock => {
                                std::thread::sleep(std::time::Duration::from_millis(20));
                            }
                            Err(_) => {}
                        }
                    }
                }
            }
            serving.store(false, Ordering::Release);
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

/// Whether the message that comes next asks for an acknowledgement (NEED_REPLY, bit 3 of the header's flags).
fn wants_reply(fd: RawFd) -> bool {
    let mut header = [0u8; 12];
    // SAFETY: an open socket and 12 writable bytes.
    let n = unsafe { libc::recv(fd, header.as_mut_ptr().cast(), header.len(), libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    n == 12 && header[4] & 1 << 3 != 0
}

fn serve_one(stream: UnixStream, device: &Arc<Device>, current: &Mutex<Option<UnixStream>>, stop: &EventFd) {
    let Ok(shutdown) = stream.try_clone() else {
        return;
    };
    let _ = stream.set_nonblocking(false);
    *lock(current) = Some(shutdown);
    device.stats.connections.fetch_add(1, Ordering::Relaxed);
    device.events.push(Event::Connected);
    let fd = stream.as_raw_fd();
    let connection = Arc::new(Mutex::new(Connection::new(device.clone())));
    let mut handler = BackendReqHandler::from_stream(stream, connection.clone());
    let mut why = String::new();
    while readable(fd, stop) {
        let told = wants_reply(fd);
        if let Err(e) = handler.handle_request() {
            if !(lock(&connection).take_refusal() && told) {
                why = reason(e);
                break;
            }
            // The front end knows that its message changed nothing, and goes on.
            device.events.offer(Event::Fault { queue: -1, reason: format!("a vhost-user message was refused: {e}") });
        }
        device.stats.messages.fetch_add(1, Ordering::Relaxed);
    }
    lock(&connection).forget_kicks();
    device.disconnected(why);
    lock(current).take();
}

impl Drop for Server {
    /// Only tells the threads: a drop may run where a join could hang.
    fn drop(&mut self) {
        self.tell_to_stop();
    }
}
