//! The event queue: buffers for the device to fill, and what it told.

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::error::{GuestError, Result};
use super::layout::Piece;
use super::memory::GuestRam;
use super::poll::{monotonic_ns, wait_or_hangup};
use super::queue::Kick;
use super::shared::SharedQueue;
use super::wire;

/// A notification of the device (virtio 1.3, 5.14.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub code: u32,
    /// Jack, stream or control it concerns; for CTL_NOTIFY the mask is in the upper half.
    pub data: u32,
    /// Bytes that the device says it wrote.
    pub used_len: u32,
    /// CLOCK_MONOTONIC when it was taken from the ring.
    pub time_ns: u64,
}

#[derive(Default)]
struct Inbox {
    // buffer address of each head
    buffers: Vec<u64>,
    log: Vec<Event>,
    xruns: Vec<u64>,
}

/// Takes events and gives the buffers back, as Linux does in its interrupt.
pub(crate) struct EventQueue {
    queue: Arc<SharedQueue>,
    ram: Arc<GuestRam>,
    inbox: Mutex<Inbox>,
    // tells one who waits that another thread took an event
    arrived: EventFd,
}

impl EventQueue {
    pub fn new(queue: Arc<SharedQueue>, ram: Arc<GuestRam>) -> Result<Self> {
        let arrived = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(GuestError::system("eventfd"))?;
        Ok(EventQueue { queue, ram, inbox: Mutex::default(), arrived })
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Fill the ring with buffers; published without a kick, as Linux does before DRIVER_OK.
    pub fn fill(&self) -> Result<()> {
        let mut inbox = self.inbox();
        let mut queue = self.queue.lock();
        let size = queue.size();
        inbox.buffers = vec![0; size.into()];
        let all = self.ram.alloc(u64::from(size) * 8, 16)?;
        for i in 0..u64::from(size) {
            let piece = Piece { addr: all + 8 * i, len: wire::EVENT_BYTES, writable: true };
            let head = queue.reserve(&[piece], false)?;
            inbox.buffers[usize::from(head)] = piece.addr;
            queue.offer(head);
        }
        queue.publish(Kick::Never);
        Ok(())
    }

    pub fn filled(&self) -> bool {
        !self.inbox().buffers.is_empty()
    }

    /// The queue's call eventfd and the queue are needed to wait for events beside other things.
    pub fn queue(&self) -> &SharedQueue {
        &self.queue
    }

    /// Take what is there. Does nothing if the ring was not filled here.
    pub fn collect(&self) {
        let mut inbox = self.inbox();
        if inbox.buffers.is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        queue.take_signals();
        let before = inbox.log.len();
        loop {
            while let Some(used) = queue.reap() {
                let mut bytes = [0u8; 8];
                let at = inbox.buffers.get(used.head as usize).copied().unwrap_or(0);
                if !used.known || self.ram.read_into(at, &mut bytes).is_err() {
                    continue;
                }
                let [a, b, c, d, e, f, g, h] = bytes;
                let event = Event {
                    code: u32::from_le_bytes([a, b, c, d]),
                    data: u32::from_le_bytes([e, f, g, h]),
                    used_len: used.len,
                    time_ns: monotonic_ns(),
                };
                if event.code == wire::EVT_PCM_XRUN {
                    let id = event.data as usize;
                    if id < 256 && inbox.xruns.len() <= id {
                        inbox.xruns.resize(id + 1, 0);
                    }
                    if let Some(n) = inbox.xruns.get_mut(id) {
                        *n += 1;
                    }
                }
                inbox.log.push(event);
                queue.offer(used.head as u16);
            }
            queue.arm(1);
            if queue.pending() == 0 {
                break;
            }
        }
        if inbox.log.len() > before {
            queue.publish(Kick::Asked);
            // At its limit the counter is readable anyway.
            let _ = self.arrived.write(1);
        }
    }

    /// Events since the last call.
    pub fn take(&self) -> Vec<Event> {
        self.collect();
        std::mem::take(&mut self.inbox().log)
    }

    /// XRUN events of a stream since the connection was made.
    pub fn xruns(&self, stream: u32) -> u64 {
        self.collect();
        self.inbox().xruns.get(stream as usize).copied().unwrap_or(0)
    }

    /// Wait until there is an event to `take`.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let end = Instant::now().checked_add(timeout);
        loop {
            self.collect();
            if !self.inbox().log.is_empty() {
                return Ok(true);
            }
            if end.is_some_and(|e| Instant::now() >= e) {
                return Ok(false);
            }
            let call = self.queue.call();
            let fds = [call.as_raw_fd(), self.arrived.as_raw_fd()];
            let (_, gone) = wait_or_hangup(&fds, self.queue.socket_fd(), end)?;
            let _ = self.arrived.read();
            self.collect();
            if gone && self.inbox().log.is_empty() {
                return Err(GuestError::Disconnected("while an event was awaited".into()));
            }
        }
    }
}
