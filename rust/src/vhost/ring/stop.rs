//! How a ring stops: freeze it, keep what was not consumed, wait for what is in somebody's hands, forget the rest.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use vhost_user_backend::VringT;
use virtio_queue::{Queue, QueueT};

use super::Ring;
use crate::vhost::lock;

impl Ring {
    /// First half of a stop: no more pops after this. Waits for a hand-on in progress. False if not open.
    pub(in crate::vhost) fn close(&self) -> bool {
        // Before taking `route`: this is what ends the loop of whoever holds it.
        let was = std::mem::replace(&mut lock(&self.book).open, false);
        drop(lock(&self.route));
        was
    }

    /// The ring is closed, `kept` are the heads of messages that nobody has consumed. They stay in our hands for the same
    /// driver, in whatever order they came; it counts them as not used, so the base is the used index.
    pub fn keep(&self, kept: &[u16]) {
        let mut b = lock(&self.book);
        for &h in kept {
            if b.live.get_mut(h as usize).is_some_and(std::mem::take) {
                b.inflight -= 1;
                let base = b.queue.next_avail().wrapping_sub(1);
                b.queue.set_next_avail(base);
            }
        }
    }

    /// The ring is configured and about to start at its base, or where its used ring is: whether what was kept when it stopped is
    /// still with us in its driver's eyes.
    pub(in crate::vhost) fn still_has<'a>(&self, kept: impl Iterator<Item = &'a u16> + Clone, at_used: bool) -> bool {
        let Ok(queue) = Queue::try_from(self.vring.get_ref().get_queue().state()) else {
            return false;
        };
        let Ok(available) = queue.avail_idx(&*self.memory(), SeqCst) else {
            return false;
        };
        let base = if at_used { queue.used_idx(&*self.memory(), SeqCst).map(|i| i.0) } else { Ok(self.base()) };
        let n = available.0.wrapping_sub(base.unwrap_or(available.0));
        (kept.clone().count()..=usize::from(queue.size())).contains(&usize::from(n))
            && kept.clone().all(|&h| h < queue.size())
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
        // The front end's memory: not held longer than its ring runs.
        b.log = None;
        b.generation = b.generation.wrapping_add(1);
        // Enabled again without a new base, it goes on from here.
        self.set_base(b.queue.next_avail());
        self.vring.set_queue_next_avail(b.queue.next_avail());
        self.vring.set_queue_next_used(b.queue.next_used());
        self.stats.forced.fetch_add(u64::from(forced), Relaxed);
        forced
    }
}
