//! The interrupt handler of an I/O queue: a thread that lives while streams use the ring, takes completions and refills.

use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::error::{GuestError, Result};
use super::events::EventQueue;
use super::memory::GuestRam;
use super::poll::wait_or_hangup;
use super::queue::Queue;
use super::shared::SharedQueue;
use super::transfer::{Plan, Transfer};

#[derive(Default)]
struct State {
    transfers: Vec<Transfer>,
    // whose message a head is: transfer and slot
    owners: Vec<Option<(u64, u16)>>,
    held: bool,
    running: bool,
    next_id: u64,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Arc<SharedQueue>,
    events: Arc<EventQueue>,
    state: Mutex<State>,
    // a transfer got on
    changed: Condvar,
    wake: EventFd,
}

/// How a wait for a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Done,
    TimeUp,
    /// Nothing came back for too long.
    Stalled,
}

/// Serves the streams of one ring.
pub(crate) struct Pump {
    shared: Arc<Shared>,
    ram: Arc<GuestRam>,
}

impl Pump {
    pub fn new(queue: Arc<SharedQueue>, events: Arc<EventQueue>, ram: Arc<GuestRam>) -> Result<Self> {
        let wake = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(GuestError::system("eventfd"))?;
        let shared = Shared { queue, events, state: Mutex::default(), changed: Condvar::new(), wake };
        Ok(Pump { shared: Arc::new(shared), ram })
    }

    /// Begin: offers the first messages, as far as the buffer goes. Returns the transfer's id.
    pub fn attach(&self, plan: Plan, source: Vec<u8>) -> Result<u64> {
        let mut state = self.shared.lock();
        let id = state.next_id;
        let mut transfer = Transfer::new(id, plan, source, self.ram.clone())?;
        state.next_id += 1;
        let kick = transfer.kick();
        {
            let mut queue = self.shared.queue.lock();
            state.owners.resize(queue.size().into(), None);
            state.offer(&mut transfer, &mut queue)?;
            queue.publish(kick);
        }
        state.transfers.push(transfer);
        if !state.running {
            if let Some(old) = state.thread.take() {
                // It has seen that it is not needed and takes no lock any more.
                let _ = old.join();
            }
            let shared = self.shared.clone();
            let name = format!("guest-queue{}", self.shared.queue.lock().index());
            let run = std::thread::Builder::new().name(name).spawn(move || shared.run());
            state.thread = Some(run.map_err(GuestError::system("thread"))?);
            state.running = true;
        }
        drop(state);
        self.nudge();
        Ok(id)
    }

    /// Look at a transfer, or change it.
    pub fn with<R>(&self, id: u64, f: impl FnOnce(&mut Transfer) -> R) -> Result<R> {
        let mut state = self.shared.lock();
        let r = state.find(id).map(f).ok_or_else(|| GuestError::Invalid("the stream has ended".into()))?;
        drop(state);
        self.nudge();
        Ok(r)
    }

    /// Wait until `done` says so or the transfer is cut off or gone, at most for `limit`, and only while messages come back
    /// at least every `stall`.
    pub fn wait(
        &self,
        id: u64,
        stall: Duration,
        limit: Duration,
        mut done: impl FnMut(&Transfer) -> bool,
    ) -> Result<Waited> {
        let end = Instant::now().checked_add(limit);
        let mut state = self.shared.lock();
        loop {
            let held = state.held;
            let Some(transfer) = state.find(id) else {
                return Ok(Waited::Done);
            };
            if transfer.aborted.is_some() || done(transfer) {
                return Ok(Waited::Done);
            }
            let now = Instant::now();
            if held || transfer.resting() {
                transfer.moved_at = now;
            }
            let quiet = now - transfer.moved_at;
            if quiet >= stall {
                return Ok(Waited::Stalled);
            }
            if end.is_some_and(|e| now >= e) {
                return Ok(Waited::TimeUp);
            }
            let left = end.map_or(stall, |e| e - now).min(stall - quiet);
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(|e| e.into_inner()).0;
        }
    }

    /// End: the transfer is taken out; what the device still has of it is nobody's.
    pub fn detach(&self, id: u64) -> Option<Transfer> {
        let mut state = self.shared.lock();
        let at = state.transfers.iter().position(|t| t.id == id)?;
        let transfer = state.transfers.remove(at);
        for owner in &mut state.owners {
            owner.take_if(|o| o.0 == id);
        }
        drop(state);
        self.nudge();
        transfer.free_memory();
        Some(transfer)
    }

    /// Hold everything still: the guest's processors are stopped.
    pub fn hold(&self, on: bool) {
        self.shared.lock().held = on;
        self.nudge();
    }

    /// Cut every transfer off.
    pub fn abort(&self, why: &str) {
        let mut state = self.shared.lock();
        state.abort(why);
        self.shared.changed.notify_all();
        drop(state);
        self.nudge();
    }

    /// Make the thread look at everything again.
    pub fn nudge(&self) {
        // A counter at its limit wakes as well.
        let _ = self.shared.wake.write(1);
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        let thread = {
            let mut state = self.shared.lock();
            state.transfers.clear();
            state.thread.take()
        };
        self.nudge();
        if let Some(thread) = thread {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl State {
    fn find(&mut self, id: u64) -> Option<&mut Transfer> {
        self.transfers.iter_mut().find(|t| t.id == id)
    }

    fn abort(&mut self, why: &str) {
        for t in &mut self.transfers {
            t.aborted.get_or_insert_with(|| why.into());
        }
        self.owners.fill(None);
    }

    fn offer(&mut self, transfer: &mut Transfer, queue: &mut Queue) -> Result<bool> {
        let heads = transfer.refill(queue)?;
        for &(head, slot) in &heads {
            self.owners[usize::from(head)] = Some((transfer.id, slot));
        }
        Ok(!heads.is_empty())
    }

    fn reap(&mut self, queue: &mut Queue) -> bool {
        let mut any = false;
        while let Some(used) = queue.reap() {
            any = true;
            let owner = self.owners.get_mut(used.head as usize).and_then(Option::take);
            if let Some((id, slot)) = owner
                && let Some(t) = self.find(id)
            {
                t.completed(slot, used.len);
            }
        }
        any
    }

    fn refill(&mut self, queue: &mut Queue) {
        let mut transfers = std::mem::take(&mut self.transfers);
        for t in &mut transfers {
            match self.offer(t, queue) {
                Ok(true) => {
                    queue.publish(t.kick());
                }
                Ok(false) => (),
                Err(e) => t.aborted = Some(e.to_string()),
            }
        }
        self.transfers = transfers;
    }

    fn due(&self) -> Option<Instant> {
        self.transfers.iter().filter_map(Transfer::due).min()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Everything that can be done now. Returns when to look again, or None to end.
    fn turn(&self) -> Option<Option<Instant>> {
        let mut state = self.lock();
        if state.transfers.is_empty() {
            state.running = false;
            return None;
        }
        let mut queue = self.queue.lock();
        queue.take_signals();
        if state.held {
            return Some(None);
        }
        loop {
            queue.disarm();
            if state.reap(&mut queue) {
                self.changed.notify_all();
            }
            state.refill(&mut queue);
            queue.arm(1);
            if queue.pending() == 0 {
                return Some(state.due());
            }
        }
    }

    fn run(&self) {
        loop {
            let Some(due) = self.turn() else { return };
            let (call, event) = (self.queue.call(), self.events.queue().call());
            let fds = [call.as_raw_fd(), self.wake.as_raw_fd(), event.as_raw_fd()];
            // Without our own buffers the event queue is somebody else's.
            let fds = if self.events.filled() { &fds[..] } else { &fds[..2] };
            match wait_or_hangup(fds, self.queue.socket_fd(), due) {
                Ok((_, false)) => (),
                Ok((_, true)) => return self.gone("the device closed the connection"),
                Err(e) => return self.gone(&e.to_string()),
            }
            let _ = self.wake.read();
            self.events.collect();
        }
    }

    /// Take what is left in the ring; then nothing more can come.
    fn gone(&self, why: &str) {
        self.turn();
        let mut state = self.lock();
        state.abort(why);
        state.running = false;
        self.changed.notify_all();
    }
}
