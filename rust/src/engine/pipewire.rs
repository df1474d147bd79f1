//! PipeWire's process callbacks: straight between a `pw_buffer` and the guest's memory.

use std::ffi::{c_int, c_void};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU64, Ordering::*};

use crate::pcm::Stream;
use crate::realtime::real_time;

/// `struct spa_chunk`: where in a data block the audio is.
#[repr(C)]
#[derive(Debug, Default)]
pub struct SpaChunk {
    pub offset: u32,
    pub size: u32,
    pub stride: i32,
    pub flags: i32,
}

/// `struct spa_data`: a data block, mapped because the stream asks for MAP_BUFFERS.
#[repr(C)]
#[derive(Debug)]
pub struct SpaData {
    pub kind: u32,
    pub flags: u32,
    pub fd: i64,
    pub mapoffset: u32,
    pub maxsize: u32,
    pub data: *mut c_void,
    pub chunk: *mut SpaChunk,
}

/// `struct spa_buffer`. Interleaved audio has one data block.
#[repr(C)]
#[derive(Debug)]
pub struct SpaBuffer {
    pub n_metas: u32,
    pub n_datas: u32,
    pub metas: *mut c_void,
    pub datas: *mut SpaData,
}

/// `struct pw_buffer`, as far as every PipeWire since 0.3.49 has it (`time` came in 1.0.5).
#[repr(C)]
#[derive(Debug)]
pub struct PwBuffer {
    pub buffer: *mut SpaBuffer,
    pub user_data: *mut c_void,
    pub size: u64,
    pub requested: u64,
}

/// `struct pw_time`. `size` came in 1.1.0; older libraries leave it 0.
#[repr(C)]
#[derive(Debug, Default)]
pub struct PwTime {
    pub now: i64,
    pub rate_num: u32,
    pub rate_denom: u32,
    pub ticks: u64,
    pub delay: i64,
    pub queued: u64,
    pub buffered: u64,
    pub queued_buffers: u32,
    pub avail_buffers: u32,
    pub size: u64,
}

/// `pw_stream_dequeue_buffer`.
pub type Dequeue = unsafe extern "C" fn(*mut c_void) -> *mut PwBuffer;
/// `pw_stream_queue_buffer`.
pub type Queue = unsafe extern "C" fn(*mut c_void, *mut PwBuffer) -> c_int;
/// `pw_stream_get_time_n`.
pub type GetTime = unsafe extern "C" fn(*mut c_void, *mut PwTime, usize) -> c_int;

/// The functions of libpipewire that a process callback calls.
#[derive(Clone, Copy, Debug)]
pub struct Functions {
    pub dequeue: Dequeue,
    pub queue: Queue,
    pub get_time: GetTime,
}

/// What the `userdata` of the process callbacks points to.
pub struct PipeWirePort {
    pcm: Arc<Stream>,
    functions: Functions,
    /// As they were when the engine was set up: a new SET_PARAMS comes only after it was closed.
    frame_bytes: usize,
    rate: u32,
    silence: u8,
    /// The pw_stream; null: do nothing.
    stream: AtomicPtr<c_void>,
    /// A callback is under way.
    inside: AtomicBool,
    calls: AtomicU64,
    delay_frames: AtomicI64,
    quantum_frames: AtomicU64,
}

impl PipeWirePort {
    /// For a stream that is configured. Nothing is touched before [`PipeWirePort::set_stream`].
    pub fn new(pcm: Arc<Stream>, functions: Functions) -> Self {
        let (frame_bytes, rate, silence) = (pcm.frame_bytes(), pcm.rate(), pcm.silence());
        Self {
            pcm,
            functions,
            frame_bytes,
            rate,
            silence,
            stream: AtomicPtr::default(),
            inside: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            delay_frames: AtomicI64::new(0),
            quantum_frames: AtomicU64::new(0),
        }
    }

    /// Binds the `pw_stream`, or (null) unbinds it: when this returns no callback touches the PCM stream any more.
    pub fn set_stream(&self, stream: *mut c_void) {
        self.stream.store(stream, SeqCst);
        while stream.is_null() && self.inside.load(SeqCst) {
            std::thread::yield_now();
        }
    }

    /// The callback for `pw_stream_events.process`.
    pub fn process(&self) -> unsafe extern "C" fn(*mut c_void) {
        if self.pcm.capture { input_process } else { output_process }
    }

    /// Callbacks so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// The engine's latency at the last callback.
    pub fn delay_frames(&self) -> i64 {
        self.delay_frames.load(Relaxed)
    }

    /// The largest transfer of one callback.
    pub fn quantum_frames(&self) -> u64 {
        self.quantum_frames.load(Relaxed)
    }

    /// One callback: runs `f` with the stream, if it is bound.
    fn callback(&self, f: impl FnOnce(*mut c_void)) {
        self.calls.fetch_add(1, Relaxed);
        // Either this store is seen by who unbinds, or the unbinding is seen here.
        self.inside.store(true, SeqCst);
        let stream = self.stream.load(SeqCst);
        if !stream.is_null() {
            f(stream);
        }
        self.inside.store(false, Release);
    }

    /// Bytes between the next frame that is handed over and the ear, or the microphone and the first frame of the next buffer.
    ///
    /// # Safety
    /// `stream` is a live `pw_stream`, on its data thread.
    unsafe fn delay_bytes(&self, stream: *mut c_void) -> usize {
        let mut time = PwTime::default();
        // SAFETY: `time` is a pw_time of the size that is named.
        let rc = unsafe { (self.functions.get_time)(stream, &mut time, size_of::<PwTime>()) };
        if rc < 0 || time.rate_denom == 0 {
            return 0;
        }
        // `delay` counts graph ticks, `queued` what was put into `pw_buffer.size`, `buffered` stream frames.
        let ticks = time.delay.saturating_mul(i64::from(time.rate_num));
        let delay = ticks.saturating_mul(i64::from(self.rate)) / i64::from(time.rate_denom);
        let inside = time.queued.saturating_add(time.buffered);
        let frames = delay.saturating_add_unsigned(inside).max(0);
        self.delay_frames.store(frames, Relaxed);
        (frames as usize).saturating_mul(self.frame_bytes)
    }

    /// # Safety
    /// `stream` is a live `pw_stream`, on its data thread.
    unsafe fn output(&self, stream: *mut c_void) {
        // SAFETY: a buffer and what it points to are ours until it is queued; `maxsize` is the length of `data`.
        unsafe {
            let ahead = self.delay_bytes(stream);
            let buffer = (self.functions.dequeue)(stream);
            if buffer.is_null() {
                return;
            }
            let data = &*(*(*buffer).buffer).datas;
            let room = match data.data.is_null() {
                true => 0,
                false => data.maxsize as usize / self.frame_bytes,
            };
            // A stream that is resampled asks for just what the graph's quantum needs.
            let frames = match (*buffer).requested {
                0 => room,
                requested => room.min(requested as usize),
            };
            let bytes = frames * self.frame_bytes;
            if frames > 0 {
                data.data.cast::<u8>().write_bytes(self.silence, bytes);
                let dst = slice::from_raw_parts_mut(data.data.cast::<u8>(), bytes);
                self.pcm.pull(dst, ahead);
            }
            *data.chunk = SpaChunk { offset: 0, size: bytes as u32, stride: self.frame_bytes as i32, flags: 0 };
            // `queued` of the next pw_time counts these.
            (*buffer).size = frames as u64;
            self.quantum_frames.fetch_max(frames as u64, Relaxed);
            (self.functions.queue)(stream, buffer);
        }
    }

    /// # Safety
    /// `stream` is a live `pw_stream`, on its data thread.
    unsafe fn input(&self, stream: *mut c_void) {
        // SAFETY: as in `output`; offset and size are the other side's and are cut to `maxsize`.
        unsafe {
            let delay = self.delay_bytes(stream);
            loop {
                let buffer = (self.functions.dequeue)(stream);
                if buffer.is_null() {
                    return;
                }
                let data = &*(*(*buffer).buffer).datas;
                if !data.data.is_null() {
                    let maxsize = data.maxsize as usize;
                    let offset = ((*data.chunk).offset as usize).min(maxsize);
                    let size = ((*data.chunk).size as usize).min(maxsize - offset);
                    let frames = size / self.frame_bytes;
                    let from = slice::from_raw_parts(data.data.cast::<u8>().add(offset), frames * self.frame_bytes);
                    // PipeWire tells how old the first frame is, which cannot be less than the buffer lasts.
                    self.pcm.push(from, delay.saturating_sub(from.len()));
                    self.quantum_frames.fetch_max(frames as u64, Relaxed);
                }
                (self.functions.queue)(stream, buffer);
            }
        }
    }
}

/// `pw_stream_events.process` of a playback stream.
///
/// # Safety
/// `data` is a live [`PipeWirePort`]; called on the stream's data thread.
unsafe extern "C" fn output_process(data: *mut c_void) {
    // SAFETY: the contract. A panic ends the process at this boundary instead of unwinding into C.
    real_time(|| unsafe {
        let port = &*data.cast::<PipeWirePort>();
        port.callback(|stream| port.output(stream));
    });
}

/// `pw_stream_events.process` of a capture stream.
///
/// # Safety
/// `data` is a live [`PipeWirePort`]; called on the stream's data thread.
unsafe extern "C" fn input_process(data: *mut c_void) {
    // SAFETY: as above.
    real_time(|| unsafe {
        let port = &*data.cast::<PipeWirePort>();
        port.callback(|stream| port.input(stream));
    });
}
