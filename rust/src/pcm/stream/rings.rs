//! The ring's side of a stream: messages come in, and are given or taken back when the ring stops.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::Ordering::Relaxed;

use super::{Feed, Item, MAX_MESSAGE, Mode, State, Stream, try_hard};
use crate::pcm::message::finish;
use crate::pcm::wire::{S_IO_ERR, S_OK, STATUS_SIZE, XFER_SIZE};
use crate::vhost::chain::{Chain, Done};
use crate::vhost::ring::{Kept, Ring};
use crate::vhost::{Caller, Mem};

/// Messages of a stream that wait at a time; Linux has up to 16 periods. The ring may have 1024, of a quarter of a kilobyte each.
const USUAL: usize = 64;

impl Stream {
    /// The ring started. Everything a callback will need is allocated here.
    pub(in crate::pcm) fn attach(&self, ring: &Arc<Ring>) {
        let Some(router) = self.router.get().and_then(Weak::upgrade) else {
            return;
        };
        let mut feed = self.feed.lock();
        let mut s = self.state.lock();
        if feed.is_none() {
            // It may run already, if it did so in an earlier life.
            let pulling = s.running && s.mode != Mode::Discard && !self.changed.has_waiters();
            if pulling {
                ring.pulled(true);
            }
            *feed = Some(Feed { router, ring: ring.clone(), pulling });
        }
        s.ring = Some(ring.clone());
        s.mem = ring.memory().clone().into_inner();
        s.open = true;
        self.begin();
        self.ahead.shut(false);
        self.show(&s);
        s.items.reserve(USUAL);
        s.done.reserve(2 * ring.depth());
        // They are the ring's now, which hands them over.
        s.again.clear();
        let generation = ring.generation();
        s.items.iter_mut().for_each(|i| i.chain.generation = generation);
        let flushed = std::mem::take(&mut s.flushed);
        self.give_back(&mut s, S_IO_ERR, flushed);
        if s.mode == Mode::Discard && s.running {
            self.consume_all(&mut s);
        }
    }

    /// The memory map was replaced. When this returns no callback uses the old one.
    pub(in crate::pcm) fn set_memory(&self, mem: &Arc<Mem>) {
        let _feed = self.feed.lock();
        self.state.lock().mem = mem.clone();
    }

    /// Have those in `wait` look again.
    pub(in crate::pcm) fn wake_waiters(&self) {
        self.changed.ring();
    }

    /// Take the first message of `batch`; called by whoever holds the ring's route. One to be given back at once goes to
    /// `done`. False if a real-time caller found the lock taken: then it stays in the batch.
    pub(in crate::pcm) fn offer(
        &self,
        ring: &Ring,
        mem: &Mem,
        batch: &mut VecDeque<Chain>,
        done: &mut Vec<Done>,
        who: Caller,
    ) -> bool {
        let Some(mut s) = try_hard(&self.state, who) else {
            self.stats.busy.fetch_add(1, Relaxed);
            return false;
        };
        if s.items.len() == s.items.capacity() && who == Caller::RealTime {
            // More than is usual: the worker makes room.
            ring.nudge();
            return false;
        }
        let Some(chain) = batch.pop_front() else {
            return true;
        };
        if who == Caller::Worker {
            // Only we make chains of this kind: until then there is room for all of them.
            s.spent.clear();
            let most = s.items.len() + 1;
            s.spent.reserve(most);
        }
        let len = if self.capture { chain.writable().len() - STATUS_SIZE } else { chain.readable().len() - XFER_SIZE };
        if let (Mode::Reject(status), _) | (_, (MAX_MESSAGE.., status)) = (s.mode, (len, S_IO_ERR)) {
            done.push(finish(mem, &chain, 0, 0, status, 0));
            self.stats.messages.fetch_add(1, Relaxed);
            return true;
        }
        let pos = match s.carry {
            Some((head, pos)) if head == chain.head => {
                s.carry = None;
                if pos < len { pos } else { 0 }
            }
            _ => 0,
        };
        let item = Item { chain, pos, len };
        if s.mode == Mode::Discard && s.running {
            done.push(self.consumed(mem, &item));
            return true;
        }
        s.queued += len - pos;
        self.stats.queued.store(s.queued as u64, Relaxed);
        s.items.push_back(item);
        drop(s);
        if who == Caller::Worker && self.changed.has_waiters() {
            self.changed.ring();
        }
        true
    }

    /// A message that no engine will see, as if one had moved it.
    fn consumed(&self, mem: &Mem, item: &Item) -> Done {
        let n = item.len - item.pos;
        let silent = !self.capture || item.chain.writable().fill(mem, item.pos, n, self.silence()).is_ok();
        let (data, status) = match (self.capture, silent) {
            (true, true) => (item.len, S_OK),
            (_, ok) => (0, if ok { S_OK } else { S_IO_ERR }),
        };
        self.stats.bytes.fetch_add(n as u64, Relaxed);
        self.stats.messages.fetch_add(1, Relaxed);
        finish(mem, &item.chain, data, item.len, status, 0)
    }

    pub(super) fn consume_all(&self, s: &mut State) {
        let Some(ring) = s.ring.clone().filter(|_| s.open) else { return };
        while let Some(item) = s.items.pop_front() {
            s.queued -= item.len - item.pos;
            let done = self.consumed(&s.mem, &item);
            s.done.push(done);
        }
        self.stats.queued.store(s.queued as u64, Relaxed);
        ring.complete(&mut s.done, usize::MAX, Caller::Worker);
    }

    /// Complete the first `n` messages as they are, and those that were consumed already; if the ring is stopped, when it
    /// starts.
    pub(super) fn give_back(&self, s: &mut State, status: u32, n: usize) {
        let Some(ring) = s.ring.clone() else { return };
        let n = n.min(s.items.len());
        if !s.open {
            s.flushed = s.flushed.max(n);
            return;
        }
        let State { items, queued, done, mem, .. } = s;
        for i in items.drain(..n) {
            *queued -= i.len - i.pos;
            let data = if self.capture { i.pos } else { 0 };
            done.push(finish(mem, &i.chain, data, i.len, status, 0));
        }
        self.stats.messages.fetch_add(n as u64, Relaxed);
        self.stats.queued.store(s.queued as u64, Relaxed);
        ring.complete(&mut s.done, usize::MAX, Caller::Worker);
    }

    /// The ring is closed: consume no more. What was consumed is completed, the rest is kept as it is.
    pub(in crate::pcm) fn pause(&self) {
        let mut s = self.state.lock();
        if let Some(ring) = s.ring.clone() {
            ring.complete(&mut s.done, usize::MAX, Caller::Worker);
        }
        s.open = false;
        self.ahead.shut(true);
        self.show(&s);
    }

    /// Heads of the messages that are kept while the ring is closed.
    pub(in crate::pcm) fn kept(&self, kept: &mut Kept) {
        let s = self.state.lock();
        kept.held.extend(s.items.iter().map(|i| i.chain.head));
        kept.again.extend(&s.again);
    }

    /// What is kept is nobody's any more.
    pub(in crate::pcm) fn forget(&self) {
        let mut s = self.state.lock();
        s.items.clear();
        s.again.clear();
        s.carry = None;
        (s.queued, s.flushed) = (0, 0);
        self.stats.queued.store(0, Relaxed);
    }

    /// The connection is gone (`detach`), or the device starts from zero.
    pub(in crate::pcm) fn reset(&self, detach: bool) {
        let mut feed = self.feed.lock();
        if let Some(f) = feed.as_mut()
            && std::mem::take(&mut f.pulling)
        {
            f.ring.pulled(false);
        }
        if detach {
            *feed = None;
        }
        drop(feed);
        let mut s = self.state.lock();
        s.items.clear();
        s.again.clear();
        s.carry = None;
        s.done.clear();
        s.queued = 0;
        self.stats.queued.store(0, Relaxed);
        s.flushed = 0;
        s.running = false;
        s.mode = Mode::Reject(S_IO_ERR);
        if detach {
            (s.ring, s.open) = (None, false);
        }
        s.spent.clear();
        self.show(&s);
        drop(s);
        // Who reads ahead saw it run before that, or does not at all.
        self.ahead.free();
        self.changed.ring();
    }
}
