//! Walls around the process: who it is, which files it reaches, which system calls it makes. Linux only.
//!
//! Mechanism: which walls stand, when, and what happens where the kernel has none is decided by `service` in Python.

mod calls;
pub mod files;
pub mod filter;
pub mod privileges;

use std::str::FromStr;

/// What an engine may need beyond threads, memory, time, and the files that it named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permit {
    /// Connecting to Unix sockets: an audio server, D-Bus.
    LocalSockets,
    /// Internet sockets.
    Network,
    /// Scheduling policies, priorities and resource limits.
    RealTime,
    /// Any ioctl, for device files.
    Devices,
    /// Other programs, and whatever system calls those need that are not deadly.
    Processes,
    /// Memory that is written and then executed: code generators.
    ExecutableMemory,
}

/// Every permit by the name that Python uses.
pub const PERMITS: [(&str, Permit); 6] = [
    ("local-sockets", Permit::LocalSockets),
    ("network", Permit::Network),
    ("real-time", Permit::RealTime),
    ("devices", Permit::Devices),
    ("processes", Permit::Processes),
    ("executable-memory", Permit::ExecutableMemory),
];

impl FromStr for Permit {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = PERMITS.iter().find(|(known, _)| *known == name);
        found.map(|(_, permit)| *permit).ok_or_else(|| {
            let known: Vec<_> = PERMITS.iter().map(|(name, _)| *name).collect();
            format!("unknown permit {name:?}; known: {}", known.join(", "))
        })
    }
}
