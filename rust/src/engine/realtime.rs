//! The mark that an engine's callback sets on its thread, and (feature `rtcheck`) the proof that it allocates nothing.

/// Runs `f` as an engine's real-time thread does: with feature `rtcheck` its allocations are counted.
#[inline]
pub fn real_time<T>(f: impl FnOnce() -> T) -> T {
    #[cfg(feature = "rtcheck")]
    let _scope = rtcheck::Scope::enter();
    f()
}

/// Counts the allocations that are made inside of [`real_time`]. For tests: it replaces the process's allocator.
#[cfg(feature = "rtcheck")]
pub mod rtcheck {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    thread_local!(static INSIDE: Cell<bool> = const { Cell::new(false) });

    static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
    static FREES: AtomicU64 = AtomicU64::new(0);

    /// Allocations (and reallocations) and frees so far, on every thread, inside of a callback.
    pub fn counts() -> (u64, u64) {
        (ALLOCATIONS.load(Relaxed), FREES.load(Relaxed))
    }

    pub(super) struct Scope;

    impl Scope {
        pub(super) fn enter() -> Self {
            INSIDE.set(true);
            Scope
        }
    }

    impl Drop for Scope {
        fn drop(&mut self) {
            INSIDE.set(false);
        }
    }

    struct Counting;

    #[global_allocator]
    static GLOBAL: Counting = Counting;

    // SAFETY: everything is passed on to the system's allocator; `realloc` goes through these two by default.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            ALLOCATIONS.fetch_add(u64::from(INSIDE.get()), Relaxed);
            // SAFETY: the caller's contract.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            FREES.fetch_add(u64::from(INSIDE.get()), Relaxed);
            // SAFETY: the caller's contract.
            unsafe { System.dealloc(block, layout) }
        }
    }
}
