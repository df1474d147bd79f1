//! A plain C function that moves a stream's bytes: for every engine whose callback is C and needs nothing else.

use std::ffi::{c_long, c_ulong, c_void};
use std::slice;
use std::sync::Arc;

use crate::pcm::Stream;
use crate::realtime::real_time;

/// What the `context` of [`transfer`] points to.
pub struct PlainPort {
    stream: Arc<Stream>,
    /// As they were when the engine was set up: a new SET_PARAMS comes only after it was closed.
    frame_bytes: usize,
    silence: u8,
}

impl PlainPort {
    /// For a stream that is configured.
    pub fn new(stream: Arc<Stream>) -> Self {
        let (frame_bytes, silence) = (stream.frame_bytes(), stream.silence());
        Self { stream, frame_bytes, silence }
    }

    /// # Safety
    /// `data` is null or `bytes` bytes that nobody else uses now (for a capture stream: that nobody writes).
    unsafe fn transfer(&self, data: *mut c_void, bytes: usize, delay_bytes: usize) -> usize {
        if data.is_null() || bytes > isize::MAX as usize {
            return 0;
        }
        let whole = bytes - bytes % self.frame_bytes;
        if self.stream.capture {
            // SAFETY: the contract.
            let src = unsafe { slice::from_raw_parts(data.cast::<u8>(), whole) };
            return self.stream.push(src, delay_bytes);
        }
        // SAFETY: the contract. Writing first makes every byte of it initialised.
        let dst = unsafe {
            data.cast::<u8>().write_bytes(self.silence, bytes);
            slice::from_raw_parts_mut(data.cast::<u8>(), whole)
        };
        self.stream.pull(dst, delay_bytes)
    }
}

/// Playback fills `data` (what the guest did not give is silence), capture takes it. Returns the guest's bytes.
///
/// # Safety
/// `context` is a live [`PlainPort`]; `data` is null or `bytes` bytes that nobody else uses during the call.
pub unsafe extern "C" fn transfer(
    context: *mut c_void,
    data: *mut c_void,
    bytes: c_ulong,
    delay_bytes: c_ulong,
) -> c_long {
    // SAFETY: the contract. A panic ends the process at this boundary instead of unwinding into C.
    real_time(|| unsafe {
        (*context.cast::<PlainPort>()).transfer(data, bytes as usize, delay_bytes as usize) as c_long
    })
}
