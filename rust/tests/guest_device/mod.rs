//! A small sound device for the tests of the driver: one output (0) and one input (1), an engine without a clock.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use _core::guest::{numbered, wire};
use _core::pcm::router::Queues;
use _core::pcm::stream::{Mode, Shape};
use _core::pcm::{Router, Stream};
use _core::vhost::Caller;
use _core::vhost::chain::Chain;
use _core::vhost::device::{Device, Spec};
use _core::vhost::events::{Event, EventQueue};
use _core::vhost::ring::Ring;
use _core::vhost::server::Server;

/// A request that is never answered.
pub const SILENT: u32 = 0x7777;

pub struct Bench {
    pub path: PathBuf,
    pub device: Arc<Device>,
    /// What the guest played.
    pub played: Arc<Mutex<Vec<u8>>>,
    server: Option<Server>,
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _dir: Dir,
}

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Bench {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("vsnd-guest-{}-{}", std::process::id(), COUNT.fetch_add(1, SeqCst));
        let dir = Dir(std::env::temp_dir().join(name));
        std::fs::create_dir(&dir.0).expect("directory");
        let path = dir.0.join("snd");
        let streams = [false, true].map(|capture| Arc::new(Stream::new(capture.into(), capture)));
        let router = Router::new(streams.to_vec(), Queues::default()).expect("router");
        let events = Arc::new(EventQueue::new().expect("events"));
        let spec = Spec { queues: 4, features: 0, config: wire::words(&[0, 2, 0]), device_owned: vec![wire::EVENT] };
        let device = Device::new(spec, events.clone(), Some(router.clone())).expect("device");
        router.bind(&events).expect("events");
        let server = Server::new(device.clone()).expect("server");
        server.listen(&path, 0o600).expect("socket");
        let ending = Arc::new(AtomicBool::new(false));
        let played = Arc::<Mutex<Vec<u8>>>::default();
        let policy = {
            let (device, streams, ending) = (device.clone(), streams.clone(), ending.clone());
            std::thread::spawn(move || serve(&device, &streams, &ending))
        };
        let engine = {
            let (streams, ending, played) = (streams.clone(), ending.clone(), played.clone());
            std::thread::spawn(move || pull(&streams, &ending, &played))
        };
        let threads = vec![policy, engine];
        Bench { path, device, played, server: Some(server), ending, threads, _dir: dir }
    }

    /// Send an event to the guest.
    pub fn tell(&self, code: u32, data: u32) -> bool {
        let ring = &self.device.rings()[wire::EVENT];
        pop(ring).is_some_and(|c| answer(ring, &c, &wire::words(&[code, data])))
    }

    /// The guest's sound arrived whole and in order.
    pub fn assert_played(&self, data: &[u8]) {
        let played = self.played.lock().expect("played");
        let differs = played.iter().zip(data).position(|(a, b)| a != b);
        assert_eq!((differs, played.len()), (None, data.len()));
    }

    /// The device is gone.
    pub fn close(&mut self) {
        self.ending.store(true, SeqCst);
        if let Some(server) = self.server.take() {
            server.close();
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.close();
        for t in self.threads.drain(..) {
            let ended = t.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a thread of the device panicked");
        }
    }
}

fn pop(ring: &Arc<Ring>) -> Option<Chain> {
    let mut out = VecDeque::new();
    ring.pop(&mut out, 1, Caller::Worker).ok()?;
    out.pop_front()
}

fn answer(ring: &Arc<Ring>, c: &Chain, bytes: &[u8]) -> bool {
    let n = bytes.len().min(c.writable().len());
    let wrote = ring.with_live(c, |m| c.writable().write(m, 0, &bytes[..n]).is_ok());
    wrote == Some(true) && ring.complete_one(c.done(n, 0), true)
}

fn serve(device: &Arc<Device>, streams: &[Arc<Stream>; 2], ending: &AtomicBool) {
    while !ending.load(SeqCst) {
        let mut p = libc::pollfd { fd: device.events.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live pollfd.
        unsafe { libc::poll(&mut p, 1, 20) };
        for event in device.take_events(64) {
            let Event::Kicked { queue: wire::CONTROL } = event else {
                continue;
            };
            let ring = &device.rings()[wire::CONTROL];
            while let Some(c) = pop(ring) {
                let mut request = vec![0; c.readable().len()];
                let read = ring.with_live(&c, |m| c.readable().read(m, 0, &mut request).is_ok());
                if read == Some(true)
                    && let Some(reply) = policy(streams, &request)
                {
                    answer(ring, &c, &reply);
                }
            }
        }
    }
}

fn word(request: &[u8], at: usize) -> u32 {
    request.get(at..at + 4).map_or(u32::MAX, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn policy(streams: &[Arc<Stream>; 2], request: &[u8]) -> Option<Vec<u8>> {
    let code = word(request, 0);
    let mut status = wire::OK;
    match (code, streams.get(word(request, 4) as usize)) {
        (SILENT, _) => return None,
        (wire::PCM_INFO, _) => return Some([wire::words(&[wire::OK]), vec![7; 64]].concat()),
        (wire::SET_PARAMS, Some(s)) => {
            let (buffer, period) = (word(request, 8) as usize, word(request, 12) as usize);
            let polling = word(request, 16) & wire::MSG_POLLING != 0;
            let shape = Shape { buffer, period, frame: 4, rate: 48000, silence: 0, polling };
            if s.configure(shape).is_err() {
                status = 0x8001;
            }
        }
        (wire::PREPARE, Some(s)) => s.set_mode(Mode::Queue),
        (wire::START, Some(s)) => s.start(),
        (wire::STOP, Some(s)) => s.stop(),
        (wire::RELEASE, Some(s)) => drop(s.flush(wire::OK)),
        _ => status = 0x8002,
    }
    Some(wire::words(&[status]))
}

/// Plays as fast as there is something, and records the numbers 0, 1, 2, …
fn pull(streams: &[Arc<Stream>; 2], ending: &AtomicBool, played: &Mutex<Vec<u8>>) {
    let mut frame = 0;
    while !ending.load(SeqCst) {
        if streams[0].is_running() && streams[0].wait(Some(Duration::from_millis(5))) {
            let mut bytes = vec![0; 960];
            // Locked first: the guest knows that a message was played as soon as it was taken.
            let mut played = played.lock().expect("played");
            let n = streams[0].pull_as(&mut bytes, 100, Caller::Worker);
            played.extend_from_slice(&bytes[..n]);
        }
        if streams[1].is_running() && streams[1].wait(Some(Duration::from_millis(5))) {
            let bytes = numbered(frame, 100, 4);
            frame += streams[1].push_as(&bytes, 0, Caller::Worker) as u64 / 4;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
