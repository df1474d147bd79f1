//! The device: its rings and who looks at them, ring start and stop, and who consumes what.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

use vm_memory::{GuestAddressSpace, GuestMemoryAtomic};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::events::{Event, EventQueue, MAX_BITS};
use super::exchange::Exchange;
use super::inflight::Area;
use super::ring::{Kept, Ring, Start};
use super::worker::Worker;
use super::{Mem, MemHandle, lock};
use crate::error::{Error, Result};

/// How long a stop waits for chains that are in somebody's hands.
const STOP_WAIT: Duration = Duration::from_secs(1);

/// A native consumer of some of a device's queues. Its methods are called on the connection thread, `available` on the
/// worker's; they must not panic.
pub trait QueueHandler: Send + Sync {
    /// Does it pop this queue's chains? The others are told to the loop outside.
    fn owns(&self, queue: usize) -> bool;
    /// Chains of an owned ring that are kept since it stopped.
    fn kept(&self, ring: &Arc<Ring>) -> Kept;
    /// Forget them: the ring starts, and its driver knows nothing of them.
    fn forget_kept(&self, ring: &Arc<Ring>);
    /// Any ring has opened. `fresh`: a new driver's. What was not forgotten goes on.
    fn started(&self, ring: &Arc<Ring>, fresh: bool);
    /// An owned ring may have chains.
    fn available(&self, ring: &Arc<Ring>);
    /// An owned ring was closed: give every chain of it back, or keep it (`Ring::keep`).
    fn stopping(&self, ring: &Arc<Ring>);
    /// The memory map was replaced: return when nobody uses the old one.
    fn memory_replaced(&self, mem: &Arc<Mem>);
    /// The device starts from its initial state; every ring is stopped.
    fn reset(&self);
    /// The front end is gone: forget every chain, write nothing.
    fn disconnected(&self);
}

/// What a device is.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// Number of queues.
    pub queues: usize,
    /// Device feature bits.
    pub features: u64,
    /// Configuration space.
    pub config: Vec<u8>,
    /// Queues whose buffers wait for the device.
    pub device_owned: Vec<usize>,
}

/// Counters of a device's life.
#[derive(Debug, Default)]
pub struct DeviceStats {
    pub connections: AtomicU64,
    pub messages: AtomicU64,
    pub memory_updates: AtomicU64,
}

/// See the module text. It outlives connections.
pub struct Device {
    pub events: Arc<EventQueue>,
    pub stats: DeviceStats,
    pub features: u64,
    /// Written to when the guest's memory was cut short by its owner.
    pub(super) alarm: EventFd,
    config: RwLock<Vec<u8>>,
    device_owned: Vec<usize>,
    handler: Option<Arc<dyn QueueHandler>>,
    rings: Vec<Arc<Ring>>,
    mem: MemHandle,
    /// The map in use, kept so that no callback is the one that frees it.
    pinned: Mutex<Option<Arc<Mem>>>,
    /// For the queues of `handler`; the others are the loop's outside.
    worker: OnceLock<Arc<Worker>>,
    /// Where what is in flight is noted, if the front end wants that.
    inflight: Mutex<Option<Arc<Area>>>,
    pub(super) exchange: Exchange,
}

impl Device {
    /// A device without a front end; its workers wait.
    pub fn new(spec: Spec, events: Arc<EventQueue>, handler: Option<Arc<dyn QueueHandler>>) -> Result<Arc<Self>> {
        if !(1..=MAX_BITS).contains(&spec.queues) {
            return Err(Error::Invalid(format!("a device has 1 to {MAX_BITS} queues, not {}", spec.queues)));
        }
        let owned = (spec.queues..=MAX_BITS).find(|&q| handler.as_ref().is_some_and(|h| h.owns(q)));
        if let Some(q) = owned.or(spec.device_owned.iter().copied().find(|&q| q >= spec.queues)) {
            return Err(Error::Invalid(format!("queue {q} is not there: the device has {}", spec.queues)));
        }
        let mem: MemHandle = GuestMemoryAtomic::new(Mem::new());
        let device = Arc::new(Device {
            events,
            stats: DeviceStats::default(),
            features: spec.features,
            alarm: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            config: RwLock::new(spec.config),
            device_owned: spec.device_owned,
            handler,
            rings: (0..spec.queues).map(|i| Arc::new(Ring::new(i, mem.clone()))).collect(),
            mem,
            pinned: Mutex::default(),
            worker: OnceLock::new(),
            inflight: Mutex::default(),
            exchange: Exchange::default(),
        });
        // What is handled natively has a thread of its own, so that the loop outside does not hold it up.
        if device.handler.is_some() {
            let weak = Arc::downgrade(&device);
            let worker = Arc::new(Worker::spawn("vsnd-io", true, move |index, kick| {
                if let Some(d) = weak.upgrade() {
                    d.kicked(index, kick);
                }
            })?);
            let _ = device.worker.set(worker);
        }
        for ring in &device.rings {
            match device.worker(ring.index) {
                Some(w) => ring.set_worker(w.clone()),
                None => ring.set_worker(device.events.clone()),
            }
        }
        Ok(device)
    }

    fn handled(&self, queue: usize) -> bool {
        self.handler.as_ref().is_some_and(|h| h.owns(queue))
    }

    fn worker(&self, queue: usize) -> Option<&Arc<Worker>> {
        self.worker.get().filter(|_| self.handled(queue))
    }

    /// All queues.
    pub fn rings(&self) -> &[Arc<Ring>] {
        &self.rings
    }

    /// The handle to the guest's memory.
    pub fn memory(&self) -> &MemHandle {
        &self.mem
    }

    /// A part of the configuration space; zeros beyond its end.
    pub fn config(&self, offset: u32, size: u32) -> Vec<u8> {
        let c = self.config.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        (0..size as usize).map(|i| c.get(offset as usize + i).copied().unwrap_or(0)).collect()
    }

    /// Replace the configuration space.
    pub fn set_config(&self, config: Vec<u8>) {
        *self.config.write().unwrap_or_else(std::sync::PoisonError::into_inner) = config;
    }

    /// Put a new memory map in place; when this returns nobody uses the old one.
    pub(super) fn replace_memory(&self, mem: Mem) {
        self.mem.lock().unwrap_or_else(std::sync::PoisonError::into_inner).replace(mem);
        let new = self.mem.memory().clone().into_inner();
        self.rings.iter().for_each(|r| r.set_memory(&new));
        if let Some(h) = &self.handler {
            h.memory_replaced(&new);
        }
        drop(lock(&self.pinned).replace(new));
        self.stats.memory_updates.fetch_add(1, Relaxed);
    }

    /// Start a ring that is configured. Ok if it runs already.
    pub(super) fn start(&self, ring: &Arc<Ring>, kick: &File, base_said: Option<u16>) -> Result<()> {
        if ring.size() > 0 {
            return Ok(());
        }
        let stopped_at = ring.base();
        if let Some(base) = base_said {
            ring.set_base(base);
        }
        let fresh = base_said == Some(0);
        let mut kept = self.handler.as_ref().map_or(Kept::default(), |h| h.kept(ring));
        // A base of 0 may also be that of a driver which was paused before anything was used.
        // What another process had was never used. Some front ends count it as taken all the same.
        let saved = !kept.again.is_empty() && kept.held.is_empty();
        let resumed = (saved || ring.base() == stopped_at || kept.held.is_empty())
            && ring.still_has(kept.held.iter().chain(&kept.again), saved);
        if let (Some(h), false) = (&self.handler, resumed) {
            h.forget_kept(ring);
            kept = Kept::default();
        }
        let start = match (self.device_owned.contains(&ring.index), fresh) {
            (true, false) => Start::AtUsed,
            (_, true) => Start::Fresh,
            _ if saved && resumed => Start::AtUsed,
            _ => Start::AtBase,
        };
        // First, for it may fail; until the ring is open a kick finds nothing.
        self.watch(ring, kick)?;
        match ring.open(start, &kept, lock(&self.inflight).as_ref()) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(e) => {
                self.forget(ring, kick);
                return Err(e);
            }
        }
        let base = ring.used();
        if let Some(h) = &self.handler {
            h.started(ring, fresh);
        }
        self.events.push(Event::Started { queue: ring.index, base, fresh });
        // Buffers may be there already, and no kick need come for them.
        if !self.device_owned.contains(&ring.index) {
            ring.nudge();
        }
        Ok(())
    }

    /// Note what is in flight there from the next start of a ring on. A state that an earlier life of the device left in it is
    /// taken over first.
    pub(super) fn set_inflight(&self, area: Arc<Area>) {
        let state = area.state();
        *lock(&self.inflight) = Some(area);
        if !state.is_empty() && self.exchange.ask(&self.events, Event::StateGiven { state }).is_none() {
            let reason = "the state of the daemon's earlier life was not taken over".into();
            self.events.offer(Event::Fault { queue: -1, reason });
        }
    }

    /// The device's state, for a later life of it. False if the front end keeps none.
    pub fn keep_state(&self, state: &[u8]) -> bool {
        lock(&self.inflight).as_ref().is_some_and(|area| area.keep_state(state))
    }

    /// Whether `keep_state` has a place.
    pub fn keeps_state(&self) -> bool {
        lock(&self.inflight).is_some()
    }

    /// Answer `StateWanted` with the state, or `StateGiven` with anything; None refuses.
    pub fn answer_state(&self, data: Option<Vec<u8>>) {
        self.exchange.answer(data);
    }

    /// Wait for kicks of a ring.
    pub(super) fn watch(&self, ring: &Ring, kick: &File) -> io::Result<()> {
        match self.worker(ring.index) {
            Some(w) => w.watch(ring.index, kick),
            None => self.events.watch(ring.index, kick),
        }
    }

    /// No more kicks from this descriptor.
    pub(super) fn forget(&self, ring: &Ring, kick: &File) {
        match self.worker(ring.index) {
            Some(w) => w.forget(kick),
            None => self.events.forget(kick),
        }
    }

    /// Stop a ring. When it returns, nothing of it is in flight and nothing will be written.
    pub(super) fn stop(&self, ring: &Arc<Ring>) {
        if !ring.close() {
            return;
        }
        self.tell_if_mute(ring);
        self.events.push(Event::Stopping { queue: ring.index });
        if let Some(h) = self.handler.as_ref().filter(|h| h.owns(ring.index)) {
            h.stopping(ring);
        }
        let forced = ring.retire(STOP_WAIT, true);
        self.events.push(Event::Stopped { queue: ring.index, forced });
    }

    /// Said where the ring ends, because the callback that found it can say nothing.
    fn tell_if_mute(&self, ring: &Ring) {
        if ring.is_mute() {
            let reason = "its call descriptor blocked; its driver was not signalled any more".into();
            self.events.offer(Event::Fault { queue: ring.index as i64, reason });
        }
    }

    /// Everything back to the initial state; the rings stay configured.
    pub(super) fn reset(&self) {
        for r in &self.rings {
            self.stop(r);
        }
        if let Some(h) = &self.handler {
            h.reset();
        }
        self.events.push(Event::Reset);
    }

    /// The front end is gone: forget everything, write nothing.
    pub(super) fn disconnected(&self, reason: String) {
        for r in &self.rings {
            if r.close() {
                self.tell_if_mute(r);
            }
        }
        if let Some(h) = &self.handler {
            h.disconnected();
        }
        for r in &self.rings {
            r.retire(Duration::ZERO, false);
            r.set_call(None);
            r.set_base(0);
        }
        *lock(&self.inflight) = None;
        self.replace_memory(Mem::new());
        self.events.push(Event::Disconnected { reason });
    }

    /// For the loop outside: take up to `max` of what happened.
    pub fn take_events(&self, max: usize) -> Vec<Event> {
        self.events.take(max, |index| {
            let Some(ring) = self.rings.get(index) else { return false };
            ring.stats.kicks.fetch_add(1, Relaxed);
            !self.device_owned.contains(&index) || ring.take_starved()
        })
    }

    /// On the worker thread.
    fn kicked(&self, index: usize, kick: bool) {
        let (Some(ring), Some(h)) = (self.rings.get(index), &self.handler) else {
            return;
        };
        ring.stats.kicks.fetch_add(u64::from(kick), Relaxed);
        // A panic would end the worker for good, unseen.
        if catch_unwind(AssertUnwindSafe(|| h.available(ring))).is_err() {
            self.events.offer(Event::Fault {
                queue: -1,
                reason: format!("internal error on queue {index}: a panic, see standard error"),
            });
        }
    }

    /// End the worker. Idempotent.
    pub fn close(&self) {
        self.events.close();
        if let Some(w) = self.worker.get() {
            w.stop();
        }
    }
}
