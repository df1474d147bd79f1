//! `ClockPort`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::bytes::BytesLike;
use super::stream::{PcmPort, duration};
use crate::pcm::clock::{ClockPort as Core, Kind};

/// A port paced by the clock.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct ClockPort(Arc<Core>);

#[pymethods]
impl ClockPort {
    #[new]
    #[pyo3(signature = (port, *, tap = false))]
    fn new(port: &PcmPort, tap: bool) -> Self {
        ClockPort(Core::new(port.0.clone(), if tap { Kind::Tapped } else { Kind::Plain }))
    }

    fn start(&self, py: Python<'_>) {
        py.detach(|| self.0.start());
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }

    #[pyo3(signature = (timeout = None))]
    fn take<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let timeout = duration(timeout)?;
        let data = py.detach(|| self.0.take(timeout));
        Ok(data.map(|d| PyBytes::new(py, &d)))
    }

    #[pyo3(signature = (data, timeout = None))]
    fn feed(&self, py: Python<'_>, data: BytesLike, timeout: Option<f64>) -> PyResult<usize> {
        let (data, timeout) = (data.0, duration(timeout)?);
        Ok(py.detach(|| self.0.feed(&data, timeout)))
    }

    #[getter]
    fn stats(&self) -> BTreeMap<&'static str, u64> {
        let s = &self.0.stats;
        [
            ("ticks", s.ticks.load(Relaxed)),
            ("bytes", s.bytes.load(Relaxed)),
            ("late", s.late.load(Relaxed)),
            ("dropped_bytes", s.dropped.load(Relaxed)),
        ]
        .into()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

impl Drop for ClockPort {
    /// A port that nobody closed would tick for ever.
    fn drop(&mut self) {
        self.0.close();
    }
}
