//! From the I/O rings to the streams, by the stream id in each message; and what a ring's start and stop mean for them.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use super::clock;
use super::message;
use super::stream::Stream;
use crate::error::{Error, Result};
use crate::vhost::Caller;
use crate::vhost::chain::{Chain, Done};
use crate::vhost::device::QueueHandler;
use crate::vhost::events::{Event, EventQueue, MAX_BITS};
use crate::vhost::ring::{BATCH, Kept, Ring, Scratch};

/// An engine's pull is bounded even if the guest offers without end.
const PULL_MAX: usize = 1024;

/// Which queue carries what (virtio 1.3, 5.14.2).
#[derive(Debug, Clone, Copy)]
pub struct Queues {
    pub control: usize,
    pub playback: usize,
    pub capture: usize,
}

impl Default for Queues {
    fn default() -> Self {
        Queues { control: 0, playback: 2, capture: 3 }
    }
}

/// See the module text.
pub struct Router {
    queues: Queues,
    streams: Vec<Arc<Stream>>,
    events: OnceLock<Arc<EventQueue>>,
}

impl Router {
    /// A router for these streams, of one device.
    pub fn new(streams: Vec<Arc<Stream>>, queues: Queues) -> Result<Arc<Self>> {
        for (i, s) in streams.iter().enumerate() {
            if s.id as usize >= MAX_BITS || streams[..i].iter().any(|t| t.id == s.id) {
                return Err(Error::Invalid(format!("stream id {}: ids are unique and below {MAX_BITS}", s.id)));
            }
        }
        let router = Arc::new(Router { queues, streams, events: OnceLock::new() });
        if router.streams.iter().any(|s| !s.belongs_to(&router)) {
            return Err(Error::Invalid("a stream belongs to another router already".into()));
        }
        Ok(router)
    }

    /// Where to tell of xruns. Once: a router belongs to one device.
    pub fn bind(&self, events: &Arc<EventQueue>) -> Result<()> {
        self.events
            .set(events.clone())
            .map_err(|_| Error::Invalid("the router belongs to another server already".into()))
    }

    fn stream(&self, id: u32, capture: bool) -> Option<&Arc<Stream>> {
        let is = |s: &&Arc<Stream>| s.id == id && s.capture == capture;
        // Ids are usually positions.
        self.streams.get(id as usize).filter(is).or_else(|| self.streams.iter().find(is))
    }

    fn of_ring<'a>(&'a self, ring: &'a Ring) -> impl Iterator<Item = &'a Arc<Stream>> {
        let capture = ring.index == self.queues.capture;
        let any = self.owns(ring.index);
        self.streams.iter().filter(move |s| any && s.capture == capture)
    }

    /// From a real-time thread.
    pub(super) fn xrun(&self, stream: u32) {
        if let Some(e) = self.events.get() {
            e.xrun(stream);
        }
    }

    /// For people, by way of the log.
    pub(super) fn tell(&self, reason: String) {
        if let Some(e) = self.events.get() {
            e.offer(Event::Fault { queue: -1, reason });
        }
    }

    /// Pop what is available and hand it on. Any thread that may wait.
    pub fn drain(&self, ring: &Ring) {
        if let Some(mut scratch) = ring.route(Caller::Worker) {
            self.drain_routed(ring, &mut scratch, usize::MAX, Caller::Worker);
        }
    }

    /// An engine's pull: as `drain`, but leave it to a worker that is at it already.
    pub fn pull(&self, ring: &Ring) {
        if let Some(mut scratch) = ring.route(Caller::RealTime) {
            self.drain_routed(ring, &mut scratch, PULL_MAX, Caller::RealTime);
        }
    }

    /// In small batches, so that the guest can work on one while we do the next.
    fn drain_routed(&self, ring: &Ring, scratch: &mut Scratch, mut limit: usize, who: Caller) {
        let capture = ring.index == self.queues.capture;
        let Scratch { batch, done } = scratch;
        loop {
            let handed_on = self.hand_on(ring, capture, batch, done, who);
            ring.complete(done, usize::MAX, who);
            if !handed_on || limit == 0 {
                return;
            }
            let n = ring.pop(batch, BATCH.min(limit), who).unwrap_or_else(|e| {
                // Once a ring's life: it is broken now. The only allocation a callback can come to.
                if let Some(events) = self.events.get() {
                    let queue = ring.index as i64;
                    let reason = e.to_string();
                    events.offer(Event::Fault { queue, reason });
                }
                0
            });
            limit = if n < BATCH { 0 } else { limit.saturating_sub(n) };
        }
    }

    /// False if a real-time caller found a stream's lock taken: the rest of the batch waits for the next, in order.
    fn hand_on(
        &self,
        ring: &Ring,
        capture: bool,
        batch: &mut VecDeque<Chain>,
        done: &mut Vec<Done>,
        who: Caller,
    ) -> bool {
        if batch.is_empty() {
            return true;
        }
        let mem = ring.memory();
        while let Some(c) = batch.front() {
            let id = message::stream_of(&mem, c);
            match id.and_then(|id| self.stream(id, capture)) {
                Some(s) => {
                    if !s.offer(ring, &mem, batch, done, who) {
                        return false;
                    }
                }
                None => {
                    done.push(message::refuse(&mem, c));
                    batch.pop_front();
                }
            }
        }
        true
    }
}

impl QueueHandler for Router {
    fn owns(&self, queue: usize) -> bool {
        queue == self.queues.playback || queue == self.queues.capture
    }

    fn kept(&self, ring: &Arc<Ring>) -> Kept {
        let mut kept = Kept::default();
        self.of_ring(ring).for_each(|s| s.kept(&mut kept));
        kept
    }

    fn forget_kept(&self, ring: &Arc<Ring>) {
        self.of_ring(ring).for_each(|s| s.forget());
    }

    fn started(&self, ring: &Arc<Ring>, fresh: bool) {
        if ring.index == self.queues.control && fresh {
            // A driver that starts from zero knows no streams.
            self.reset();
        }
        for s in self.of_ring(ring) {
            s.attach(ring);
        }
    }

    fn available(&self, ring: &Arc<Ring>) {
        self.drain(ring);
        self.of_ring(ring).filter(|s| s.wants_reading()).for_each(clock::call);
    }

    fn stopping(&self, ring: &Arc<Ring>) {
        // Nothing can be popped any more, but something may wait to be handed on.
        self.drain(ring);
        self.of_ring(ring).for_each(|s| s.pause());
        ring.keep(&self.kept(ring).held);
    }

    fn memory_replaced(&self) {
        self.streams.iter().for_each(|s| s.barrier());
    }

    fn reset(&self) {
        self.streams.iter().for_each(|s| s.reset(false));
    }

    fn disconnected(&self) {
        self.streams.iter().for_each(|s| s.reset(true));
    }
}
