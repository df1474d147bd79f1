//! What can go wrong on the driver's side. Each message is one line for the user.

use std::io;

/// A request to the device failed, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The socket cannot be reached.
    #[error("cannot connect to {socket}: {source}")]
    Connect { socket: String, source: io::Error },
    /// The device said nothing in time.
    #[error("the device did not answer {what} within {seconds} s")]
    Timeout { what: String, seconds: f64 },
    /// The other end closed the socket.
    #[error("the device closed the connection ({0})")]
    Disconnected(String),
    /// A reply that the protocol does not allow, or a refusal by REPLY_ACK.
    #[error("vhost-user: {0}")]
    Protocol(String),
    /// A sound request was answered with a status other than OK.
    #[error("the device refused {what}: {status}")]
    Refused { what: String, status: String },
    /// The guest has no memory left for what was asked.
    #[error("guest memory is full: {0} bytes wanted; give the guest more memory")]
    NoMemory(u64),
    /// An address that is not in the guest's memory.
    #[error("address {addr:#x} + {len} is not in the guest's memory")]
    BadAddress { addr: u64, len: u64 },
    /// A queue has no free descriptors for a chain.
    #[error("queue {queue} is full: a chain of {wanted} descriptors, {free} of {size} free")]
    QueueFull { queue: usize, wanted: usize, free: usize, size: u16 },
    /// An argument that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The device was reset or the connection cut while a stream ran.
    #[error("the stream was cut off: {0}")]
    Aborted(String),
    /// The operating system refused.
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
}

impl GuestError {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| GuestError::System { what, source }
    }
}

/// Result of this module.
pub type Result<T> = std::result::Result<T, GuestError>;
