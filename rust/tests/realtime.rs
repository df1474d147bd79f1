//! An engine's callback, driven by hand between a real guest and a stand-in for libpipewire: every byte in order, and
//! nothing is allocated or freed on the way. Needs feature `rtcheck`.

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use _core::engine::Lent;
use _core::engine::pipewire::{Functions, PipeWirePort, PwBuffer, PwTime, SpaBuffer, SpaChunk, SpaData};
use _core::engine::plain::{PlainPort, transfer};
use _core::engine::realtime::{real_time, rtcheck};
use _core::guest::{Driver, Options, PcmParams, Report, Run, Shape as Layout, Socket, StreamOptions, numbered};
use _core::pcm::clock::{ClockPort, Kind};
use _core::pcm::router::Queues;
use _core::pcm::stream::{Mode, Shape};
use _core::pcm::{Router, Stream};
use _core::vhost::device::{Device, Spec};
use _core::vhost::events::EventQueue;
use _core::vhost::server::Server;
use _core::vhost::{Caller, ring::Ring};

const FRAME: usize = 4;
const PERIOD: usize = 480 * FRAME;
const BUFFER: usize = 4 * PERIOD;
const QUANTUM: usize = 256;
/// Bytes before the audio in the stand-in's buffers, as a resampler leaves them.
const OFFSET: usize = 64;
/// Callbacks that are not counted: the first ones on a thread set its per-thread state up, once.
const WARM_UP: usize = 20;

/// The allocations of all threads are counted together, so one test runs at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A sound device that says OK to every request, and a guest that plays or records on its one stream.
struct Rig {
    stream: Arc<Stream>,
    server: Server,
    driver: Arc<Driver>,
    stop: Arc<AtomicBool>,
    control: Option<JoinHandle<()>>,
    _turn: MutexGuard<'static, ()>,
}

impl Rig {
    fn new(capture: bool) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = Arc::new(Stream::new(0, capture));
        let shape = Shape { buffer: BUFFER, period: PERIOD, frame: FRAME, rate: 48000, silence: 0, polling: false };
        stream.configure(shape).expect("a shape");
        let router = Router::new(vec![stream.clone()], Queues::default()).expect("router");
        let events = Arc::new(EventQueue::new().expect("eventfd"));
        let spec = Spec { queues: 4, features: 0, config: vec![0; 12], device_owned: vec![1] };
        let device = Device::new(spec, events.clone(), Some(router.clone())).expect("device");
        router.bind(&events).expect("router");
        let server = Server::new(device).expect("server");
        let path: PathBuf = std::env::temp_dir().join(format!("vsnd-rt-{}", std::process::id()));
        server.listen(&path, 0o600).expect("socket");
        let stop = Arc::new(AtomicBool::new(false));
        let (ring, ended, pcm) = (server.device().rings()[0].clone(), stop.clone(), stream.clone());
        let control = thread::spawn(move || {
            while !ended.load(Relaxed) {
                answer(&ring, &pcm);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let driver = Driver::connect(Socket::Path(path), Options::default()).expect("guest");
        Rig { stream, server, driver, stop, control: Some(control), _turn: turn }
    }

    fn run(&self, data: Vec<u8>, total: usize) -> Run {
        let (buffer_bytes, period_bytes) = (BUFFER as u32, PERIOD as u32);
        let params = PcmParams { buffer_bytes, period_bytes, features: 0, channels: 2, format: 5, rate: 7 };
        let options = StreamOptions {
            stream: 0,
            capture: self.stream.capture,
            params,
            message_bytes: None,
            shape: Layout::default(),
            starve: None,
            stall: Duration::from_secs(5),
        };
        self.driver.start_stream(options, data, total as u64).expect("start")
    }

    fn port(&self, fake: &mut FakeStream) -> Lent<PipeWirePort> {
        let port = Lent::new(PipeWirePort::new(self.stream.clone(), Functions { dequeue, queue, get_time }));
        port.set_stream((&raw mut *fake).cast());
        port
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.control.take().map(JoinHandle::join);
        let _ = self.driver.close();
        self.server.close();
    }
}

/// OK to what is asked; PREPARE, RELEASE, START and STOP move the stream.
fn answer(ring: &Ring, pcm: &Stream) {
    let mut chains = VecDeque::new();
    if ring.pop(&mut chains, 16, Caller::Worker).is_err() {
        return;
    }
    for chain in chains {
        let mut code = [0; 4];
        let _ = chain.readable().read(&ring.memory(), 0, &mut code);
        match u32::from_le_bytes(code) {
            0x102 => pcm.set_mode(Mode::Queue),
            0x103 => drop(pcm.flush(0x8000)),
            0x104 => pcm.start(),
            0x105 => pcm.stop(),
            _ => {}
        }
        let _ = chain.writable().write(&ring.memory(), 0, &0x8000u32.to_le_bytes());
        ring.complete_one(chain.done(4, 0), true);
    }
}

/// What stands behind the `pw_stream` pointer: one buffer, in turns the port's and the graph's.
struct FakeStream {
    buffer: PwBuffer,
    spa: SpaBuffer,
    data: SpaData,
    chunk: SpaChunk,
    samples: Vec<u8>,
    /// The port may take the buffer.
    free: bool,
    queued: usize,
}

impl FakeStream {
    fn new() -> Box<Self> {
        let null: *mut c_void = std::ptr::null_mut();
        let mut fake = Box::new(FakeStream {
            buffer: PwBuffer { buffer: null.cast(), user_data: null, size: 0, requested: 0 },
            spa: SpaBuffer { n_metas: 0, n_datas: 1, metas: null, datas: null.cast() },
            data: SpaData { kind: 0, flags: 0, fd: -1, mapoffset: 0, maxsize: 0, data: null, chunk: null.cast() },
            chunk: SpaChunk::default(),
            samples: vec![0xAA; 1024 * FRAME],
            free: false,
            queued: 0,
        });
        fake.data.maxsize = fake.samples.len() as u32;
        fake.data.data = fake.samples.as_mut_ptr().cast();
        fake.data.chunk = &raw mut fake.chunk;
        fake.spa.datas = &raw mut fake.data;
        fake.buffer.buffer = &raw mut fake.spa;
        fake
    }

    /// One cycle of a graph that asks for `QUANTUM` frames. Returns what was played.
    fn play(&mut self, port: &Lent<PipeWirePort>) -> &[u8] {
        self.free = true;
        self.buffer.requested = QUANTUM as u64;
        self.call(port);
        &self.samples[..self.chunk.size as usize]
    }

    /// One cycle of a graph that has recorded `part`.
    fn record(&mut self, port: &Lent<PipeWirePort>, part: &[u8]) {
        self.samples[OFFSET..OFFSET + part.len()].copy_from_slice(part);
        self.chunk = SpaChunk { offset: OFFSET as u32, size: part.len() as u32, ..Default::default() };
        self.free = true;
        self.call(port);
    }

    fn call(&mut self, port: &Lent<PipeWirePort>) {
        // SAFETY: the address of a port that lives, on the only thread that calls.
        unsafe { port.process()(port.address() as *mut c_void) };
    }
}

unsafe extern "C" fn dequeue(stream: *mut c_void) -> *mut PwBuffer {
    // SAFETY: only FakeStreams are bound, and they are used by one thread.
    let fake = unsafe { &mut *stream.cast::<FakeStream>() };
    if std::mem::take(&mut fake.free) { &raw mut fake.buffer } else { std::ptr::null_mut() }
}

unsafe extern "C" fn queue(stream: *mut c_void, _: *mut PwBuffer) -> c_int {
    // SAFETY: as above.
    unsafe { (*stream.cast::<FakeStream>()).queued += 1 };
    0
}

/// 10 ms of a 48 kHz graph, and 100 frames inside of the stream.
const DELAY_FRAMES: usize = 580;

unsafe extern "C" fn get_time(_: *mut c_void, time: *mut PwTime, size: usize) -> c_int {
    assert_eq!(size, size_of::<PwTime>());
    let now = PwTime { rate_num: 1, rate_denom: 48000, delay: 480, queued: 60, buffered: 40, ..Default::default() };
    // SAFETY: the port's own pw_time.
    unsafe { *time = now };
    0
}

/// Let the guest stop: its last messages are given back while the engine runs.
fn end(port: &Lent<PipeWirePort>, fake: &mut FakeStream, run: Run) -> Report {
    let waiting = thread::spawn(move || run.wait().expect("report"));
    while !waiting.is_finished() {
        fake.play(port);
        thread::sleep(Duration::from_micros(200));
    }
    port.set_stream(std::ptr::null_mut());
    waiting.join().expect("the guest's thread")
}

#[test]
fn a_playing_callback_allocates_nothing_and_loses_nothing() {
    let rig = Rig::new(false);
    let sent = numbered(1, 96_000, FRAME);
    let run = rig.run(sent.clone(), sent.len());
    let mut fake = FakeStream::new();
    let port = rig.port(&mut fake);
    let mut heard = Vec::new();
    let mut before = rtcheck::counts();
    for i in 0.. {
        if i == WARM_UP {
            before = rtcheck::counts();
        }
        heard.extend_from_slice(fake.play(&port));
        if rig.stream.stats.bytes.load(Relaxed) as usize == sent.len() {
            break;
        }
        assert!(i < 100_000, "the guest's audio does not arrive");
        thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(rtcheck::counts(), before, "allocations and frees inside of callbacks");
    assert_eq!((fake.buffer.size, fake.chunk.stride), (QUANTUM as u64, FRAME as i32));
    assert_eq!(port.delay_frames(), DELAY_FRAMES as i64);

    let report = end(&port, &mut fake, run);
    // Silence where the guest was late; its own frames are numbered from 1 on.
    let frames: Vec<u8> = heard.chunks(FRAME).filter(|f| f.iter().any(|b| *b != 0)).flatten().copied().collect();
    assert!(frames == sent, "{} bytes of {} were heard, or out of order", frames.len(), sent.len());
    // How long until its last byte is heard: the engine's delay, and where in the buffer it lies.
    let (least, most) = (DELAY_FRAMES * FRAME, (DELAY_FRAMES + QUANTUM) * FRAME);
    assert!(report.messages.iter().all(|m| (least..=most).contains(&(m.latency_bytes as usize))));
}

#[test]
fn a_recording_callback_allocates_nothing_and_keeps_the_order() {
    let rig = Rig::new(true);
    let run = rig.run(Vec::new(), 20_000 * FRAME);
    let mut fake = FakeStream::new();
    let port = rig.port(&mut fake);
    let mut before = rtcheck::counts();
    for (i, part) in numbered(1, 96_000, FRAME).chunks_exact(QUANTUM * FRAME).enumerate() {
        if i == WARM_UP {
            before = rtcheck::counts();
        }
        fake.record(&port, part);
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(rtcheck::counts(), before, "allocations and frees inside of callbacks");
    let recorded = run.wait().expect("report").recorded;
    port.set_stream(std::ptr::null_mut());
    let numbers: Vec<u32> = recorded.as_chunks().0.iter().map(|n| u32::from_le_bytes(*n)).collect();
    assert!(numbers.len() >= 20_000, "{} frames were recorded", numbers.len());
    // A guest that is late loses some, but nothing is doubled or turned round.
    assert!(numbers.windows(2).all(|n| n[0] < n[1]), "frames are doubled or out of order");
}

/// More than the guest's buffer of four periods bears, which is three.
const LARGE: usize = 1600;

#[test]
fn a_callback_that_is_read_ahead_for_allocates_nothing_and_loses_nothing() {
    let rig = Rig::new(false);
    let clock = ClockPort::new(rig.stream.clone(), Kind::StandIn);
    clock.start();
    let sent = numbered(1, 48_000, FRAME);
    let run = rig.run(sent.clone(), sent.len());
    let port = Lent::new(PlainPort::new(rig.stream.clone()));
    let (mut heard, mut part) = (Vec::new(), vec![0_u8; LARGE * FRAME]);
    let (mut before, mut full) = (rtcheck::counts(), 0);
    for i in 0..1000 {
        if i == 5 {
            before = rtcheck::counts();
        }
        // SAFETY: a live port; the buffer is ours.
        let got = unsafe { transfer(port.address() as *mut c_void, part.as_mut_ptr().cast(), part.len() as _, 0) };
        heard.extend_from_slice(&part[..usize::try_from(got).expect("a count of bytes")]);
        if heard.len() >= sent.len() {
            break;
        }
        // Until there is a whole turn, or as long as an engine can wait before the clock stands in for it.
        for _ in 0..60 {
            thread::sleep(Duration::from_millis(1));
            if rig.stream.ahead_bytes() >= part.len() {
                full += 1;
                break;
            }
        }
    }
    assert_eq!(rtcheck::counts(), before, "allocations and frees inside of callbacks");
    assert!(full > 10, "{full} turns were read ahead whole");
    assert!(heard == sent, "{} bytes of {} were heard, or out of order", heard.len(), sent.len());
    clock.close();
    port.take_back();
    run.stop(true).expect("report");
}

#[test]
fn the_check_sees_an_allocation() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let before = rtcheck::counts();
    drop(Box::new(1));
    assert_eq!(rtcheck::counts(), before, "outside of a callback");
    real_time(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(rtcheck::counts(), (before.0 + 1, before.1 + 1));
}

#[test]
fn a_callback_that_is_not_bound_touches_nothing() {
    let rig = Rig::new(false);
    let mut fake = FakeStream::new();
    let port = rig.port(&mut fake);
    assert!(fake.play(&port).iter().all(|b| *b == 0), "nobody plays, so it is silent");
    assert_eq!((port.calls(), fake.queued), (1, 1));
    port.set_stream(std::ptr::null_mut());
    fake.play(&port);
    assert_eq!((port.calls(), fake.queued, fake.free), (2, 1, true));
}

#[test]
fn the_plain_port_fills_what_the_guest_does_not_give_with_silence() {
    let rig = Rig::new(false);
    let sent = numbered(1, 5000, FRAME);
    let run = rig.run(sent.clone(), sent.len());
    let port = Lent::new(PlainPort::new(rig.stream.clone()));
    let mut heard = Vec::new();
    let mut calls = 0;
    while heard.len() < sent.len() {
        calls += 1;
        assert!(calls < 100_000, "the guest's audio does not arrive");
        let mut part = vec![0xAA_u8; 100 * FRAME];
        // SAFETY: a live port; the buffer is ours.
        let got = unsafe { transfer(port.address() as *mut c_void, part.as_mut_ptr().cast(), part.len() as _, 0) };
        let got = usize::try_from(got).expect("a count of bytes");
        assert!(part[got..].iter().all(|b| *b == 0), "what follows is silence");
        heard.extend_from_slice(&part[..got]);
        thread::sleep(Duration::from_micros(200));
    }
    assert!(heard == sent);
    port.take_back();
    run.stop(true).expect("report");
}
