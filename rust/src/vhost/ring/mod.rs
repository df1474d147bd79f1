//! One virtqueue: complete; how it begins is in `start`, what is popped in `pop`, how it stops in `stop`.
//!
//! While a ring is open its queue state and call fd live in `Book`, a mutex of our own that a real-time caller can
//! *try*; the crate's vring (whose mutex cannot be tried) holds the configuration and gets the indices back when the
//! ring stops.
//!
//! Lock order, outermost first: route -> (the consumer's own) -> book -> the vring's mutex.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, MutexGuard, OnceLock};

use vhost_user_backend::{VringMutex, VringT};
use virtio_queue::{Error as QueueError, Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic};

use super::call::Call;
use super::chain::{Chain, Done};
use super::inflight::Log;
use super::sync::{Bell, TryMutex};
use super::worker::Nudge;
use super::{Caller, Mem, MemHandle};

mod pop;
mod start;
mod stop;

pub use start::Kept;
pub(super) use start::Start;

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
    /// What broke it, found by a callback; the worker tells it.
    fault: Option<QueueError>,
    /// The guest's memory, kept here so that a callback need not ask for it.
    mem: Arc<Mem>,
    /// Engines that pull: while there is one, the guest is asked not to kick.
    pullers: u32,
    inflight: u32,
    live: Vec<bool>,
    queue: Queue,
    call: Call,
    /// Heads that were popped in an earlier life of the device, to be popped again before what is available.
    again: VecDeque<u16>,
    /// Memory that outlives us, if the front end gave some.
    log: Option<Log>,
}

impl Book {
    /// Write a chain to the used ring, and tell the log.
    fn give_back(&mut self, head: u16, len: u32) {
        if let Some(log) = &self.log {
            log.completing(head);
        }
        if self.queue.add_used(&*self.mem, head, len).is_err() {
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

/// What popping needs; allocated once, owned by whoever holds the route.
#[derive(Default)]
pub struct Scratch {
    /// The guest's memory.
    pub mem: Arc<Mem>,
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
    route: TryMutex<Scratch>,
    book: TryMutex<Book>,
    /// Rings when no chain is in anybody's hands.
    idle: Bell,
    /// As in the book, for who only asks.
    pulled: AtomicBool,
    /// Where the available ring was, or will be, gone on with.
    base: AtomicU16,
    /// Of a ring whose buffers wait for the device: it found none, and wants to know when one comes.
    starved: AtomicBool,
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
            fault: None,
            mem: Arc::default(),
            pullers: 0,
            inflight: 0,
            live: Vec::new(),
            queue,
            call: Call::new(),
            again: VecDeque::new(),
            log: None,
        };
        Ring {
            index,
            stats: RingStats::default(),
            vring,
            mem,
            worker: OnceLock::new(),
            route: TryMutex::default(),
            book: TryMutex::new(book),
            idle: Bell::default(),
            pulled: AtomicBool::new(false),
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

    /// The current guest memory. Not for callbacks: a thread's first call allocates.
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
        let b = self.book.lock();
        if b.open { b.queue.size() } else { 0 }
    }

    /// How many chains were given back in all its lives, modulo 65536.
    pub(super) fn used(&self) -> u16 {
        self.book.lock().queue.next_used()
    }

    /// Open, and not broken by its driver.
    pub fn is_running(&self) -> bool {
        let b = self.book.lock();
        b.open && !b.broken
    }

    /// Chains popped and not given back.
    pub fn in_flight(&self) -> u32 {
        self.book.lock().inflight
    }

    /// Whether its driver cannot be signalled any more, by its front end's fault.
    pub(super) fn is_mute(&self) -> bool {
        self.book.lock().call.is_spent()
    }

    /// Completions before the call fd came would go unnoticed: signal once.
    pub(super) fn set_call(&self, file: Option<File>) {
        let mut b = self.book.lock();
        b.call.set(file);
        if b.open {
            b.call.signal_in_time();
        }
    }

    /// The right to pop and hand on. A real-time caller gets None if someone is at it, who does the work.
    pub fn route(&self, who: Caller) -> Option<MutexGuard<'_, Scratch>> {
        match who {
            Caller::Worker => Some(self.route.lock()),
            Caller::RealTime => self.route.try_lock(),
        }
    }

    fn book(&self, who: Caller) -> Option<MutexGuard<'_, Book>> {
        match who {
            Caller::Worker => Some(self.book.lock()),
            Caller::RealTime => self.book.try_lock(),
        }
    }

    /// Chains of an earlier generation are stale.
    pub fn generation(&self) -> u32 {
        self.book.lock().generation
    }

    /// How many chains a consumer must have room for.
    pub fn depth(&self) -> usize {
        IN_FLIGHT.min(self.book.lock().queue.size() as usize)
    }

    /// The memory map was replaced. When this returns nobody pops from or completes into the old one.
    pub(super) fn set_memory(&self, mem: &Arc<Mem>) {
        // The old one is not dropped here: the device keeps it until everybody has the new one.
        self.route.lock().mem = mem.clone();
        self.book.lock().mem = mem.clone();
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
        let was_full = b.inflight as usize >= IN_FLIGHT;
        let mut n = 0;
        for d in done.drain(..max.min(done.len())) {
            if d.generation == b.generation && b.live.get_mut(d.head as usize).is_some_and(std::mem::take) {
                b.inflight -= 1;
                n += 1;
                b.give_back(d.head, d.len);
            }
        }
        let signalled = notify && n > 0 && self.signal(&mut b);
        let idle = b.inflight == 0;
        let more = was_full && n > 0 && b.open && b.pullers == 0;
        drop(b);
        if idle && who == Caller::Worker {
            self.idle.ring();
        }
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
        let mut b = self.book.lock();
        let signalled = b.open && self.signal(&mut b);
        self.stats.signals.fetch_add(u64::from(signalled), Relaxed);
        signalled
    }

    /// Run `f` with the memory while the chain is not stale and cannot become so; None if it is.
    pub fn with_live<T>(&self, c: &Chain, f: impl FnOnce(&Mem) -> T) -> Option<T> {
        let b = self.book.lock();
        let live = c.generation == b.generation && b.live.get(c.head as usize) == Some(&true);
        // Under `book`: a stop cannot finish between the check and what `f` does.
        live.then(|| f(&b.mem))
    }

    /// Honour EVENT_IDX, and (which virtio-queue does not) VRING_AVAIL_F_NO_INTERRUPT.
    fn signal(&self, b: &mut Book) -> bool {
        let Book { queue, mem, .. } = b;
        let wanted = if queue.event_idx_enabled() {
            queue.needs_notification(&**mem).unwrap_or(true)
        } else {
            std::sync::atomic::fence(SeqCst);
            let flags: u16 = mem.load(GuestAddress(queue.avail_ring()), SeqCst).unwrap_or(0);
            u16::from_le(flags) & 1 == 0
        };
        wanted && b.call.signal()
    }
}
