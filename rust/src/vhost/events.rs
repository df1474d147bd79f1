//! What a loop outside learns, and how it is woken: a bounded queue of lifecycle events, and bits for what can
//! happen any number of times. One epoll descriptor, which has the kicks of the loop's own queues in it too: no thread
//! stands between them and the loop.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::lock;
use super::worker::{Nudge, SELF};

/// Lifecycle events that wait at most; a front end that makes more waits for the loop outside.
const MAX_PENDING: usize = 1024;
/// Numbers a bit set can carry.
pub const MAX_BITS: usize = 256;

/// Things that happened. The meaning of each is told where Python sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Connected,
    Disconnected {
        reason: String,
    },
    Features {
        features: u64,
    },
    Started {
        queue: usize,
        base: u16,
        fresh: bool,
    },
    Stopping {
        queue: usize,
    },
    Stopped {
        queue: usize,
        forced: u32,
    },
    ConfigWritten {
        offset: u32,
        data: Vec<u8>,
    },
    Reset,
    Fault {
        queue: i64,
        reason: String,
    },
    /// The loop outside is asked for the device's state, or to take one: `Exchange`.
    StateWanted,
    StateGiven {
        state: Vec<u8>,
    },
    Kicked {
        queue: usize,
    },
    Xrun {
        stream: u32,
    },
}

/// Numbers from 0 to 255, added by threads that take no lock.
#[derive(Default)]
struct Bits([AtomicU64; MAX_BITS / 64]);

impl Bits {
    /// True if it was not in.
    fn insert(&self, n: usize) -> bool {
        let bit = 1 << (n % 64);
        self.0[n / 64 % self.0.len()].fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    fn take(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            let bits = bits.swap(0, Ordering::AcqRel);
            (0..64).filter(move |i| bits >> i & 1 == 1).map(move |i| word * 64 + i)
        })
    }
}

/// See the module text.
pub struct EventQueue {
    epoll: Epoll,
    fd: EventFd,
    pending: Mutex<VecDeque<Event>>,
    room: Condvar,
    closed: AtomicBool,
    kicks: Bits,
    xruns: Bits,
}

impl EventQueue {
    /// An empty queue.
    pub fn new() -> io::Result<Self> {
        let (epoll, fd) = (Epoll::new()?, EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), EpollEvent::new(EventSet::IN, SELF))?;
        Ok(EventQueue {
            epoll,
            fd,
            pending: Mutex::default(),
            room: Condvar::new(),
            closed: AtomicBool::new(false),
            kicks: Bits::default(),
            xruns: Bits::default(),
        })
    }

    /// Make the descriptor readable, though perhaps nothing happened.
    pub fn wake(&self) {
        let _ = self.fd.write(1);
    }

    /// From a thread that may wait (for the loop outside, when it is far behind).
    pub fn push(&self, event: Event) {
        let mut pending = lock(&self.pending);
        while pending.len() >= MAX_PENDING && !self.closed.load(Ordering::Acquire) {
            pending = self
                .room
                .wait_timeout(pending, Duration::from_millis(100))
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
        pending.push_back(event);
        drop(pending);
        self.wake();
    }

    /// As `push`, but dropped if the queue is full: for faults that a guest can cause at will.
    pub fn offer(&self, event: Event) {
        let mut pending = lock(&self.pending);
        if pending.len() < MAX_PENDING {
            pending.push_back(event);
            drop(pending);
            self.wake();
        }
    }

    /// Wait for kicks of a queue; see `Worker::watch`.
    pub fn watch(&self, queue: usize, kick: &File) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, queue as u64);
        self.epoll.ctl(ControlOperation::Add, kick.as_raw_fd(), event)
    }

    /// No more kicks of it; see `Worker::forget`.
    pub fn forget(&self, kick: &File) {
        let _ = self.epoll.ctl(ControlOperation::Delete, kick.as_raw_fd(), EpollEvent::default());
    }

    /// A queue may have chains. No lock, no allocation.
    pub fn kicked(&self, queue: usize) {
        if self.kicks.insert(queue) {
            self.wake();
        }
    }

    /// A stream had an under- or overrun. No lock, no allocation: for real-time threads.
    pub fn xrun(&self, stream: u32) {
        if self.xruns.insert(stream as usize) {
            self.wake();
        }
    }

    /// Take up to `max` events; the fd stays readable while any are left. `kicked`: is a kick of this queue one of them?
    pub fn take(&self, max: usize, mut kicked: impl FnMut(usize) -> bool) -> Vec<Event> {
        let mut ready = [EpollEvent::default(); 16];
        let n = self.epoll.wait(0, &mut ready).unwrap_or(0);
        // First, so that what comes meanwhile makes it readable again.
        for queue in ready[..n].iter().map(EpollEvent::data) {
            if queue == SELF {
                let _ = self.fd.read();
            } else if kicked(queue as usize) {
                self.kicks.insert(queue as usize);
            }
        }
        let mut pending = lock(&self.pending);
        let n = pending.len().min(max);
        let mut out: Vec<Event> = pending.drain(..n).collect();
        self.room.notify_all();
        if !pending.is_empty() {
            self.wake();
            return out;
        }
        drop(pending);
        // Behind the lifecycle: a kick of an earlier life is harmless in a later one, not the other way round.
        out.extend(self.kicks.take().map(|queue| Event::Kicked { queue }));
        out.extend(self.xruns.take().map(|s| Event::Xrun { stream: s as u32 }));
        out
    }

    /// How many lifecycle events wait.
    pub fn len(&self) -> usize {
        lock(&self.pending).len()
    }

    /// True if no lifecycle event waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nobody takes events any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Nobody will take events any more: whoever waits for room goes on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.room.notify_all();
    }
}

impl Nudge for EventQueue {
    fn nudge(&self, queue: usize) {
        self.kicked(queue);
    }
}

impl AsRawFd for EventQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;

    use super::*;

    fn readable(q: &EventQueue) -> bool {
        let mut p = libc::pollfd { fd: q.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live, initialised pollfd.
        unsafe { libc::poll(&mut p, 1, 0) == 1 }
    }

    fn all(q: &EventQueue) -> Vec<Event> {
        q.take(64, |_| true)
    }

    #[test]
    fn lifecycle_comes_before_kicks_and_kicks_are_told_once() {
        let q = EventQueue::new().unwrap();
        q.kicked(3);
        q.kicked(3);
        q.xrun(200);
        q.push(Event::Connected);
        assert!(readable(&q));
        let got = all(&q);
        assert_eq!(got, [Event::Connected, Event::Kicked { queue: 3 }, Event::Xrun { stream: 200 }]);
        assert!(!readable(&q) && all(&q).is_empty());
    }

    #[test]
    fn the_fd_stays_readable_while_events_are_left() {
        let q = EventQueue::new().unwrap();
        (0..3).for_each(|_| q.push(Event::Reset));
        q.kicked(0);
        assert_eq!(q.take(2, |_| true).len(), 2);
        assert!(readable(&q));
        assert_eq!(q.take(2, |_| true), [Event::Reset, Event::Kicked { queue: 0 }]);
        assert!(!readable(&q));
    }

    #[test]
    fn a_kick_that_is_watched_is_told_each_time_and_not_when_it_is_forgotten() {
        let q = EventQueue::new().unwrap();
        let kick = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap();
        // SAFETY: a descriptor of its own.
        let file = unsafe { File::from_raw_fd(libc::fcntl(kick.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3)) };
        q.watch(7, &file).unwrap();
        for _ in 0..2 {
            kick.write(1).unwrap();
            assert!(readable(&q));
            assert_eq!(all(&q), [Event::Kicked { queue: 7 }]);
            assert!(!readable(&q));
        }
        kick.write(1).unwrap();
        assert!(q.take(64, |_| false).is_empty(), "of a queue that is not the loop's");
        q.forget(&file);
        kick.write(1).unwrap();
        assert!(!readable(&q) && all(&q).is_empty());
    }

    #[test]
    fn faults_are_bounded() {
        let q = EventQueue::new().unwrap();
        for _ in 0..3 * MAX_PENDING {
            q.offer(Event::Fault { queue: 0, reason: String::new() });
        }
        assert_eq!(q.len(), MAX_PENDING);
    }
}
