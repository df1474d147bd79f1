//! `DriverQueue`.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use pyo3::prelude::*;

use super::{seconds, wait_slices};
use crate::guest::{Descriptor, Kick, Piece, SharedQueue};

/// The driver's side of one split virtqueue.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct DriverQueue {
    pub queue: Arc<SharedQueue>,
    /// The device accepted indirect descriptors.
    pub indirect: bool,
}

type Raw = (u64, u32, u16, u16);

fn descriptors(raw: Vec<Raw>) -> Vec<Descriptor> {
    raw.into_iter().map(|(addr, len, flags, next)| Descriptor { addr, len, flags, next }).collect()
}

#[pymethods]
impl DriverQueue {
    #[getter]
    fn index(&self) -> usize {
        self.queue.lock().index()
    }

    #[getter]
    fn size(&self) -> u16 {
        self.queue.lock().size()
    }

    #[getter]
    fn free(&self) -> usize {
        self.queue.lock().free()
    }

    #[getter]
    fn avail_index(&self) -> u16 {
        self.queue.lock().avail_index()
    }

    #[getter]
    fn used_index(&self) -> u16 {
        self.queue.lock().used_index()
    }

    #[getter]
    fn reaped_index(&self) -> u16 {
        self.queue.lock().reaped_index()
    }

    #[getter]
    fn avail_event(&self) -> u16 {
        self.queue.lock().ring().avail_event()
    }

    #[getter]
    fn kicks_off(&self) -> bool {
        self.queue.lock().ring().kicks_off()
    }

    #[getter]
    fn kicks(&self) -> u64 {
        self.queue.lock().kicks()
    }

    #[getter]
    fn signals(&self) -> u64 {
        self.queue.lock().signals()
    }

    #[getter]
    fn parts(&self) -> (u64, u64, u64) {
        self.queue.lock().ring().parts()
    }

    #[getter]
    fn user_parts(&self) -> (u64, u64, u64) {
        let at = self.queue.lock().ring().user_addr();
        (at.desc, at.avail, at.used)
    }

    #[getter]
    fn kick_fd(&self) -> RawFd {
        self.queue.lock().kick_fd().as_raw_fd()
    }

    #[getter]
    fn call_fd(&self) -> RawFd {
        self.queue.lock().call_fd().as_raw_fd()
    }

    fn new_kick(&self) -> PyResult<()> {
        Ok(self.queue.lock().replace_kick()?)
    }

    fn new_call(&self) -> PyResult<()> {
        let old = self.queue.lock().replace_call()?;
        // Whoever waits on it turns to the new one. At its limit the counter wakes anyway.
        let _ = old.write(1);
        Ok(())
    }

    #[pyo3(signature = (pieces, *, indirect = true))]
    fn push(&self, pieces: Vec<(u64, u32, bool)>, indirect: bool) -> PyResult<u16> {
        let pieces: Vec<Piece> =
            pieces.into_iter().map(|(addr, len, writable)| Piece { addr, len, writable }).collect();
        Ok(self.queue.lock().push(&pieces, indirect && self.indirect)?)
    }

    fn push_raw(&self, raw: Vec<Raw>) -> PyResult<u16> {
        Ok(self.queue.lock().push_raw(&descriptors(raw))?)
    }

    fn write_descriptor(&self, index: u16, raw: Raw) -> PyResult<()> {
        let [d] = [raw].map(|(addr, len, flags, next)| Descriptor { addr, len, flags, next });
        Ok(self.queue.lock().ring().write_descriptor(index, d)?)
    }

    fn write_table(&self, addr: u64, raw: Vec<Raw>) -> PyResult<()> {
        Ok(self.queue.lock().ring().write_table(addr, &descriptors(raw))?)
    }

    fn offer(&self, head: u16) {
        self.queue.lock().offer(head);
    }

    fn set_avail_index(&self, index: u16) {
        self.queue.lock().set_avail_index(index);
    }

    #[pyo3(signature = (kick = None))]
    fn publish(&self, kick: Option<bool>) -> bool {
        let how = match kick {
            None => Kick::Asked,
            Some(true) => Kick::Always,
            Some(false) => Kick::Never,
        };
        self.queue.lock().publish(how)
    }

    fn kick(&self) {
        self.queue.lock().kick();
    }

    fn reap(&self) -> Vec<(u32, u32, bool)> {
        let mut queue = self.queue.lock();
        std::iter::from_fn(|| queue.reap()).map(|u| (u.head, u.len, u.known)).collect()
    }

    #[pyo3(signature = (n = 1, timeout = 1.0))]
    fn wait(&self, py: Python<'_>, n: u16, timeout: f64) -> PyResult<bool> {
        wait_slices(py, seconds(timeout)?, |slice| self.queue.wait(n, slice))
    }

    fn __repr__(&self) -> String {
        let q = self.queue.lock();
        format!("<DriverQueue {}: size {}, avail {}, used {}>", q.index(), q.size(), q.avail_index(), q.used_index())
    }
}
