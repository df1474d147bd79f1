//! `Event`: what `Server.poll` tells.

use pyo3::prelude::*;

use crate::vhost::events::Event as Core;

/// Something that happened; see the stubs for the meaning of each.
#[pyclass(frozen, eq, module = "vsnd_hybrid._core")]
#[derive(Debug, PartialEq)]
pub enum Event {
    Connected(),
    Disconnected { reason: String },
    Features { features: u64 },
    Started { queue: usize, base: u16, fresh: bool },
    Stopping { queue: usize },
    Stopped { queue: usize, forced: u32 },
    StateWanted(),
    StateGiven { state: Vec<u8> },
    Kicked { queue: usize },
    ConfigWritten { offset: u32, data: Vec<u8> },
    Reset(),
    Xrun { stream: u32 },
    Fault { queue: i64, reason: String },
}

impl From<Core> for Event {
    fn from(e: Core) -> Self {
        match e {
            Core::Connected => Event::Connected(),
            Core::Disconnected { reason } => Event::Disconnected { reason },
            Core::Features { features } => Event::Features { features },
            Core::Started { queue, base, fresh } => Event::Started { queue, base, fresh },
            Core::Stopping { queue } => Event::Stopping { queue },
            Core::Stopped { queue, forced } => Event::Stopped { queue, forced },
            Core::StateWanted => Event::StateWanted(),
            Core::StateGiven { state } => Event::StateGiven { state },
            Core::Kicked { queue } => Event::Kicked { queue },
            Core::ConfigWritten { offset, data } => Event::ConfigWritten { offset, data },
            Core::Reset => Event::Reset(),
            Core::Xrun { stream } => Event::Xrun { stream },
            Core::Fault { queue, reason } => Event::Fault { queue, reason },
        }
    }
}

#[pymethods]
impl Event {
    fn __repr__(&self) -> String {
        format!("Event.{self:?}")
    }
}
