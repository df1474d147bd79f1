//! `Virtqueue`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pyo3::prelude::*;

use super::chain::DescriptorChain;
use crate::vhost::Caller;
use crate::vhost::ring::Ring;

/// One split virtqueue of a server.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct Virtqueue(pub Arc<Ring>);

#[pymethods]
impl Virtqueue {
    #[getter]
    fn index(&self) -> usize {
        self.0.index
    }

    #[getter]
    fn size(&self) -> u16 {
        self.0.size()
    }

    #[getter]
    fn running(&self) -> bool {
        self.0.is_running()
    }

    fn pop(&self) -> PyResult<Option<DescriptorChain>> {
        let mut one = VecDeque::with_capacity(1);
        self.0.pop(&mut one, 1, Caller::Worker)?;
        Ok(one.pop_front().map(|c| DescriptorChain::new(self.0.clone(), c)))
    }

    fn notify(&self) -> bool {
        self.0.notify()
    }

    fn suppress_kicks(&self, on: bool) {
        self.0.pulled(on);
        if !on {
            self.0.nudge();
        }
    }

    #[getter]
    fn stats(&self) -> BTreeMap<&'static str, u64> {
        let s = &self.0.stats;
        [
            ("popped", s.popped.load(Relaxed)),
            ("completed", s.completed.load(Relaxed)),
            ("signals", s.signals.load(Relaxed)),
            ("kicks", s.kicks.load(Relaxed)),
            ("forced", s.forced.load(Relaxed)),
            ("in_flight", u64::from(self.0.in_flight())),
        ]
        .into()
    }

    fn __repr__(&self) -> String {
        let state = if self.0.is_running() { "running" } else { "stopped" };
        format!("<Virtqueue {} {state}, size {}>", self.0.index, self.0.size())
    }
}
