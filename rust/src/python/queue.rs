//! `Virtqueue`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pyo3::prelude::*;

use super::chain::DescriptorChain;
use crate::vhost::events::{Event, EventQueue};
use crate::vhost::ring::Ring;

/// One split virtqueue of a server.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct Virtqueue {
    pub ring: Arc<Ring>,
    pub events: Arc<EventQueue>,
}

#[pymethods]
impl Virtqueue {
    #[getter]
    fn index(&self) -> usize {
        self.ring.index
    }

    #[getter]
    fn size(&self) -> u16 {
        self.ring.size()
    }

    #[getter]
    fn running(&self) -> bool {
        self.ring.is_running()
    }

    fn pop(&self) -> Option<DescriptorChain> {
        match self.ring.pop_one() {
            Ok(chain) => chain.map(|c| DescriptorChain::new(self.ring.clone(), c)),
            Err(e) => {
                // Once a ring's life: from now on it is broken.
                self.events.offer(Event::Fault { queue: self.ring.index as i64, reason: e.to_string() });
                None
            }
        }
    }

    fn notify(&self) -> bool {
        self.ring.notify()
    }

    fn suppress_kicks(&self, on: bool) {
        self.ring.pulled(on);
        if !on {
            self.ring.nudge();
        }
    }

    #[getter]
    fn stats(&self) -> BTreeMap<&'static str, u64> {
        let s = &self.ring.stats;
        [
            ("popped", s.popped.load(Relaxed)),
            ("completed", s.completed.load(Relaxed)),
            ("signals", s.signals.load(Relaxed)),
            ("kicks", s.kicks.load(Relaxed)),
            ("forced", s.forced.load(Relaxed)),
            ("in_flight", u64::from(self.ring.in_flight())),
        ]
        .into()
    }

    fn __repr__(&self) -> String {
        let state = if self.ring.is_running() { "running" } else { "stopped" };
        format!("<Virtqueue {} {state}, size {}>", self.ring.index, self.ring.size())
    }
}
