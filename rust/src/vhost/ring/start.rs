//! How a ring begins: anew, where it was, or with what an earlier life of the device had in flight.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use vhost_user_backend::VringT;
use virtio_queue::{Error as QueueError, Queue, QueueT};
use vm_memory::GuestAddressSpace;

use super::{BATCH, Book, IN_FLIGHT, Ring};
use crate::error::{Error, Result};
use crate::vhost::inflight::Area;

/// Where a ring begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vhost) enum Start {
    /// At its base, which is a new driver's.
    Fresh,
    /// At its base: it goes on.
    AtBase,
    /// Where the used ring is: the device never takes buffers without using them, or says itself which it kept.
    AtUsed,
}

/// What an owner of a stopped ring has of its chains when it starts again: they count as popped.
#[derive(Debug, Default)]
pub struct Kept {
    /// Heads of chains in its hands.
    pub held: Vec<u16>,
    /// Heads that an earlier process had, to be popped again first.
    pub again: Vec<u16>,
}

impl Ring {
    /// The ring may be popped from now on. Ok(false) if it already was open.
    pub(in crate::vhost) fn open(&self, start: Start, kept: &Kept, log: Option<&Arc<Area>>) -> Result<bool> {
        let mut scratch = self.route.lock();
        let mut b = self.book.lock();
        if b.open {
            return Ok(false);
        }
        let state = self.vring.get_ref().get_queue().state();
        let impossible = |e: QueueError| Error::Invalid(format!("queue {}: {e}", self.index));
        let mut queue = Queue::try_from(state).map_err(impossible)?;
        let mem = self.mem.memory().clone().into_inner();
        if !queue.is_valid(&*mem) {
            return Err(Error::Invalid(format!("queue {}: its ring is outside of the guest's memory", self.index)));
        }
        let used = queue.used_idx(&*mem, SeqCst).map_err(impossible)?.0;
        queue.set_next_used(used);
        let ours = kept.held.len() + kept.again.len();
        let base = if start == Start::AtUsed { used } else { self.base() };
        queue.set_next_avail(base.wrapping_add(ours as u16));
        b.live = vec![false; queue.size() as usize];
        for &head in &kept.held {
            b.live[usize::from(head)] = true;
        }
        b.again = kept.again.iter().copied().collect();
        b.log = log.and_then(|area| area.log(self.index, queue.size()));
        b.queue = queue;
        let depth = IN_FLIGHT.min(b.queue.size() as usize);
        scratch.batch.clear();
        scratch.batch.reserve(BATCH);
        scratch.done.clear();
        scratch.done.reserve(depth);
        (scratch.mem, b.mem) = (mem.clone(), mem);
        (b.broken, b.fault, b.open, b.inflight) = (false, None, true, kept.held.len() as u32);
        if ours == 0 {
            self.recover(&mut b, start, used);
        } else if let Some(log) = &b.log {
            log.adopt(&[&kept.held[..], &kept.again].concat(), used);
        }
        if b.log.is_some() {
            // The last life may have died between a completion and its signal.
            b.call.signal_in_time();
        }
        let _ = self.arm(&mut b);
        Ok(true)
    }

    /// With a log: what was in flight when an earlier life of this device ended is popped again, before anything else.
    fn recover(&self, b: &mut Book, start: Start, used: u16) {
        let Some(log) = &b.log else { return };
        if start == Start::Fresh && used == 0 {
            log.clear();
            return;
        }
        b.again = log.recover(used).into();
        // Every available entry up to here was taken: it is used, or in flight. Some front ends count them all as taken.
        let base = used.wrapping_add(b.again.len() as u16);
        b.queue.set_next_avail(base);
    }
}
