//! vhost-user messages: bytes and descriptors over a socket pair into a real server with a real device behind it.
//!
//! Whatever is said, the server comes to an end of the connection by itself, and leaves no descriptor behind.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use _core::pcm::router::Queues;
use _core::pcm::stream::{Mode, Shape};
use _core::pcm::{Router, Stream};
use _core::vhost::Caller;
use _core::vhost::device::{Device, QueueHandler, Spec};
use _core::vhost::events::{Event, EventQueue};
use _core::vhost::server::Server;
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::input::Input;

/// A connection's end may take this long on a busy machine before it counts as a hang.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the memory that the front end shares.
pub const MEMORY: u64 = 0x10000;

/// The first byte of each record of the input: what it is.
pub mod record {
    /// Request code, flags, descriptors, body length, body: sent with a right header.
    pub const MESSAGE: u8 = 0;
    /// Length, descriptors, bytes: sent as they are.
    pub const RAW: u8 = 1;
    /// Where (in units of 16 bytes), length, bytes: written into the shared memory.
    pub const WRITE: u8 = 2;
    /// The kick eventfd is written.
    pub const KICK: u8 = 3;
    /// A stream is prepared and started, bytes are moved, or it is stopped.
    pub const STREAM: u8 = 4;
    /// How long the shared memory is from now on, in units of 256 bytes.
    pub const TRUNCATE: u8 = 5;
    pub const KINDS: u8 = 6;
}

fn memfd(len: u64) -> File {
    // SAFETY: the name is a C string; the new descriptor is owned by nobody else.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"fuzz".as_ptr(), libc::MFD_CLOEXEC)) };
    file.set_len(len).expect("memory");
    file
}

/// What a front end may pass: memory, too little memory, a kick, a call, and what has no business here.
struct Descriptors {
    memory: File,
    small: File,
    kick: EventFd,
    call: EventFd,
    pipe: File,
    null: File,
}

impl Descriptors {
    fn new() -> Self {
        let eventfd = || EventFd::new(libc::EFD_NONBLOCK).expect("eventfd");
        let mut ends = [0; 2];
        // SAFETY: an array of two; both descriptors are owned by nobody else.
        let (pipe, other) = unsafe {
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
        };
        drop(other);
        let null = File::open("/dev/null").expect("/dev/null");
        Descriptors { memory: memfd(MEMORY), small: memfd(100), kick: eventfd(), call: eventfd(), pipe, null }
    }

    /// `which`: the number in the low three bits, then three bits for each.
    fn chosen(&self, which: u16) -> Vec<RawFd> {
        let all = [
            self.memory.as_raw_fd(),
            self.kick.as_raw_fd(),
            self.call.as_raw_fd(),
            self.small.as_raw_fd(),
            self.pipe.as_raw_fd(),
            self.null.as_raw_fd(),
        ];
        (0..which & 7).map(|i| all[usize::from(which >> (3 + 2 * i) & 7) % all.len()]).collect()
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc").count()
}

struct Bench {
    server: Server,
    streams: Vec<Arc<Stream>>,
    socket: UnixStream,
    descriptors: Descriptors,
    ended: bool,
}

/// Input: records, see `record`.
pub fn run(data: &[u8]) {
    let before = open_descriptors();
    let mut bench = Bench::new();
    let mut input = Input(data);
    while !input.is_empty() && !bench.ended {
        bench.step(&mut input);
        bench.serve();
    }
    bench.end();
    drop(bench);
    assert_eq!(open_descriptors(), before, "descriptors are left open");
}

impl Bench {
    fn new() -> Self {
        let streams = vec![Arc::new(Stream::new(0, false)), Arc::new(Stream::new(1, true))];
        let router = Router::new(streams.clone(), Queues::default()).expect("router");
        let events = Arc::new(EventQueue::new().expect("events"));
        router.bind(&events).expect("bind");
        let spec = Spec { queues: 4, config: vec![0; 12], device_owned: vec![1], ..Spec::default() };
        let device = Device::new(spec, events, Some(router as Arc<dyn QueueHandler>)).expect("device");
        let server = Server::new(device).expect("server");
        let (socket, theirs) = UnixStream::pair().expect("pair");
        server.listen_fd(theirs.as_raw_fd()).expect("serve");
        socket.set_nonblocking(true).expect("socket");
        Bench { server, streams, socket, descriptors: Descriptors::new(), ended: false }
    }

    fn step(&mut self, input: &mut Input) {
        match input.u8() % record::KINDS {
            record::MESSAGE => {
                let (code, flags, which) = (input.u8(), input.u8(), input.u16());
                let n = input.u8();
                let body = input.bytes(n.into());
                let head = [u32::from(code), u32::from(flags) & !3 | 1, body.len() as u32];
                let mut bytes: Vec<u8> = head.iter().flat_map(|w| w.to_le_bytes()).collect();
                bytes.extend_from_slice(body);
                self.send(&bytes, which);
            }
            record::RAW => {
                let (n, which) = (input.u8(), input.u16());
                let bytes = input.bytes(n.into());
                self.send(bytes, which);
            }
            record::WRITE => {
                let (at, n) = (u64::from(input.u16()) * 16 % MEMORY, input.u8());
                let bytes = input.bytes(n.into());
                let room = (MEMORY - at).min(bytes.len() as u64) as usize;
                self.descriptors.memory.write_all_at(&bytes[..room], at).expect("memory");
            }
            record::KICK => drop(self.descriptors.kick.write(1)),
            record::TRUNCATE => {
                let len = u64::from(input.u8()) * 256;
                self.descriptors.memory.set_len(len).expect("memory");
            }
            _ => {
                let what = input.u8();
                let stream = &self.streams[usize::from(what & 1)];
                match what >> 1 & 3 {
                    0 => {
                        let shape =
                            Shape { buffer: 512, period: 128, frame: 4, rate: 48000, silence: 0, polling: false };
                        stream.configure(shape).expect("shape");
                        stream.set_mode(if what & 8 == 0 { Mode::Queue } else { Mode::Discard });
                        stream.start();
                    }
                    1 => drop(stream.pull(&mut [0; 256], 0)),
                    2 => drop(stream.push(&[1; 256], 0)),
                    _ => {
                        stream.stop();
                        stream.flush(0x8000);
                    }
                }
            }
        }
    }

    /// The other side may have closed already, or not read yet: then it is not for it.
    fn send(&self, bytes: &[u8], which: u16) {
        if !bytes.is_empty() {
            let _ = self.socket.send_with_fds(&[bytes], &self.descriptors.chosen(which));
        }
    }

    /// As the loop outside would: take events, answer requests. Read what is replied.
    fn serve(&mut self) {
        let device = self.server.device();
        for event in device.take_events(64) {
            match event {
                Event::Disconnected { .. } => self.ended = true,
                Event::StateWanted => device.answer_state(Some(b"a state".to_vec())),
                Event::StateGiven { .. } => device.answer_state(Some(Vec::new())),
                _ => {}
            }
        }
        let ring = &device.rings()[0];
        let mut requests = std::collections::VecDeque::new();
        let _ = ring.pop(&mut requests, 64, Caller::Worker);
        for c in requests {
            let written = ring.with_live(&c, |mem| c.writable().write(mem, 0, &[0; 4]).map_or(0, |()| 4));
            ring.complete_one(c.done(written.unwrap_or(0), 0), true);
        }
        while self.socket.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
    }

    fn end(&mut self) {
        let _ = self.socket.flush();
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
        let until = Instant::now() + PATIENCE;
        while !self.ended || self.server.is_serving() {
            assert!(Instant::now() < until, "the server does not come to the end of the connection");
            let mut p = libc::pollfd { fd: self.server.device().events.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one live, initialised pollfd.
            unsafe { libc::poll(&mut p, 1, 1) };
            self.serve();
        }
        assert!(!self.server.is_connected());
        for ring in self.server.device().rings() {
            assert_eq!((ring.in_flight(), ring.is_running()), (0, false), "queue {}", ring.index);
        }
        assert!(self.streams.iter().all(|s| s.queued_bytes() == 0));
        self.server.close();
    }
}
