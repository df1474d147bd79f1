//! I/O messages (virtio 1.3, 5.14.6.8): whose they are, and how they are given back.

use super::wire::{S_IO_ERR, STATUS_SIZE, XFER_SIZE};
use crate::vhost::Mem;
use crate::vhost::chain::{Chain, Done};

/// The stream that a message names, if it has a whole header and room for a status.
pub fn stream_of(mem: &Mem, chain: &Chain) -> Option<u32> {
    if chain.malformed || chain.writable().len() < STATUS_SIZE {
        return None;
    }
    let mut header = [0; XFER_SIZE];
    let read = chain.readable().read(mem, 0, &mut header);
    read.ok().map(|()| u32::from_le_bytes(header))
}

/// Write the status at the end of the writable part. `data`: bytes recorded, `payload`: bytes that the message stood for.
pub fn finish(mem: &Mem, chain: &Chain, data: usize, payload: usize, status: u32, latency: usize) -> Done {
    let mut b = [0; STATUS_SIZE];
    b[..4].copy_from_slice(&status.to_le_bytes());
    b[4..].copy_from_slice(&u32::try_from(latency).unwrap_or(u32::MAX).to_le_bytes());
    let len = match chain.writable().len().checked_sub(STATUS_SIZE) {
        Some(at) if chain.writable().write(mem, at, &b).is_ok() => data + STATUS_SIZE,
        _ => 0,
    };
    chain.done(len, payload)
}

/// Refuse a message that belongs to no stream.
pub fn refuse(mem: &Mem, chain: &Chain) -> Done {
    finish(mem, chain, 0, 0, S_IO_ERR, 0)
}
