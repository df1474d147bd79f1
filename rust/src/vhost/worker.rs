//! The thread that waits for kicks of the rings that are handled natively: epoll over their descriptors.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::events::MAX_BITS;
use super::lock;

/// The token of our own eventfd; ring indices are smaller.
pub(super) const SELF: u64 = u64::MAX;

/// Who can be told to look at a ring.
pub trait Nudge: Send + Sync {
    /// Have it looked at. Any thread, no lock, no allocation.
    fn nudge(&self, index: usize);
}

/// What a worker's owner and its thread share.
struct Shared {
    epoll: Epoll,
    wake: EventFd,
    stop: AtomicBool,
    nudges: [AtomicU64; MAX_BITS / 64],
}

/// Calls a function with the index of each ring that was kicked.
pub struct Worker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    /// Start the thread. `kicked` must not panic; it gets false for a nudge of our own.
    pub fn spawn(name: &str, kicked: impl Fn(usize, bool) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            epoll: Epoll::new()?,
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            stop: AtomicBool::new(false),
            nudges: Default::default(),
        });
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, SELF);
        shared.epoll.ctl(ControlOperation::Add, shared.wake.as_raw_fd(), event)?;
        let inner = shared.clone();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || inner.run(kicked))?;
        Ok(Worker { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Wait for kicks of a ring. A counter that is not zero already counts as one.
    ///
    /// Edge-triggered, and never read: each write is an edge, and a descriptor that is no eventfd cannot block us.
    pub fn watch(&self, index: usize, kick: &File) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, index as u64);
        self.shared.epoll.ctl(ControlOperation::Add, kick.as_raw_fd(), event)
    }

    /// No more kicks of it. Needed before it is closed: the front end has the same file open, the entry would stay.
    pub fn forget(&self, kick: &File) {
        let event = EpollEvent::default();
        let _ = self.shared.epoll.ctl(ControlOperation::Delete, kick.as_raw_fd(), event);
    }

    /// End the thread. Idempotent.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.shared.wake.write(1);
        if let Some(t) = lock(&self.thread).take() {
            let _ = t.join();
        }
    }
}

impl Nudge for Worker {
    fn nudge(&self, index: usize) {
        let nudges = &self.shared.nudges;
        nudges[index / 64 % nudges.len()].fetch_or(1 << (index % 64), Ordering::AcqRel);
        let _ = self.shared.wake.write(1);
    }
}

impl Shared {
    fn run(&self, kicked: impl Fn(usize, bool)) {
        let mut events = [EpollEvent::default(); 16];
        while !self.stop.load(Ordering::Acquire) {
            let n = match self.epoll.wait(-1, &mut events) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // Only a bug of ours can come here; without the worker the rings stand still, as when stopped.
                Err(_) => return,
            };
            for event in &events[..n] {
                if event.data() == SELF {
                    let _ = self.wake.read();
                    for (word, bits) in self.nudges.iter().enumerate() {
                        let bits = bits.swap(0, Ordering::AcqRel);
                        (0..64).filter(|i| bits >> i & 1 == 1).for_each(|i| kicked(word * 64 + i, false));
                    }
                } else {
                    kicked(event.data() as usize, true);
                }
            }
        }
    }
}

impl Drop for Worker {
    /// Only tells the thread: a join could wait for someone who waits for the dropper.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.shared.wake.write(1);
    }
}
