//! Threads in a system call that blocks only by a front end's malice, and how they are got out of it.
//!
//! Whether a read or a write blocks is a flag of the open file, which the front end shares and may change at any time. So a thread leaves
//! its name in a [`Gate`] meanwhile, and a signal ends the call. The callbacks of engines among them; so there is no system call in it.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Once, Weak};
use std::time::Duration;

use super::lock;

/// Ends a blocked system call. Its default is to be ignored, so that one too many harms nobody.
pub const WAKE: libc::c_int = libc::SIGURG;
static GATES: Mutex<Vec<Weak<Gate>>> = Mutex::new(Vec::new());
static INSTALL: Once = Once::new();

/// Who is in the call: a pthread_t, which is even; or that plus one while it is being woken; or 0.
#[derive(Debug)]
pub struct Gate(AtomicUsize);

impl Gate {
    /// A gate that nobody is in; `rescue` knows it.
    pub fn new() -> Arc<Gate> {
        INSTALL.call_once(install);
        let gate = Arc::new(Gate(AtomicUsize::new(0)));
        let mut gates = lock(&GATES);
        // A front end has one made for each transfer of a state.
        gates.retain(|gate| gate.strong_count() > 0);
        gates.push(Arc::downgrade(&gate));
        gate
    }

    /// Make one system call, which fails with EINTR when somebody wakes it. One thread at a time. Real-time safe.
    pub fn pass<T>(&self, call: impl FnOnce() -> T) -> T {
        // SAFETY: asks for a number.
        let me = unsafe { libc::pthread_self() } as usize;
        self.0.store(me, SeqCst);
        let result = call();
        while self.0.compare_exchange(me, 0, SeqCst, SeqCst).is_err() {
            // It is being woken, and must not end meanwhile.
            std::thread::sleep(Duration::from_micros(10));
        }
        result
    }

    /// End the call that somebody is in, if it blocks. Others notice nothing. To be repeated: the thread may not have come to block yet.
    pub fn wake(&self) {
        let who = self.0.load(SeqCst);
        if who != 0 && who & 1 == 0 && self.0.compare_exchange(who, who | 1, SeqCst, SeqCst).is_ok() {
            // SAFETY: the thread does not leave the gate, so it lives, until the number is as it was.
            unsafe { libc::pthread_kill(who as libc::pthread_t, WAKE) };
            self.0.store(who, SeqCst);
        }
    }
}

/// Wake whoever is in any gate. Not for callbacks.
pub fn rescue() {
    lock(&GATES).iter().filter_map(Weak::upgrade).for_each(|gate| gate.wake());
}

extern "C" fn handler(_: libc::c_int) {}

fn install() {
    // SAFETY: the structure is live and initialised; the handler does nothing. Without SA_RESTART, a call that blocks ends.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        libc::sigaction(WAKE, &action, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_that_are_gone_are_not_remembered() {
        for _ in 0..1000 {
            Gate::new();
        }
        // Other tests have some, too.
        assert!(lock(&GATES).len() < 500);
    }
}
