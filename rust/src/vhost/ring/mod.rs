//! One virtqueue: start, pop, complete; how it stops is in `stop`.
//!
//! While a ring is open its queue state and call fd live in `Book`, a mutex of our own that a real-time caller can
//! *try*; the crate's vring (whose mutex cannot be tried) holds the configuration and gets the indices back when the
//! ring stops.
//!
//! Lock order, outermost first: route -> (the consumer's own) -> book -> the vring's mutex.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};

use vhost_user_backend::{VringMutex, VringT};
use virtio_queue::{Error as QueueError, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic};

use super::chain::{Chain, Done};
use super::inflight::{Area, Log};
use super::worker::Nudge;
use super::{Caller, Mem, MemHandle, lock};
use crate::error::{Error, Result};

mod stop;

/// The largest a split ring can be; crosvm makes them this long.
pub const MAX_SIZE: u16 = 32768;
/// Chains of one ring in our hands at most; the rest stays in a larger ring for now.
pub const IN_FLIGHT: usize = 1024;
/// Chains popped at a time.
pub const BATCH: usize = 16;

#[derive(Debug)]
struct Book {
    /// Chains of an older generation are stale and never touch guest memory.
    generation: u32,
    open: bool,
    broken: bool,
    /// Engines that pull: while there is one, the guest is asked not to kick.
    pullers: u32,
    inflight: u32,
    live: Vec<bool>,
    queue: Queue,
    call: Option<File>,
    /// Heads that were popped in an earlier life of the device, to be popped again before what is available.
    again: VecDeque<u16>,
    /// Memory that outlives us, if the front end gave some.
    log: Option<Log>,
}

fn note_popped(live: &mut [bool], log: Option<&Log>, head: u16) {
    live[usize::from(head)] = true;
    if let Some(log) = log {
        log.popped(head);
    }
}

impl Book {
    /// Write a chain to the used ring, and tell the log.
    fn give_back(&mut self, mem: &Mem, head: u16, len: u32) {
        if let Some(log) = &self.log {
            log.completing(head);
        }
        if self.queue.add_used(mem, head, len).is_err() {
            self.broken = true;
        }
        if let Some(log) = &self.log {
            log.completed(head, self.queue.next_used());
        }
    }
}

/// Counters; nobody takes a lock to read or to write them.
#[derive(Debug, Default)]
pub struct RingStats {
    pub popped: AtomicU64,
    pub completed: AtomicU64,
    pub signals: AtomicU64,
    pub kicks: AtomicU64,
    pub forced: AtomicU64,
}

/// Where a ring begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
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

/// What popping needs; allocated once, owned by whoever holds the route.
#[derive(Default)]
pub struct Scratch {
    /// Popped and not handed on yet; more than nothing between calls only if a real-time caller found a lock taken.
    pub batch: VecDeque<Chain>,
    pub done: Vec<Done>,
}

/// See the module text.
pub struct Ring {
    pub index: usize,
    pub stats: RingStats,
    vring: VringMutex<MemHandle>,
    mem: MemHandle,
    worker: OnceLock<Arc<dyn Nudge>>,
    route: Mutex<Scratch>,
    book: Mutex<Book>,
    idle: Condvar,
    /// Where the available ring was, or will be, gone on with.
    base: AtomicU16,
    /// Of a ring whose buffers wait for the device: it found none, and wants to know when one comes.
    starved: AtomicBool,
}

/// An eventfd write; the counter is all that is lost if it fails.
fn poke(fd: Option<&File>) -> bool {
    let one = 1u64.to_ne_bytes();
    // SAFETY: an open fd and 8 readable bytes.
    fd.is_some_and(|f| unsafe { libc::write(f.as_raw_fd(), one.as_ptr().cast(), 8) == 8 })
}

impl Ring {
    /// A ring that is not configured.
    pub fn new(index: usize, mem: MemHandle) -> Self {
        let queue = Queue::new(MAX_SIZE).expect("a power of two");
        let vring = VringMutex::new(mem.clone(), MAX_SIZE).expect("a power of two");
        let book = Book {
            generation: 0,
            open: false,
            broken: false,
            pullers: 0,
            inflight: 0,
            live: Vec::new(),
            queue,
            call: None,
            again: VecDeque::new(),
            log: None,
        };
        Ring {
            index,
            stats: RingStats::default(),
            vring,
            mem,
            worker: OnceLock::new(),
            route: Mutex::default(),
            book: Mutex::new(book),
            idle: Condvar::new(),
            base: AtomicU16::new(0),
            starved: AtomicBool::new(false),
        }
    }

    pub(super) fn set_worker(&self, worker: Arc<dyn Nudge>) {
        let _ = self.worker.set(worker);
    }

    /// Have this ring looked at, by its worker or the loop outside. Any thread, no lock.
    pub fn nudge(&self) {
        if let Some(w) = self.worker.get() {
            w.nudge(self.index);
        }
    }

    /// The crate's vring: the configuration while the ring is stopped.
    pub(super) fn vring(&self) -> &VringMutex<MemHandle> {
        &self.vring
    }

    /// The current guest memory. Cheap (arc-swap load).
    pub fn memory(&self) -> <GuestMemoryAtomic<Mem> as GuestAddressSpace>::T {
        self.mem.memory()
    }

    /// Where the ring starts, or started.
    pub fn base(&self) -> u16 {
        self.base.load(Relaxed)
    }

    pub(super) fn set_base(&self, base: u16) {
        self.base.store(base, Relaxed);
    }

    /// Entries; 0 while the ring is not open.
    pub fn size(&self) -> u16 {
        let b = lock(&self.book);
        if b.open { b.queue.size() } else { 0 }
    }

    /// Open, and not broken by its driver.
    pub fn is_running(&self) -> bool {
        let b = lock(&self.book);
        b.open && !b.broken
    }

    /// Chains popped and not given back.
    pub fn in_flight(&self) -> u32 {
        lock(&self.book).inflight
    }

    /// Completions before the call fd came would go unnoticed: signal once.
    pub(super) fn set_call(&self, file: Option<File>) {
        let mut b = lock(&self.book);
        b.call = file;
        if b.open {
            poke(b.call.as_ref());
        }
    }

    /// The right to pop and hand on. A real-time caller gets None if someone is at it, who does the work.
    pub fn route(&self, who: Caller) -> Option<MutexGuard<'_, Scratch>> {
        match who {
            Caller::Worker => Some(lock(&self.route)),
            Caller::RealTime => self.route.try_lock().ok(),
        }
    }

    fn book(&self, who: Caller) -> Option<MutexGuard<'_, Book>> {
        match who {
            Caller::Worker => Some(lock(&self.book)),
            Caller::RealTime => self.book.try_lock().ok(),
        }
    }

    /// Chains of an earlier generation are stale.
    pub fn generation(&self) -> u32 {
        lock(&self.book).generation
    }

    /// The ring may be popped from now on. Ok(false) if it already was open.
    pub(super) fn open(&self, start: Start, kept: &Kept, log: Option<&Arc<Area>>) -> Result<bool> {
        let mut scratch = lock(&self.route);
        let mut b = lock(&self.book);
        if b.open {
            return Ok(false);
        }
        let state = self.vring.get_ref().get_queue().state();
        let impossible = |e: QueueError| Error::Invalid(format!("queue {}: {e}", self.index));
        let mut queue = Queue::try_from(state).map_err(impossible)?;
        let mem = self.mem.memory();
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
        scratch.batch.clear();
        scratch.batch.reserve(BATCH);
        scratch.done.reserve(BATCH);
        (b.broken, b.open, b.inflight) = (false, true, kept.held.len() as u32);
        if ours == 0 {
            self.recover(&mut b, start, used);
        } else if let Some(log) = &b.log {
            log.adopt(&[&kept.held[..], &kept.again].concat(), used);
        }
        if b.log.is_some() {
            // The last life may have died between a completion and its signal.
            poke(b.call.as_ref());
        }
        let _ = self.arm(&mut b, &mem);
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

    /// How many chains a consumer must have room for.
    pub fn depth(&self) -> usize {
        IN_FLIGHT.min(lock(&self.book).queue.size() as usize)
    }

    /// An engine begins or ends to pull. After the last one has ended the caller drains once.
    pub fn pulled(&self, on: bool) {
        let mut b = lock(&self.book);
        b.pullers = if on { b.pullers + 1 } else { b.pullers.saturating_sub(1) };
        if b.open {
            let _ = self.arm(&mut b, &self.mem.memory());
        }
    }

    /// Write avail_event or used.flags. True if more buffers turned up meanwhile.
    fn arm(&self, b: &mut Book, mem: &Mem) -> std::result::Result<bool, QueueError> {
        if b.pullers == 0 {
            return b.queue.enable_notification(mem);
        }
        if !b.queue.event_idx_enabled() {
            b.queue.disable_notification(mem)?;
            return Ok(false);
        }
        // Half the index space away: moved again on each pull, so never reached.
        let at = b.queue.used_ring() + 4 + 8 * u64::from(b.queue.size());
        let far = b.queue.next_avail().wrapping_add(0x8000);
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
    pub(super) fn take_starved(&self) -> bool {
        self.starved.swap(false, SeqCst)
    }

    /// Take what is available, `max` chains at most, to the end of `out`. Whoever hands on what it pops holds `route`.
    pub fn pop(&self, out: &mut VecDeque<Chain>, max: usize, who: Caller) -> Result<usize> {
        let Some(mut b) = self.book(who) else {
            return Ok(0);
        };
        if !b.open || b.broken {
            return Ok(0);
        }
        let start = out.len();
        let r = self.pop_locked(&mut b, out, start + max, who);
        b.broken |= r.is_err();
        let n = out.len() - start;
        b.inflight += n as u32;
        self.stats.popped.fetch_add(n as u64, Relaxed);
        r.map(|()| n).map_err(|e| Error::Invalid(format!("queue {} is broken by its driver: {e}", self.index)))
    }

    fn pop_locked(
        &self,
        b: &mut Book,
        out: &mut VecDeque<Chain>,
        end: usize,
        who: Caller,
    ) -> std::result::Result<(), QueueError> {
        let mem = self.mem.memory();
        let before = out.len();
        let mut promised = false;
        loop {
            if b.pullers == 0 {
                b.queue.disable_notification(&*mem)?;
            }
            let seen = out.len();
            let (size, generation) = (b.queue.size(), b.generation);
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
                let table = b.queue.desc_table();
                let Some(c) = Chain::walk(&mem, table, size, head, generation, Caller::Worker) else { break };
                b.again.pop_front();
                note_popped(&mut b.live, b.log.as_ref(), head);
                out.push_back(c);
            }
            let table = b.queue.desc_table();
            let mut it = b.queue.iter(&*mem)?;
            while out.len() < end {
                let Some(chain) = it.next() else { break };
                let head = chain.head_index();
                // Out of the table, or offered again while we hold it: a driver bug or an attack.
                if head >= size || b.live[head as usize] {
                    return Err(QueueError::InvalidDescriptorIndex);
                }
                let Some(c) = Chain::walk(&mem, table, size, head, generation, who) else {
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
            if out.len() >= end || !self.arm(b, &mem)? {
                return Ok(());
            }
            promised = true;
        }
    }

    /// Give chains back with one signal at most, and empty the list. Returns how many were not stale.
    /// A real-time caller that finds the book taken keeps the list for the next time.
    pub fn complete(&self, done: &mut Vec<Done>, max: usize, who: Caller) -> usize {
        self.give_back(done, max, who, true)
    }

    fn give_back(&self, done: &mut Vec<Done>, max: usize, who: Caller, notify: bool) -> usize {
        if done.is_empty() || max == 0 {
            return 0;
        }
        let Some(mut b) = self.book(who) else {
            return 0;
        };
        let mem = self.mem.memory();
        let was_full = b.inflight as usize >= IN_FLIGHT;
        let mut n = 0;
        for d in done.drain(..max.min(done.len())) {
            if d.generation == b.generation && b.live.get_mut(d.head as usize).is_some_and(std::mem::take) {
                b.inflight -= 1;
                n += 1;
                b.give_back(&mem, d.head, d.len);
            }
        }
        let signalled = notify && n > 0 && self.signal(&mut b, &mem);
        if b.inflight == 0 && who == Caller::Worker {
            self.idle.notify_all();
        }
        let more = was_full && n > 0 && b.open && b.pullers == 0;
        drop(b);
        if more {
            // What a larger ring holds beyond our bound was kicked for already.
            self.nudge();
        }
        self.stats.completed.fetch_add(n as u64, Relaxed);
        self.stats.signals.fetch_add(u64::from(signalled), Relaxed);
        n
    }

    /// Give one chain back; `notify` false leaves the signal to `notify`. False if stale.
    pub fn complete_one(&self, done: Done, notify: bool) -> bool {
        self.give_back(&mut vec![done], 1, Caller::Worker, notify) == 1
    }

    /// Signal what was completed without. True if the driver wanted it.
    pub fn notify(&self) -> bool {
        let mut b = lock(&self.book);
        let mem = self.mem.memory();
        let signalled = b.open && self.signal(&mut b, &mem);
        self.stats.signals.fetch_add(u64::from(signalled), Relaxed);
        signalled
    }

    /// Run `f` with the memory while the chain is not stale and cannot become so; None if it is.
    pub fn with_live<T>(&self, c: &Chain, f: impl FnOnce(&Mem) -> T) -> Option<T> {
        let b = lock(&self.book);
        let live = c.generation == b.generation && b.live.get(c.head as usize) == Some(&true);
        // Under `book`: a stop cannot finish between the check and what `f` does.
        live.then(|| f(&self.memory()))
    }

    /// Honour EVENT_IDX, and (which virtio-queue does not) VRING_AVAIL_F_NO_INTERRUPT.
    fn signal(&self, b: &mut Book, mem: &Mem) -> bool {
        let wanted = if b.queue.event_idx_enabled() {
            b.queue.needs_notification(mem).unwrap_or(true)
        } else {
            std::sync::atomic::fence(SeqCst);
            let flags: u16 = mem.load(GuestAddress(b.queue.avail_ring()), SeqCst).unwrap_or(0);
            u16::from_le(flags) & 1 == 0
        };
        wanted && poke(b.call.as_ref())
    }
}
