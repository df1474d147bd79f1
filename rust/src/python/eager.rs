//! `EagerPort`.

use pyo3::prelude::*;

use super::stream::PcmPort;
use crate::pcm::eager::EagerPort as Core;

/// A port that moves as fast as the guest can.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct EagerPort(Core);

#[pymethods]
impl EagerPort {
    #[new]
    fn new(port: &PcmPort) -> Self {
        EagerPort(Core::new(port.0.clone()))
    }

    fn start(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.start())?)
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}
