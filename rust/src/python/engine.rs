//! Bindings of the engine ports. Their addresses go to an engine's C code; no callback enters Python.

use std::collections::HashMap;
use std::ffi::c_void;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::stream::PcmPort;
use crate::engine::Lent;
use crate::engine::pipewire::{Functions, PipeWirePort as Core};
use crate::engine::plain::{PlainPort, transfer};

/// An address that Python gives (`int(ffi.cast("uintptr_t", function))`) as a function pointer.
///
/// # Safety
/// `F` is the function pointer type of what is at the address.
unsafe fn function<F: Copy>(name: &str, address: usize) -> PyResult<F> {
    const { assert!(size_of::<F>() == size_of::<usize>()) };
    if address == 0 {
        return Err(PyValueError::new_err(format!("{name}: a null address")));
    }
    // SAFETY: the same size, and the contract.
    Ok(unsafe { std::mem::transmute_copy(&address) })
}

/// See `_core.pyi`.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct PipeWirePort(Lent<Core>);

#[pymethods]
impl PipeWirePort {
    #[new]
    #[pyo3(signature = (port, *, dequeue, queue, get_time))]
    fn new(port: &PcmPort, dequeue: usize, queue: usize, get_time: usize) -> PyResult<Self> {
        // SAFETY: the caller names functions of libpipewire's public ABI.
        let functions = unsafe {
            Functions {
                dequeue: function("dequeue", dequeue)?,
                queue: function("queue", queue)?,
                get_time: function("get_time", get_time)?,
            }
        };
        Ok(Self(Lent::new(Core::new(port.0.clone(), functions))))
    }

    #[getter]
    fn process(&self) -> usize {
        self.0.process() as usize
    }

    #[getter]
    fn userdata(&self) -> usize {
        self.0.address()
    }

    fn set_stream(&self, py: Python<'_>, address: usize) {
        py.detach(|| self.0.set_stream(address as *mut c_void));
    }

    #[getter]
    fn stats(&self) -> HashMap<&'static str, i64> {
        HashMap::from([
            ("calls", self.0.calls() as i64),
            ("delay_frames", self.0.delay_frames()),
            ("quantum_frames", self.0.quantum_frames() as i64),
        ])
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.set_stream(std::ptr::null_mut()));
        self.0.take_back();
    }
}

/// See `_core.pyi`.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct NativePort(Lent<PlainPort>);

impl NativePort {
    /// The native side of a port, for its `native`.
    pub(super) fn of(port: &PcmPort) -> Self {
        Self(Lent::new(PlainPort::new(port.0.clone())))
    }
}

#[pymethods]
impl NativePort {
    #[getter]
    fn transfer(&self) -> usize {
        transfer as *const () as usize
    }

    #[getter]
    fn context(&self) -> usize {
        self.0.address()
    }

    fn close(&self) {
        self.0.take_back();
    }
}
