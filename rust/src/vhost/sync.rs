//! Locks between real-time threads and others. Whatever a callback locks is a [`TryMutex`]; what others wait for is a [`Bell`].

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::gate::rescue;
use super::lock;
use crate::realtime::may_wait;

/// Who waits does so without telling the lock, so that giving it back is never a system call: with `Mutex::lock` a callback
/// would have to wake whoever came meanwhile.
pub struct TryMutex<T>(Mutex<T>);

/// Looks before a waiter goes to sleep: callbacks hold a lock for microseconds.
const SPINS: u32 = 200;
/// How often it lets others run before that.
const YIELDS: u32 = 8;
/// A waiter's sleep; others than callbacks may hold a lock for a batch of messages.
const NAP: Duration = Duration::from_micros(50);
/// After so many naps, about a tenth of a second, the holder is perhaps stuck in a signal to its guest.
const RESCUE: u32 = 1000;

impl<T> TryMutex<T> {
    /// Not locked.
    pub const fn new(inner: T) -> Self {
        TryMutex(Mutex::new(inner))
    }

    /// The lock, if it is free; also if a panic poisoned it: all guarded data stays structurally valid. Real-time safe.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The lock, after a few microseconds at most, or None. A callback is rather a little late than a quantum short.
    pub fn try_hard(&self) -> Option<MutexGuard<'_, T>> {
        for _ in 0..SPINS {
            if let Some(guard) = self.try_lock() {
                return Some(guard);
            }
            std::hint::spin_loop();
        }
        None
    }

    /// The lock, whenever it is free. Not for callbacks.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        may_wait();
        for turn in 0.. {
            if let Some(guard) = self.try_hard() {
                return guard;
            }
            if turn < YIELDS {
                std::thread::yield_now();
            } else {
                // A holder of a lower priority than ours runs only while we sleep.
                std::thread::sleep(NAP);
                if turn % RESCUE == 0 {
                    rescue();
                }
            }
        }
        unreachable!("it tries until it has the lock")
    }
}

impl<T: Default> Default for TryMutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for TryMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TryMutex")
    }
}

/// Wakes threads that wait for a change of what other locks guard.
#[derive(Debug, Default)]
pub struct Bell {
    rings: Mutex<u64>,
    changed: Condvar,
    waiters: AtomicU32,
}

impl Bell {
    /// How often it rang. To be asked before the look at what may change.
    pub fn rings(&self) -> u64 {
        *lock(&self.rings)
    }

    /// Wake all who wait. Not for callbacks.
    pub fn ring(&self) {
        *lock(&self.rings) += 1;
        if self.waiters.load(SeqCst) > 0 {
            self.changed.notify_all();
        }
    }

    /// Whether somebody waits. Real-time safe.
    pub fn has_waiters(&self) -> bool {
        self.waiters.load(SeqCst) > 0
    }

    /// Wait until it rang more often than `seen`, at most for `limit`.
    pub fn wait(&self, seen: u64, limit: Duration) {
        may_wait();
        let end = Instant::now() + limit;
        self.waiters.fetch_add(1, SeqCst);
        let mut rings = lock(&self.rings);
        while *rings == seen {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            rings = self.changed.wait_timeout(rings, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(rings);
        self.waiters.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_waits_for_a_lock_gets_it_when_it_is_given_back() {
        let shared = Arc::new(TryMutex::new(0));
        let guard = shared.try_lock().unwrap();
        assert!(shared.try_lock().is_none() && shared.try_hard().is_none());
        let other = shared.clone();
        let waiting = std::thread::spawn(move || *other.lock());
        let mut guard = guard;
        *guard = 7;
        drop(guard);
        assert_eq!(waiting.join().unwrap(), 7);
    }

    #[test]
    fn a_ring_between_the_look_and_the_wait_is_not_lost() {
        let bell = Bell::default();
        let seen = bell.rings();
        bell.ring();
        // Would time the test out.
        bell.wait(seen, Duration::from_secs(3600));
        bell.wait(bell.rings(), Duration::ZERO);
        assert!(!bell.has_waiters());
    }
}
