//! `Server`.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;

use super::bytes::BytesLike;
use super::error::with_path;
use super::event::Event;
use super::memory::GuestMemory;
use super::queue::Virtqueue;
use super::sandbox::Listener;
use super::stream::PcmRouter;
use crate::vhost::device::{Device, QueueHandler, Spec};
use crate::vhost::events::EventQueue;
use crate::vhost::server::Server as Core;

/// Serves one vhost-user device to one front end after the other.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct Server(Core);

/// What can be served.
#[derive(FromPyObject)]
enum Socket<'py> {
    Descriptor(RawFd),
    Bound(Bound<'py, Listener>),
    Path(PathBuf),
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (*, queues, config = None, features = 0, device_owned = vec![], router = None))]
    fn new(
        py: Python<'_>,
        queues: usize,
        config: Option<BytesLike>,
        features: u64,
        device_owned: Vec<usize>,
        router: Option<&PcmRouter>,
    ) -> PyResult<Self> {
        let config = config.map_or(Vec::new(), |c| c.0);
        let events = Arc::new(EventQueue::new()?);
        let spec = Spec { queues, features, config, device_owned };
        let handler = router.map(|r| r.0.clone() as Arc<dyn QueueHandler>);
        let device = Device::new(spec, events.clone(), handler)?;
        if let Some(r) = router
            && let Err(e) = r.0.bind(&events)
        {
            py.detach(|| device.close());
            return Err(e.into());
        }
        Ok(Server(Core::new(device)?))
    }

    #[pyo3(signature = (socket, *, mode = 0o600))]
    fn listen(&self, py: Python<'_>, socket: Socket<'_>, mode: u32) -> PyResult<()> {
        match socket {
            Socket::Descriptor(fd) => Ok(py.detach(|| self.0.listen_fd(fd))?),
            Socket::Bound(listener) => {
                let (socket, file) = listener.get().take()?;
                Ok(py.detach(|| self.0.listen_on(socket, file))?)
            }
            Socket::Path(path) => py.detach(|| self.0.listen(&path, mode)).map_err(|e| with_path(e, path)),
        }
    }

    fn fileno(&self) -> RawFd {
        self.0.device().events.as_raw_fd()
    }

    #[pyo3(signature = (max_events = 64))]
    fn poll(&self, max_events: usize) -> Vec<Event> {
        let events = self.0.device().take_events(max_events);
        events.into_iter().map(Event::from).collect()
    }

    #[getter]
    fn pending(&self) -> usize {
        self.0.device().events.len()
    }

    fn queue(&self, index: usize) -> PyResult<Virtqueue> {
        let ring = self.0.device().rings().get(index).cloned();
        let events = self.0.device().events.clone();
        ring.map(|ring| Virtqueue { ring, events }).ok_or_else(|| {
            PyIndexError::new_err(format!("no queue {index}: there are {}", self.0.device().rings().len()))
        })
    }

    fn set_config(&self, config: BytesLike) {
        self.0.device().set_config(config.0);
    }

    #[getter]
    fn keeps_state(&self) -> bool {
        self.0.device().keeps_state()
    }

    fn keep_state(&self, state: BytesLike) -> bool {
        self.0.device().keep_state(&state.0)
    }

    #[pyo3(signature = (state))]
    fn answer_state(&self, state: Option<BytesLike>) {
        self.0.device().answer_state(state.map(|s| s.0));
    }

    #[getter]
    fn memory(&self) -> GuestMemory {
        GuestMemory(self.0.device().clone())
    }

    #[getter]
    fn connected(&self) -> bool {
        self.0.is_connected()
    }

    #[getter]
    fn serving(&self) -> bool {
        self.0.is_serving()
    }

    #[getter]
    fn stats(&self) -> BTreeMap<&'static str, u64> {
        let d = self.0.device();
        [
            ("connections", d.stats.connections.load(Relaxed)),
            ("connected", u64::from(self.0.is_connected())),
            ("events_pending", d.events.len() as u64),
            ("memory_updates", d.stats.memory_updates.load(Relaxed)),
            ("messages", d.stats.messages.load(Relaxed)),
        ]
        .into()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}
