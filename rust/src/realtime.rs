//! Threads that must be in time: their priority, and the mark that an engine's callback sets on its thread. With feature `rtcheck`, for tests, a callback that allocates, frees
//! or takes a lock that could make it wait ends the process and says so.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// Runs `f` as an engine's real-time thread does.
#[inline]
pub fn real_time<T>(f: impl FnOnce() -> T) -> T {
    #[cfg(feature = "rtcheck")]
    let _scope = rtcheck::Scope::enter();
    f()
}

/// What follows may wait, so no callback may come here.
#[inline(always)]
pub fn may_wait() {
    #[cfg(feature = "rtcheck")]
    rtcheck::forbid("takes a lock that it could have to wait for");
}

/// For [`take_priority`]; 0: none.
static PRIORITY: AtomicI32 = AtomicI32::new(0);

/// The SCHED_FIFO priority of the threads that say [`take_priority`] from now on; 0: they are as others.
pub fn set_priority(priority: i32) {
    PRIORITY.store(priority, Relaxed);
}

/// The calling thread moves audio: it runs before others, with the priority that was set. EPERM where that is not permitted.
pub fn take_priority() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: PRIORITY.load(Relaxed) };
    // SAFETY: 0 is the calling thread; `param` is read.
    if param.sched_priority > 0 && unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &param) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The proof. It replaces the process's allocator.
#[cfg(feature = "rtcheck")]
pub mod rtcheck {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    thread_local!(static INSIDE: Cell<bool> = const { Cell::new(false) });

    static CALLBACKS: AtomicU64 = AtomicU64::new(0);

    /// Callbacks that were watched so far, on every thread.
    pub fn callbacks() -> u64 {
        CALLBACKS.load(Relaxed)
    }

    /// Ends the process if this thread is inside of a callback: a panic would allocate.
    pub(super) fn forbid(what: &str) {
        if INSIDE.get() {
            for part in ["rtcheck: an engine's callback ", what, "; a debugger shows where\n"] {
                // SAFETY: standard error and so many readable bytes.
                unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
            }
            std::process::abort();
        }
    }

    pub(super) struct Scope;

    impl Scope {
        pub(super) fn enter() -> Self {
            CALLBACKS.fetch_add(1, Relaxed);
            INSIDE.set(true);
            Scope
        }
    }

    impl Drop for Scope {
        fn drop(&mut self) {
            INSIDE.set(false);
        }
    }

    struct Forbidding;

    #[global_allocator]
    static GLOBAL: Forbidding = Forbidding;

    // SAFETY: everything is passed on to the system's allocator; `realloc` goes through these two by default.
    unsafe impl GlobalAlloc for Forbidding {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            forbid("allocates");
            // SAFETY: the caller's contract.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            forbid("frees memory");
            // SAFETY: the caller's contract.
            unsafe { System.dealloc(block, layout) }
        }
    }
}
