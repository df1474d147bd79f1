//! `DescriptorChain`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::bytes::BytesLike;
use super::memory::GuestBuffer;
use crate::error::Error;
use crate::vhost::chain::{Chain, Piece};
use crate::vhost::ring::Ring;

/// `read()` copies at most this much.
const MAX_READ: usize = 1 << 20;

/// A popped chain, to be completed once.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct DescriptorChain {
    ring: Arc<Ring>,
    chain: Chain,
    completed: AtomicBool,
}

impl DescriptorChain {
    pub fn new(ring: Arc<Ring>, chain: Chain) -> Self {
        DescriptorChain { ring, chain, completed: AtomicBool::new(false) }
    }

    fn bad(&self) -> Error {
        let piece = self.chain.readable().pieces().first().copied().unwrap_or_default();
        Error::BadAddress { addr: piece.addr, len: self.chain.readable().len() }
    }
}

#[pymethods]
impl DescriptorChain {
    #[getter]
    fn queue(&self) -> usize {
        self.ring.index
    }

    #[getter]
    fn head(&self) -> u16 {
        self.chain.head
    }

    #[getter]
    fn readable(&self) -> usize {
        self.chain.readable().len()
    }

    #[getter]
    fn writable(&self) -> usize {
        self.chain.writable().len()
    }

    #[getter]
    fn malformed(&self) -> bool {
        self.chain.malformed
    }

    #[getter]
    fn stale(&self) -> bool {
        self.ring.with_live(&self.chain, |_| ()).is_none()
    }

    #[pyo3(signature = (n = -1, offset = 0))]
    fn read<'py>(&self, py: Python<'py>, n: isize, offset: usize) -> PyResult<Bound<'py, PyBytes>> {
        let left = self.chain.readable().len().saturating_sub(offset).min(MAX_READ);
        let n = usize::try_from(n).map_or(left, |n| n.min(left));
        let mut data = vec![0; n];
        match self.ring.with_live(&self.chain, |mem| self.chain.readable().read(mem, offset, &mut data)) {
            None => Ok(PyBytes::new(py, b"")),
            Some(Ok(())) => Ok(PyBytes::new(py, &data)),
            Some(Err(_)) => Err(self.bad().into()),
        }
    }

    #[pyo3(signature = (data, offset = 0))]
    fn write(&self, data: BytesLike, offset: usize) -> PyResult<usize> {
        let mut data = data.0;
        data.truncate(self.chain.writable().len().saturating_sub(offset));
        match self.ring.with_live(&self.chain, |mem| self.chain.writable().write(mem, offset, &data)) {
            None => Ok(0),
            Some(Ok(())) => Ok(data.len()),
            Some(Err(_)) => Err(self.bad().into()),
        }
    }

    fn segments(&self) -> PyResult<Vec<GuestBuffer>> {
        let mem = self.ring.memory().clone().into_inner();
        let part = |pieces: &[Piece], writable| {
            let view = |&Piece { addr, len }: &Piece| GuestBuffer::new(&mem, addr, len as usize, writable);
            pieces.iter().map(view).collect::<Result<Vec<_>, Error>>()
        };
        let mut all = part(self.chain.readable().pieces(), false)?;
        all.extend(part(self.chain.writable().pieces(), true)?);
        Ok(all)
    }

    #[pyo3(signature = (written, *, notify = true))]
    fn complete(&self, written: usize, notify: bool) -> PyResult<bool> {
        if self.completed.swap(true, Ordering::AcqRel) {
            let (queue, head) = (self.ring.index, self.chain.head);
            return Err(Error::CompletedTwice { queue, head }.into());
        }
        let written = written.min(self.chain.writable().len());
        Ok(self.ring.complete_one(self.chain.done(written, 0), notify))
    }

    fn __repr__(&self) -> String {
        format!(
            "<DescriptorChain {} of queue {}: {} readable, {} writable bytes{}>",
            self.chain.head,
            self.ring.index,
            self.chain.readable().len(),
            self.chain.writable().len(),
            if self.chain.malformed { ", malformed" } else { "" }
        )
    }
}

impl Drop for DescriptorChain {
    fn drop(&mut self) {
        if !self.completed.swap(true, Ordering::AcqRel) {
            self.ring.complete_one(self.chain.done(0, 0), true);
        }
    }
}
