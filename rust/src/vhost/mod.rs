//! A vhost-user device server for any device: listener, connection, rings, chains, guest memory, events.
//! Nothing here knows of sound or of Python.

mod call;
pub mod chain;
pub mod connection;
pub mod device;
pub mod events;
pub mod exchange;
mod gate;
pub mod inflight;
mod lobby;
pub mod memory;
mod messages;
pub mod ring;
pub mod server;
mod sigbus;
pub mod socket;
pub mod sync;
mod transfer;
pub mod worker;

/// Guest memory without a dirty log.
pub type Mem = vm_memory::GuestMemoryMmap<()>;
/// The shared, replaceable handle to it that the rust-vmm crates pass around.
pub type MemHandle = vm_memory::GuestMemoryAtomic<Mem>;

/// Take a lock even if a panic poisoned it: all guarded data stays structurally valid. Not for callbacks.
pub fn lock<T>(m: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    crate::realtime::may_wait();
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Who calls: a thread that may wait, or an engine's real-time callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Waits for locks, may allocate.
    Worker,
    /// Tries locks, allocates nothing.
    RealTime,
}
