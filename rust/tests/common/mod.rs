//! A device over a real socket, with as little policy as its streams need: every control request is answered OK, and
//! START, STOP, RELEASE and PREPARE are passed on to the stream.

#![allow(dead_code)]

pub mod slots;

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use _core::guest::{Driver, Options, Socket, wire};
use _core::pcm::router::Queues;
use _core::pcm::stream::{Mode, Shape};
use _core::pcm::{Router, Stream};
use _core::vhost::Caller;
use _core::vhost::device::{Device, QueueHandler, Spec};
use _core::vhost::events::{Event, EventQueue};
use _core::vhost::server::Server;

pub const PERIOD: usize = 1920;
pub const BUFFER: usize = 4 * PERIOD;

/// See the module text.
pub struct Rig {
    pub server: Arc<Server>,
    pub streams: Vec<Arc<Stream>>,
    pub events: Arc<Mutex<Vec<Event>>>,
    /// While true, requests are popped and kept unanswered.
    pub mute: Arc<AtomicBool>,
    pub path: PathBuf,
    quit: Arc<AtomicBool>,
    policy: Option<JoinHandle<()>>,
}

/// A short path: a socket's is limited.
pub fn socket_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("vsnd-{}-{n}", std::process::id()))
}

pub fn shape(frame: usize) -> Shape {
    Shape { buffer: BUFFER, period: PERIOD, frame, rate: 48000, silence: 0, polling: false }
}

impl Rig {
    /// `directions`: a stream each, true for capture.
    pub fn new(directions: &[bool]) -> Rig {
        let rig = Self::unbound(directions);
        rig.server.listen(&rig.path, 0o600).expect("listen");
        rig
    }

    /// As `new`, listening nowhere yet.
    pub fn unbound(directions: &[bool]) -> Rig {
        let streams: Vec<_> = (0..).zip(directions).map(|(i, &c)| Arc::new(Stream::new(i, c))).collect();
        let router = Router::new(streams.clone(), Queues::default()).expect("router");
        let queue = Arc::new(EventQueue::new().expect("events"));
        router.bind(&queue).expect("bind");
        let config = wire::words(&[0, directions.len() as u32, 0]);
        let spec = Spec { queues: 4, config, device_owned: vec![wire::EVENT], ..Spec::default() };
        let device = Device::new(spec, queue, Some(router as Arc<dyn QueueHandler>)).expect("device");
        let server = Arc::new(Server::new(device).expect("server"));
        let (events, quit, mute): (Arc<Mutex<Vec<Event>>>, Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let policy = {
            let (server, streams) = (server.clone(), streams.clone());
            let (events, quit, mute) = (events.clone(), quit.clone(), mute.clone());
            std::thread::spawn(move || policy(&server, &streams, &events, &quit, &mute))
        };
        Rig { server, streams, events, mute, path: socket_path(), quit, policy: Some(policy) }
    }

    pub fn connect(&self, options: Options) -> Arc<Driver> {
        Driver::connect(Socket::Path(self.path.clone()), options).expect("connect")
    }

    /// Wait until something is so.
    pub fn until(&self, what: &str, f: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !f() {
            assert!(Instant::now() < end, "{what}: not in 20 s");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn saw(&self, f: impl Fn(&Event) -> bool) -> bool {
        self.events.lock().expect("events").iter().any(f)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.server.close();
        self.quit.store(true, Ordering::Release);
        if let Some(t) = self.policy.take() {
            let _ = t.join();
        }
        if !std::thread::panicking() {
            assert!(!self.path.exists(), "the socket file is left behind");
        }
    }
}

fn policy(server: &Server, streams: &[Arc<Stream>], log: &Mutex<Vec<Event>>, quit: &AtomicBool, mute: &AtomicBool) {
    let device = server.device();
    let ring = &device.rings()[wire::CONTROL];
    let mut kept = VecDeque::new();
    while !quit.load(Ordering::Acquire) {
        let mut p = libc::pollfd { fd: device.events.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live, initialised pollfd.
        unsafe { libc::poll(&mut p, 1, 20) };
        for event in device.take_events(64) {
            let kicked = event == Event::Kicked { queue: wire::CONTROL };
            log.lock().expect("events").push(event);
            if !kicked {
                continue;
            }
            while ring.pop(&mut kept, 1, Caller::Worker).is_ok_and(|n| n > 0) {
                if mute.load(Ordering::Acquire) {
                    continue;
                }
                let c = kept.pop_front().expect("popped");
                let mut req = [0; 8];
                let n = req.len().min(c.readable().len());
                let _ = c.readable().read(&ring.memory(), 0, &mut req[..n]);
                let [code, id] = [0, 4].map(|i| u32::from_le_bytes(req[i..i + 4].try_into().expect("4 bytes")));
                if let Some(s) = streams.get(id as usize) {
                    obey(s, code);
                }
                let ok = 0x8000u32.to_le_bytes();
                let written = ring.with_live(&c, |mem| c.writable().write(mem, 0, &ok).map_or(0, |()| 4));
                ring.complete_one(c.done(written.unwrap_or(0), 0), true);
            }
        }
    }
}

fn obey(s: &Stream, code: u32) {
    match code {
        wire::SET_PARAMS => s.configure(shape(4)).expect("shape"),
        wire::PREPARE => s.set_mode(Mode::Queue),
        wire::START => s.start(),
        wire::STOP => s.stop(),
        wire::RELEASE => {
            s.flush(0x8000);
        }
        _ => {}
    }
}

/// An engine that pulls (or pushes zeros) in its own thread, as fast as it is told to, until dropped.
pub struct Engine {
    quit: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<u8>>>,
}

impl Engine {
    pub fn new(stream: &Arc<Stream>, bytes: usize, pause: Duration) -> Engine {
        let quit = Arc::new(AtomicBool::new(false));
        let (s, q) = (stream.clone(), quit.clone());
        let thread = std::thread::spawn(move || {
            let (mut buf, mut heard) = (vec![0; bytes], Vec::new());
            while !q.load(Ordering::Acquire) {
                if s.capture {
                    s.push(&buf, 0);
                } else {
                    let n = s.pull(&mut buf, 0);
                    heard.extend(&buf[..n]);
                }
                if !pause.is_zero() {
                    std::thread::sleep(pause);
                }
            }
            heard
        });
        Engine { quit, thread: Some(thread) }
    }

    /// Stop it; what it heard.
    pub fn stop(mut self) -> Vec<u8> {
        self.quit.store(true, Ordering::Release);
        self.thread.take().expect("running").join().expect("engine")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.quit.store(true, Ordering::Release);
    }
}

/// Open descriptors and threads of this process.
pub fn resources() -> (usize, usize) {
    let count = |p| std::fs::read_dir(p).expect("proc").count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// A request is answered, so the connection and its control ring live.
pub fn is_alive(driver: &Driver) {
    let reply = driver.request(&wire::words(&[wire::PREPARE, 0]), 4).expect("an answer");
    assert_eq!(reply.status(), 0x8000);
}
