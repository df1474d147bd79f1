//! `GuestMemory` and `GuestBuffer`.

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryBackend};

use crate::error::Error;
use crate::vhost::device::Device;
use crate::vhost::{Mem, memory};

/// The memory that the front end shares.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct GuestMemory(pub Arc<Device>);

#[pymethods]
impl GuestMemory {
    #[getter]
    fn regions(&self) -> Vec<(u64, u64)> {
        memory::regions(&self.0.memory().memory())
    }

    #[getter]
    fn generation(&self) -> u64 {
        self.0.stats.memory_updates.load(Relaxed)
    }

    fn read<'py>(&self, py: Python<'py>, addr: u64, n: usize) -> PyResult<Bound<'py, PyBytes>> {
        let mem = self.0.memory().memory();
        let bad = Error::BadAddress { addr, len: n };
        let end = addr.checked_add(n as u64).is_some();
        let total: u64 = memory::regions(&mem).iter().map(|r| r.1).sum();
        if !end || n as u64 > total {
            return Err(bad.into());
        }
        let mut data = vec![0; n];
        mem.read_slice(&mut data, GuestAddress(addr)).map_err(|_| bad)?;
        Ok(PyBytes::new(py, &data))
    }

    fn view(&self, addr: u64, n: usize) -> PyResult<GuestBuffer> {
        let mem = self.0.memory().memory().clone().into_inner();
        Ok(GuestBuffer::new(&mem, addr, n, false)?)
    }
}

/// A window into guest memory; keeps the memory mapped.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct GuestBuffer {
    _mem: Arc<Mem>,
    addr: u64,
    /// Where it is mapped; valid as long as `_mem`.
    host: usize,
    len: usize,
    writable: bool,
}

impl GuestBuffer {
    pub fn new(mem: &Arc<Mem>, addr: u64, len: usize, writable: bool) -> Result<Self, Error> {
        let slice = mem.get_slice(GuestAddress(addr), len).map_err(|_| Error::BadAddress { addr, len })?;
        let host = slice.ptr_guard().as_ptr() as usize;
        Ok(GuestBuffer { _mem: mem.clone(), addr, host, len, writable })
    }
}

#[pymethods]
impl GuestBuffer {
    #[getter]
    fn addr(&self) -> u64 {
        self.addr
    }

    #[getter]
    fn writable(&self) -> bool {
        self.writable
    }

    fn __len__(&self) -> usize {
        self.len
    }

    /// # Safety
    /// Called by the interpreter only.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        if !this.writable && flags & ffi::PyBUF_WRITABLE != 0 {
            return Err(PyBufferError::new_err("the device may only read this guest memory"));
        }
        // SAFETY: `view` comes from the interpreter; the memory stays mapped while the object, of which the view holds a
        // reference, lives. The guest may write meanwhile, so Python sees bytes, never a Rust reference.
        let rc = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                this.host as *mut c_void,
                this.len as isize,
                c_int::from(!this.writable),
                flags,
            )
        };
        if rc == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }

    fn __repr__(&self) -> String {
        let access = if self.writable { "writable" } else { "read-only" };
        format!("<GuestBuffer {:#x}..+{:#x}, {access}>", self.addr, self.len)
    }
}
