//! Sound requests on the control queue, as Linux sends them (virtio 1.3, 5.14.6).

use std::time::Instant;

use super::error::{GuestError, Result};
use super::layout::{Piece, Shape};
use super::queue::Kick;
use super::sound::Driver;
use super::wire;

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The bytes that the device says it wrote, at most the room that it had.
    pub bytes: Vec<u8>,
    /// The used length.
    pub used_len: u32,
    /// From the offer to the completion, as the driver sees it.
    pub ns: u64,
}

impl Reply {
    /// The status (virtio_snd_hdr); 0 if there is none.
    pub fn status(&self) -> u32 {
        self.bytes.first_chunk().map_or(0, |b| u32::from_le_bytes(*b))
    }
}

/// The parameters of a PCM stream as codes of the specification (5.14.6.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcmParams {
    pub buffer_bytes: u32,
    pub period_bytes: u32,
    pub features: u32,
    pub channels: u8,
    pub format: u8,
    pub rate: u8,
}

impl Driver {
    /// Send a request and wait for its answer. The writable part is a header of 4 bytes and the rest apart, as with Linux.
    pub fn request(&self, request: &[u8], reply_bytes: u32) -> Result<Reply> {
        let shape = Shape { indirect: self.indirect(), ..Shape::default() };
        self.request_shaped(request, reply_bytes, &shape)
    }

    /// As `request`, cut as wanted.
    pub fn request_shaped(&self, request: &[u8], reply_bytes: u32, shape: &Shape) -> Result<Reply> {
        // One at a time: the queue's completions belong to the request that waits.
        let _turn = self.control.lock().unwrap_or_else(|e| e.into_inner());
        let len = request.len() as u64;
        let asked = self.ram.alloc(len, 16)?;
        let answer = match self.ram.alloc(reply_bytes.into(), 16) {
            Ok(at) => at,
            Err(e) => {
                self.ram.free(asked, len);
                return Err(e);
            }
        };
        self.ram.write(asked, request)?;
        self.ram.write(answer, &vec![0; reply_bytes as usize])?;
        let header = reply_bytes.min(4);
        let areas = [
            Piece { addr: asked, len: request.len() as u32, writable: false },
            Piece { addr: answer, len: header, writable: true },
            Piece { addr: answer + u64::from(header), len: reply_bytes - header, writable: true },
        ];
        let reply = self.exchange(request, &shape.cut(&areas), shape.indirect && self.indirect(), answer, reply_bytes);
        // What the device did not give back it may still write to.
        if !matches!(reply, Err(GuestError::Timeout { .. })) {
            self.ram.free(asked, len);
            self.ram.free(answer, reply_bytes.into());
        }
        reply
    }

    fn exchange(&self, request: &[u8], pieces: &[Piece], indirect: bool, answer: u64, room: u32) -> Result<Reply> {
        let control = &self.queues[wire::CONTROL];
        let begin = Instant::now();
        let head = {
            let mut queue = control.lock();
            let head = queue.push(pieces, indirect)?;
            queue.arm(1);
            queue.publish(Kick::Asked);
            head
        };
        let end = begin + self.options.request_timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if !control.wait(1, left)? {
                let code = request.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
                let what = wire::request_name(code);
                return Err(GuestError::Timeout { what, seconds: self.options.request_timeout.as_secs_f64() });
            }
            let ns = begin.elapsed().as_nanos() as u64;
            // Answers to requests that were given up before come first.
            while let Some(used) = control.lock().reap() {
                if used.head == u32::from(head) {
                    let bytes = self.ram.read(answer, used.len.min(room) as usize)?;
                    return Ok(Reply { bytes, used_len: used.len, ns });
                }
            }
        }
    }

    /// An INFO request for `count` items of `size` bytes from `start` on; returns status and items.
    pub fn info(&self, code: u32, start: u32, count: u32, size: u32) -> Result<(u32, Vec<u8>)> {
        let bytes = count.saturating_mul(size).min(1 << 20);
        let reply = self.request(&wire::words(&[code, start, count, size]), 4 + bytes)?;
        Ok((reply.status(), reply.bytes.get(4..).unwrap_or_default().to_vec()))
    }

    /// PREPARE, RELEASE, START or STOP; returns the status.
    pub fn pcm_command(&self, code: u32, stream: u32) -> Result<u32> {
        Ok(self.request(&wire::words(&[code, stream]), 4)?.status())
    }

    /// SET_PARAMS; returns the status.
    pub fn set_params(&self, stream: u32, p: &PcmParams) -> Result<u32> {
        let mut bytes = wire::words(&[wire::SET_PARAMS, stream, p.buffer_bytes, p.period_bytes, p.features]);
        bytes.extend([p.channels, p.format, p.rate, 0]);
        Ok(self.request(&bytes, 4)?.status())
    }

    /// A request that must succeed for a stream to go on.
    pub(crate) fn must(&self, code: u32, stream: u32) -> Result<()> {
        accepted(code, stream, self.pcm_command(code, stream)?)
    }
}

/// An error unless `status` is OK.
pub(crate) fn accepted(code: u32, stream: u32, status: u32) -> Result<()> {
    if status == wire::OK {
        return Ok(());
    }
    let what = format!("{} of stream {stream}", wire::request_name(code));
    Err(GuestError::Refused { what, status: wire::status_name(status) })
}
