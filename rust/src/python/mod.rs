//! The bindings: one file a class. No native thread ever attaches to the interpreter, no class holds a Python object.
//! Calls that may block detach; the others take short locks that nobody holds who waits for Python.

use pyo3::prelude::*;

mod bytes;
mod chain;
mod clock;
mod engine;
mod error;
mod event;
mod guest;
mod memory;
mod queue;
mod sandbox;
mod server;
pub(crate) mod stream;

/// What this build is, for bug reports.
#[pyfunction]
fn build_info() -> std::collections::BTreeMap<&'static str, &'static str> {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    [
        ("version", env!("CARGO_PKG_VERSION")),
        ("profile", profile),
        ("vhost", "0.18.0"),
        ("vhost-user-backend", "0.24.0"),
        ("virtio-queue", "0.18.0"),
        ("vm-memory", "0.18.0"),
    ]
    .into()
}

/// The native part of the package; see `_core.pyi`.
#[pymodule(gil_used = false)]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::build_info;
    #[pymodule_export]
    use super::chain::DescriptorChain;
    #[pymodule_export]
    use super::clock::ClockPort;
    #[pymodule_export]
    use super::engine::{NativePort, PipeWirePort};
    #[pymodule_export]
    use super::event::Event;
    #[pymodule_export]
    use super::guest::{DriverQueue, GuestError, PcmRun, SoundDriver, numbered_frames};
    #[pymodule_export]
    use super::memory::{GuestBuffer, GuestMemory};
    #[pymodule_export]
    use super::queue::Virtqueue;
    #[pymodule_export]
    use super::sandbox::{
        Listener, become_user, end_with_parent, limit_resources, name_process, no_new_privileges, restrict_calls,
        restrict_files,
    };
    #[pymodule_export]
    use super::server::Server;
    #[pymodule_export]
    use super::stream::{PcmPort, PcmRouter, PcmStream};

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        m.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
