//! One PCM stream at work, as Linux's virtio_snd does it: a buffer of periods, a message for each, offered again on completion.
//!
//! Here is what happens to messages; `pump` is the interrupt that calls it, `player` the application above.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::Result;
use super::layout::{Piece, Shape};
use super::memory::GuestRam;
use super::poll::monotonic_ns;
use super::queue::{Kick, Queue};
use super::wire::{STATUS_BYTES, XFER_BYTES};

/// What became of one message. Times are CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Bytes of sound in it, or room for them.
    pub bytes: u32,
    pub queued_ns: u64,
    /// 0: it never came back.
    pub done_ns: u64,
    pub status: u32,
    pub latency_bytes: u32,
    pub used_len: u32,
}

/// A stream that is starved in the middle: nothing is offered for a while.
#[derive(Clone, Copy, Debug)]
pub struct Starve {
    pub after_bytes: u64,
    pub pause: Duration,
}

/// How a transfer goes about it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub stream: u32,
    pub capture: bool,
    pub buffer_bytes: u32,
    pub message_bytes: u32,
    /// Bytes to play or to record in all.
    pub total_bytes: u64,
    pub shape: Shape,
    /// MSG_POLLING: never kick.
    pub polling: bool,
    pub starve: Option<Starve>,
}

struct Slot {
    header: u64,
    status: u64,
    data: u64,
    // position in `messages` while the device has it
    message: usize,
}

/// A running transfer; all of it under the pump's lock.
pub(crate) struct Transfer {
    pub id: u64,
    plan: Plan,
    ram: Arc<GuestRam>,
    area: (u64, u64),
    slots: Vec<Slot>,
    free: VecDeque<u16>,
    source: Vec<u8>,
    pub messages: Vec<Message>,
    pub recorded: Vec<u8>,
    /// Bytes offered so far.
    pub offered: u64,
    /// Messages that came back.
    pub done: usize,
    /// When the last message came back, or nothing was to be expected.
    pub moved_at: Instant,
    resume_at: Option<Instant>,
    starved: bool,
    /// It is being ended: nothing more is offered.
    pub stopped: bool,
    /// The application writes nothing for now.
    pub idle: bool,
    /// The device was told to pause.
    pub paused: bool,
    /// Cut off: by what.
    pub aborted: Option<String>,
}

/// Header, status: each in a line of its own.
const SLOT_BYTES: u64 = 64;
const STATUS_OFFSET: u64 = 32;

impl Transfer {
    pub fn new(id: u64, plan: Plan, source: Vec<u8>, ram: Arc<GuestRam>) -> Result<Self> {
        let n = (plan.buffer_bytes / plan.message_bytes).max(1);
        // Pages of their own, as ALSA's buffers have: the same chain is cut the same way each time round.
        let buffer = (u64::from(n) * u64::from(plan.message_bytes)).next_multiple_of(4096);
        let len = buffer + SLOT_BYTES * u64::from(n);
        let at = ram.alloc(len, 4096)?;
        let mut slots = Vec::new();
        for i in 0..u64::from(n) {
            let header = at + buffer + SLOT_BYTES * i;
            ram.write(header, &plan.stream.to_le_bytes())?;
            let data = at + i * u64::from(plan.message_bytes);
            slots.push(Slot { header, status: header + STATUS_OFFSET, data, message: 0 });
        }
        let free = (0..n as u16).collect();
        Ok(Transfer {
            id,
            plan,
            ram,
            area: (at, len),
            slots,
            free,
            source,
            messages: Vec::new(),
            recorded: Vec::new(),
            offered: 0,
            done: 0,
            moved_at: Instant::now(),
            resume_at: None,
            starved: false,
            stopped: false,
            idle: false,
            paused: false,
            aborted: None,
        })
    }

    pub fn kick(&self) -> Kick {
        if self.plan.polling { Kick::Never } else { Kick::Asked }
    }

    /// Messages that the device has.
    pub fn outstanding(&self) -> usize {
        self.messages.len() - self.done
    }

    /// Everything that was to be played was, or to be recorded.
    pub fn complete(&self) -> bool {
        if self.plan.capture {
            self.recorded.len() as u64 >= self.plan.total_bytes
        } else {
            self.offered >= self.plan.total_bytes && self.outstanding() == 0
        }
    }

    /// Nothing need come back at the moment.
    pub fn resting(&self) -> bool {
        self.idle || self.paused || self.resume_at.is_some()
    }

    /// When to look again although nothing happens.
    pub fn due(&self) -> Option<Instant> {
        self.resume_at
    }

    fn starving(&mut self) -> bool {
        let moved = if self.plan.capture { self.recorded.len() as u64 } else { self.offered };
        if let Some(starve) = self.plan.starve
            && !self.starved
            && moved >= starve.after_bytes
        {
            self.starved = true;
            self.resume_at = Some(Instant::now() + starve.pause);
        }
        match self.resume_at {
            Some(at) if at > Instant::now() => true,
            _ => {
                self.resume_at = None;
                false
            }
        }
    }

    fn next_bytes(&self) -> u32 {
        if self.plan.capture {
            return self.plan.message_bytes;
        }
        let left = self.plan.total_bytes.saturating_sub(self.offered);
        u64::from(self.plan.message_bytes).min(left) as u32
    }

    /// Offer what can be; returns the heads with their slots. Not yet published.
    pub fn refill(&mut self, queue: &mut Queue) -> Result<Vec<(u16, u16)>> {
        let mut heads = Vec::new();
        while !self.stopped && !self.idle && self.aborted.is_none() && !self.free.is_empty() && !self.starving() {
            let bytes = self.next_bytes();
            let Some(&slot) = self.free.front() else {
                break;
            };
            if bytes == 0 {
                break;
            }
            match self.offer(queue, slot, bytes) {
                Ok(head) => heads.push((head, slot)),
                // Room comes with the next completion; if none is awaited there never will be.
                Err(_) if !heads.is_empty() || self.outstanding() > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(heads)
    }

    fn offer(&mut self, queue: &mut Queue, i: u16, bytes: u32) -> Result<u16> {
        let slot = &self.slots[usize::from(i)];
        self.ram.write(slot.status, &[0; STATUS_BYTES as usize])?;
        if !self.plan.capture && !self.source.is_empty() {
            self.fill(slot.data, bytes)?;
        }
        let areas = [
            Piece { addr: slot.header, len: XFER_BYTES, writable: false },
            Piece { addr: slot.data, len: bytes, writable: self.plan.capture },
            Piece { addr: slot.status, len: STATUS_BYTES, writable: true },
        ];
        let head = queue.push(&self.plan.shape.cut(&areas), self.plan.shape.indirect)?;
        self.free.pop_front();
        self.slots[usize::from(i)].message = self.messages.len();
        self.messages.push(Message { bytes, queued_ns: monotonic_ns(), ..Message::default() });
        self.offered += u64::from(bytes);
        Ok(head)
    }

    /// Copy the next bytes of the source, which is played over and over until `total_bytes` are reached.
    fn fill(&self, at: u64, bytes: u32) -> Result<()> {
        let size = self.source.len() as u64;
        let mut done = 0;
        while done < u64::from(bytes) {
            let from = ((self.offered + done) % size) as usize;
            let n = (self.source.len() - from).min((u64::from(bytes) - done) as usize);
            self.ram.write(at + done, &self.source[from..from + n])?;
            done += n as u64;
        }
        Ok(())
    }

    /// A message came back.
    pub fn completed(&mut self, i: u16, used_len: u32) {
        let slot = &self.slots[usize::from(i)];
        let message = &mut self.messages[slot.message];
        let mut status = [0u8; 8];
        // Both areas were allocated from this memory.
        let _ = self.ram.read_into(slot.status, &mut status);
        let [a, b, c, d, e, f, g, h] = status;
        message.done_ns = monotonic_ns();
        message.status = u32::from_le_bytes([a, b, c, d]);
        message.latency_bytes = u32::from_le_bytes([e, f, g, h]);
        message.used_len = used_len;
        if self.plan.capture {
            let n = used_len.saturating_sub(STATUS_BYTES).min(message.bytes);
            self.recorded.extend(self.ram.read(slot.data, n as usize).unwrap_or_default());
        }
        self.done += 1;
        self.moved_at = Instant::now();
        self.free.push_back(i);
    }

    /// Give the memory back, unless the device still has messages of it or the guest was reset.
    pub fn free_memory(&self) {
        if self.outstanding() == 0 && self.aborted.is_none() {
            self.ram.free(self.area.0, self.area.1);
        }
    }
}
