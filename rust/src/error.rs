//! The one error type of the rooms without Python; `python/error.rs` turns it into exceptions.

use std::io;

use thiserror::Error;

/// What can go wrong where a caller can be told.
#[derive(Debug, Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The driver gave an address outside of the memory it shares.
    #[error("guest address {addr:#x}..+{len:#x} is outside of the guest's memory")]
    BadAddress { addr: u64, len: usize },
    /// A parameter of a call makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A chain was given back before.
    #[error("descriptor chain {head} of queue {queue} was completed before")]
    CompletedTwice { queue: usize, head: u16 },
}

/// The result of everything that can fail with `Error`.
pub type Result<T> = std::result::Result<T, Error>;
