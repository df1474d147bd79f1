//! What audio engines call back: `extern "C"` ports between an engine's buffer and a stream's guest memory.
//!
//! Nothing is linked: functions of an engine come as addresses, so the extension loads where none is
//! installed. Setting an engine up is not done here but in Python. Every callback runs on the engine's
//! real-time thread: it allocates nothing, blocks on nothing and logs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub mod pipewire;
pub mod plain;

/// Something that C code refers to by address.
///
/// The C side owns a reference from [`Lent::address`] to [`Lent::take_back`]. What is never taken back
/// is leaked, rather than left dangling in an engine that may still call.
#[derive(Debug)]
pub struct Lent<T> {
    inner: Arc<T>,
    lent: AtomicBool,
}

impl<T> Lent<T> {
    /// Not lent yet.
    pub fn new(inner: T) -> Self {
        Self { inner: Arc::new(inner), lent: AtomicBool::new(false) }
    }

    /// The address for the C side, the same at each call; valid until [`Lent::take_back`].
    pub fn address(&self) -> usize {
        if !self.lent.swap(true, Ordering::AcqRel) {
            std::mem::forget(self.inner.clone());
        }
        Arc::as_ptr(&self.inner) as usize
    }

    /// Only after the C side promised not to use the address again. Idempotent.
    pub fn take_back(&self) {
        if self.lent.swap(false, Ordering::AcqRel) {
            // SAFETY: gives back the one reference that `address` forgot; ours keeps the object alive.
            unsafe { Arc::decrement_strong_count(Arc::as_ptr(&self.inner)) };
        }
    }
}

impl<T> std::ops::Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_outlives_its_owner_until_it_is_taken_back() {
        let alive = Arc::new(());
        let lent = Lent::new(alive.clone());
        assert_eq!(lent.address(), lent.address());
        lent.take_back();
        lent.take_back();
        drop(lent);
        assert_eq!(Arc::strong_count(&alive), 1);

        let leaked = Lent::new(alive.clone());
        leaked.address();
        drop(leaked);
        assert_eq!(Arc::strong_count(&alive), 2);
    }
}
