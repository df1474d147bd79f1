//! How a ring stops: freeze it, take back what was not consumed, wait for what is in somebody's hands, forget the rest.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use vhost_user_backend::VringT;
use virtio_queue::QueueT;

use super::{MAX_SIZE, Ring};
use crate::vhost::lock;

impl Ring {
    /// First half of a stop: no more pops after this. Waits for a hand-on in progress. False if not open.
    pub(in crate::vhost) fn close(&self) -> bool {
        // Before taking `route`: this is what ends the loop of whoever holds it.
        let was = std::mem::replace(&mut lock(&self.book).open, false);
        drop(lock(&self.route));
        was
    }

    /// The ring is closed, `held` are the avail positions of messages not consumed. How far the index can go back,
    /// over the messages taken last, as long as none of them was completed; and where it was.
    pub fn rewind_to(&self, held: &[u16]) -> (u16, u16) {
        let end = lock(&self.book).queue.next_avail();
        let mut base = end;
        while held.contains(&base.wrapping_sub(1)) && end.wrapping_sub(base) < MAX_SIZE {
            base = base.wrapping_sub(1);
        }
        (base, end)
    }

    /// The messages from `base` on are the guest's again: the next life of this ring finds them there.
    pub fn take_back(&self, base: u16, heads: &[u16]) {
        let mut b = lock(&self.book);
        b.queue.set_next_avail(base);
        for &h in heads {
            if b.live.get_mut(h as usize).is_some_and(std::mem::take) {
                b.inflight -= 1;
                if let Some(log) = &b.log {
                    log.forget(h);
                }
            }
        }
    }

    /// Last part of a stop: wait for completions, then give back what is left with length 0.
    /// After it nobody writes to guest memory on behalf of this ring.
    pub(in crate::vhost) fn retire(&self, wait: Duration, write: bool) -> u32 {
        let until = Instant::now() + wait;
        let mut b = lock(&self.book);
        while b.inflight > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            b = self.idle.wait_timeout(b, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        let (forced, mem) = (b.inflight, self.memory());
        for head in 0..b.live.len() {
            if std::mem::take(&mut b.live[head]) && write {
                b.give_back(&mem, head as u16, 0);
            }
        }
        if forced > 0 && write {
            self.signal(&mut b, &mem);
        }
        b.inflight = 0;
        b.generation = b.generation.wrapping_add(1);
        // Enabled again without a new base, it goes on from here.
        self.set_base(b.queue.next_avail());
        self.vring.set_queue_next_avail(b.queue.next_avail());
        self.vring.set_queue_next_used(b.queue.next_used());
        self.stats.forced.fetch_add(u64::from(forced), Relaxed);
        forced
    }
}
