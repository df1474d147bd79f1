//! The extension module `_core`: the list of what Python sees, nothing else. The rooms have no pyo3 in them.

pub mod engine;
pub mod error;
pub mod guest;
pub mod pcm;
#[cfg(feature = "python")]
mod python;
pub mod realtime;
pub mod sandbox;
pub mod vhost;
