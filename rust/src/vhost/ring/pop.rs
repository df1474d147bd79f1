//! Taking chains off a ring, and asking the driver for kicks or for none.

use std::collections::VecDeque;
use std::sync::atomic::{Ordering::Relaxed, Ordering::SeqCst};

use virtio_queue::{Error as QueueError, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::{Book, IN_FLIGHT, Log, Ring};
use crate::error::{Error, Result};
use crate::vhost::Caller;
use crate::vhost::chain::Chain;

fn note_popped(live: &mut [bool], log: Option<&Log>, head: u16) {
    live[usize::from(head)] = true;
    if let Some(log) = log {
        log.popped(head);
    }
}

impl Ring {
    /// An engine begins or ends to pull. After the last one has ended the caller drains once.
    pub fn pulled(&self, on: bool) {
        let mut b = self.book.lock();
        b.pullers = if on { b.pullers + 1 } else { b.pullers.saturating_sub(1) };
        self.pulled.store(b.pullers > 0, SeqCst);
        if b.open {
            let _ = self.arm(&mut b);
        }
    }

    /// Whether engines pull, so that the guest does not kick.
    pub fn is_pulled(&self) -> bool {
        self.pulled.load(SeqCst)
    }

    /// Write avail_event or used.flags. True if more buffers turned up meanwhile.
    pub(super) fn arm(&self, b: &mut Book) -> std::result::Result<bool, QueueError> {
        let Book { queue, mem, .. } = b;
        if b.pullers == 0 {
            return queue.enable_notification(&**mem);
        }
        if !queue.event_idx_enabled() {
            queue.disable_notification(&**mem)?;
            return Ok(false);
        }
        // Half the index space away: moved again on each pull, so never reached.
        let at = queue.used_ring() + 4 + 8 * u64::from(queue.size());
        let far = queue.next_avail().wrapping_add(0x8000);
        mem.store(far.to_le(), GuestAddress(at), Relaxed).map_err(QueueError::GuestMemory)?;
        Ok(false)
    }

    /// The next chain, for a loop outside. When there is none the next kick will be told (`take_starved`).
    pub fn pop_one(&self) -> Result<Option<Chain>> {
        let mut one = VecDeque::with_capacity(1);
        // Before the look: a kick may come right behind it.
        self.starved.store(true, SeqCst);
        let popped = self.pop(&mut one, 1, Caller::Worker);
        if popped.as_ref().map_or(true, |&n| n > 0) {
            self.starved.store(false, SeqCst);
        }
        popped.map(|_| one.pop_front())
    }

    /// Whether a kick is waited for; not any more from now on.
    pub(in crate::vhost) fn take_starved(&self) -> bool {
        self.starved.swap(false, SeqCst)
    }

    /// Take what is available, `max` chains at most, to the end of `out`. Whoever hands on what it pops holds `route`.
    pub fn pop(&self, out: &mut VecDeque<Chain>, max: usize, who: Caller) -> Result<usize> {
        let Some(mut b) = self.book(who) else {
            return Ok(0);
        };
        let broken = |e| Error::Invalid(format!("queue {} is broken by its driver: {e}", self.index));
        if who == Caller::Worker
            && let Some(e) = b.fault.take()
        {
            return Err(broken(e));
        }
        if !b.open || b.broken {
            return Ok(0);
        }
        let start = out.len();
        let r = self.pop_locked(&mut b, out, start + max, who);
        b.broken |= r.is_err();
        let n = out.len() - start;
        b.inflight += n as u32;
        self.stats.popped.fetch_add(n as u64, Relaxed);
        match r {
            Err(e) if who == Caller::RealTime => {
                // Telling it allocates: the worker's.
                b.fault = Some(e);
                drop(b);
                self.nudge();
                Ok(n)
            }
            r => r.map(|()| n).map_err(broken),
        }
    }

    fn pop_locked(
        &self,
        b: &mut Book,
        out: &mut VecDeque<Chain>,
        end: usize,
        who: Caller,
    ) -> std::result::Result<(), QueueError> {
        let before = out.len();
        let mut promised = false;
        loop {
            let Book { queue, mem, .. } = b;
            if b.pullers == 0 {
                queue.disable_notification(&**mem)?;
            }
            let seen = out.len();
            let (size, generation) = (queue.size(), b.generation);
            let room = IN_FLIGHT.saturating_sub(b.inflight as usize);
            let end = end.min(before + room);
            while out.len() < end && !b.again.is_empty() {
                let head = b.again[0];
                if head >= size || b.live[head as usize] {
                    return Err(QueueError::InvalidDescriptorIndex);
                }
                if who == Caller::RealTime {
                    // It may have any number of pieces: the worker's.
                    self.nudge();
                    return Ok(());
                }
                let Some(c) = Chain::walk(mem, queue.desc_table(), size, head, generation, Caller::Worker) else {
                    break;
                };
                b.again.pop_front();
                note_popped(&mut b.live, b.log.as_ref(), head);
                out.push_back(c);
            }
            let table = queue.desc_table();
            let mut it = queue.iter(&**mem)?;
            while out.len() < end {
                let Some(chain) = it.next() else { break };
                let head = chain.head_index();
                // Out of the table, or offered again while we hold it: a driver bug or an attack.
                if head >= size || b.live[head as usize] {
                    return Err(QueueError::InvalidDescriptorIndex);
                }
                let Some(c) = Chain::walk(mem, table, size, head, generation, who) else {
                    // Too long to take without allocating: the worker's.
                    it.go_to_previous_position();
                    self.nudge();
                    return Ok(());
                };
                note_popped(&mut b.live, b.log.as_ref(), head);
                out.push_back(c);
            }
            if promised && out.len() == seen {
                // Its index can be read and its entries cannot (the memory was taken away), or it runs backwards.
                return Err(QueueError::InvalidAvailRingIndex);
            }
            if out.len() >= end || !self.arm(b)? {
                return Ok(());
            }
            promised = true;
        }
    }
}
