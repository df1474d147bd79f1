//! `PcmRun`.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::{seconds, wait_slices};
use crate::guest::{Message, Report, Run};

/// A stream that plays or records in the background.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct PcmRun(pub Run);

/// A message as Python gets it.
type Row = (u32, u64, u64, u32, u32, u32);

fn row(m: &Message) -> Row {
    (m.bytes, m.queued_ns, m.done_ns, m.status, m.latency_bytes, m.used_len)
}

fn report<'py>(py: Python<'py>, r: &Report) -> PyResult<Bound<'py, PyDict>> {
    let d = PyDict::new(py);
    d.set_item("messages", r.messages.iter().map(row).collect::<Vec<_>>())?;
    d.set_item("recorded", PyBytes::new(py, &r.recorded))?;
    d.set_item("aborted", r.aborted.as_deref())?;
    for (name, value) in [
        ("bytes", r.bytes),
        ("kicks", r.kicks),
        ("signals", r.signals),
        ("kicks_running", r.kicks_running),
        ("signals_running", r.signals_running),
        ("xruns", r.xruns),
        ("started_ns", r.started_ns),
        ("stopping_ns", r.stopping_ns),
        ("ended_ns", r.ended_ns),
        ("unreturned", r.unreturned as u64),
    ] {
        d.set_item(name, value)?;
    }
    Ok(d)
}

#[pymethods]
impl PcmRun {
    #[getter]
    fn progress(&self) -> (usize, u64) {
        self.0.progress()
    }

    #[pyo3(signature = (timeout = None))]
    fn wait_done(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let limit = timeout.map_or(Ok(Duration::MAX), seconds)?;
        wait_slices(py, limit, |slice| self.0.wait_done(slice))
    }

    #[pyo3(signature = (n, timeout = None))]
    fn wait_messages(&self, py: Python<'_>, n: usize, timeout: Option<f64>) -> PyResult<bool> {
        let limit = timeout.map_or(Ok(Duration::MAX), seconds)?;
        wait_slices(py, limit, |slice| self.0.wait_messages(n, slice))
    }

    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.pause())?)
    }

    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.resume())?)
    }

    fn starve(&self, on: bool) -> PyResult<()> {
        Ok(self.0.starve(on)?)
    }

    #[pyo3(signature = (*, release = true))]
    fn stop<'py>(&self, py: Python<'py>, release: bool) -> PyResult<Bound<'py, PyDict>> {
        let r = py.detach(|| self.0.stop(release))?;
        report(py, &r)
    }
}
