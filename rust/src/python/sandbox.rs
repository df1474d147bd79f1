//! Walls around the process as functions, and `Listener`: the socket that is bound before they stand.

use std::ffi::CString;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Mutex;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use super::error::with_path;
use crate::sandbox::{Permit, files, filter, privileges};
use crate::vhost::lock;
use crate::vhost::socket::{self, SocketFile};

/// A bound socket.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct Listener(Mutex<Option<(UnixListener, SocketFile)>>);

impl Listener {
    /// What it holds, for good.
    pub fn take(&self) -> PyResult<(UnixListener, SocketFile)> {
        lock(&self.0).take().ok_or_else(gone)
    }
}

fn gone() -> PyErr {
    PyValueError::new_err("the listener is served, or was closed")
}

#[pymethods]
impl Listener {
    #[new]
    #[pyo3(signature = (path, *, mode = 0o600, group = None))]
    fn new(path: PathBuf, mode: u32, group: Option<u32>) -> PyResult<Self> {
        let made = socket::bind(&path, mode, group).map_err(|e| with_path(e, path))?;
        Ok(Listener(Mutex::new(Some(made))))
    }

    fn fileno(&self) -> PyResult<RawFd> {
        lock(&self.0).as_ref().map(|(socket, _)| socket.as_raw_fd()).ok_or_else(gone)
    }

    fn close(&self) {
        if let Some((_, file)) = lock(&self.0).take() {
            file.remove();
        }
    }
}

#[pyfunction]
pub fn no_new_privileges() -> PyResult<()> {
    Ok(privileges::no_new_privileges()?)
}

#[pyfunction]
pub fn end_with_parent(parent: i32) -> PyResult<()> {
    Ok(privileges::end_with_parent(parent)?)
}

#[pyfunction]
pub fn name_process(name: CString) -> PyResult<()> {
    Ok(privileges::name_process(&name)?)
}

#[pyfunction]
#[pyo3(signature = (*, open_files))]
pub fn limit_resources(open_files: u64) -> PyResult<()> {
    Ok(privileges::limit_resources(open_files)?)
}

#[pyfunction]
pub fn become_user(uid: u32, gid: u32) -> PyResult<()> {
    Ok(privileges::become_user(uid, gid)?)
}

fn permits(names: &[String]) -> PyResult<Vec<Permit>> {
    names.iter().map(|name| name.parse().map_err(PyValueError::new_err)).collect()
}

#[pyfunction]
#[pyo3(signature = (permits, *, read, write, sockets, required))]
pub fn restrict_files(
    permits: Vec<String>,
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    sockets: Vec<PathBuf>,
    required: bool,
) -> PyResult<i32> {
    let reach = files::Reach { read, write, sockets };
    files::restrict(&reach, &self::permits(&permits)?, required).map_err(|e| PyOSError::new_err(e.to_string()))
}

#[pyfunction]
pub fn restrict_calls(permits: Vec<String>) -> PyResult<()> {
    Ok(filter::restrict(&self::permits(&permits)?)?)
}
