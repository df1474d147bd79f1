//! Every native port, called as its engine calls it, on a thread of its own; and what stands in for libpipewire.

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use _core::engine::Lent;
use _core::engine::pipewire::{Functions, PipeWirePort, PwBuffer, PwTime, SpaBuffer, SpaChunk, SpaData};
use _core::engine::plain::{PlainPort, transfer};
use _core::pcm::Stream;

pub const FRAME: usize = 4;
pub const QUANTUM: usize = 256;
/// Bytes before the audio in the stand-in's buffers, as a resampler leaves them.
const OFFSET: usize = 64;
/// 10 ms of a 48 kHz graph, and 100 frames inside of the stream.
pub const DELAY_FRAMES: usize = 580;

/// What stands behind the `pw_stream` pointer: one buffer, in turns the port's and the graph's.
pub struct FakeStream {
    pub buffer: PwBuffer,
    spa: SpaBuffer,
    data: SpaData,
    pub chunk: SpaChunk,
    samples: Vec<u8>,
    /// The port may take the buffer.
    pub free: bool,
    pub queued: usize,
}

// SAFETY: the pointers in it are to itself, and one thread at a time uses it.
unsafe impl Send for FakeStream {}

impl FakeStream {
    pub fn new() -> Box<Self> {
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
    pub fn play(&mut self, port: &Lent<PipeWirePort>) -> &[u8] {
        self.free = true;
        self.buffer.requested = QUANTUM as u64;
        self.call(port);
        &self.samples[..self.chunk.size as usize]
    }

    /// One cycle of a graph that has recorded `part`.
    pub fn record(&mut self, port: &Lent<PipeWirePort>, part: &[u8]) {
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

unsafe extern "C" fn get_time(_: *mut c_void, time: *mut PwTime, size: usize) -> c_int {
    assert_eq!(size, size_of::<PwTime>());
    let now = PwTime { rate_num: 1, rate_denom: 48000, delay: 480, queued: 60, buffered: 40, ..Default::default() };
    // SAFETY: the port's own pw_time.
    unsafe { *time = now };
    0
}

/// A port of PipeWire's that is bound to `fake`.
pub fn pipewire(stream: &Arc<Stream>, fake: &mut FakeStream) -> Lent<PipeWirePort> {
    let port = Lent::new(PipeWirePort::new(stream.clone(), Functions { dequeue, queue, get_time }));
    port.set_stream((&raw mut *fake).cast());
    port
}

/// Which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    PipeWire,
    Plain,
}

enum Port {
    PipeWire(Lent<PipeWirePort>, Box<FakeStream>),
    Plain(Lent<PlainPort>),
}

impl Port {
    /// One callback: playback fills `data`, capture takes it.
    fn turn(&mut self, capture: bool, data: &mut [u8]) {
        match self {
            Port::PipeWire(port, fake) if capture => fake.record(port, data),
            Port::PipeWire(port, fake) => data.copy_from_slice(fake.play(port)),
            Port::Plain(port) => {
                let (context, n) = (port.address() as *mut c_void, data.len());
                // SAFETY: a live port; the buffer is ours.
                let moved = unsafe { transfer(context, data.as_mut_ptr().cast(), n as _, 0) };
                assert!((0..=n as i64).contains(&moved), "{moved} of {n} bytes");
            }
        }
    }
}

/// An engine's thread: it calls its port from its first moment on, which is when per-thread state would be allocated.
pub struct EngineThread {
    quit: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<u8>>>,
}

impl EngineThread {
    pub fn new(kind: Kind, stream: &Arc<Stream>) -> Self {
        let quit = Arc::new(AtomicBool::new(false));
        let (stream, ended) = (stream.clone(), quit.clone());
        let mut port = match kind {
            Kind::PipeWire => {
                let mut fake = FakeStream::new();
                Port::PipeWire(pipewire(&stream, &mut fake), fake)
            }
            Kind::Plain => Port::Plain(Lent::new(PlainPort::new(stream.clone()))),
        };
        let thread = std::thread::spawn(move || {
            let (mut data, mut heard, mut number) = (vec![0; QUANTUM * FRAME], Vec::new(), 0_u32);
            while !ended.load(Relaxed) {
                if stream.capture {
                    for frame in data.chunks_exact_mut(FRAME) {
                        number += 1;
                        frame.copy_from_slice(&number.to_le_bytes());
                    }
                }
                port.turn(stream.capture, &mut data);
                if !stream.capture {
                    heard.extend_from_slice(&data);
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            if let Port::PipeWire(port, _) = &port {
                port.set_stream(std::ptr::null_mut());
            }
            heard
        });
        EngineThread { quit, thread: Some(thread) }
    }

    /// Stop it; what it heard, silence left out: frames are numbered from 1 on.
    pub fn stop(mut self) -> Vec<u32> {
        self.quit.store(true, Relaxed);
        numbers(&self.thread.take().expect("running").join().expect("the engine's thread"))
    }
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        self.quit.store(true, Relaxed);
    }
}

/// Frames as numbers, without silence.
pub fn numbers(bytes: &[u8]) -> Vec<u32> {
    let frames = bytes.as_chunks().0.iter().map(|n| u32::from_le_bytes(*n));
    frames.filter(|n| *n != 0).collect()
}
