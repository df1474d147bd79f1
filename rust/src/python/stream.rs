//! `PcmRouter`, `PcmStream` and `PcmPort`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::bytes::{self, BytesLike};
use super::engine::NativePort;
use crate::pcm::clock::{ClockPort, Kind};
use crate::pcm::router::Queues;
use crate::pcm::stream::{Mode, Shape};
use crate::pcm::wire::{S_IO_ERR, S_OK};
use crate::pcm::{Router, Stream};
use crate::vhost::Caller;

/// Hands messages to streams.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct PcmRouter(pub Arc<Router>);

#[pymethods]
impl PcmRouter {
    #[new]
    #[pyo3(signature = (streams, *, control = 0, playback = 2, capture = 3))]
    fn new(streams: Vec<PyRef<'_, PcmStream>>, control: usize, playback: usize, capture: usize) -> PyResult<Self> {
        let streams = streams.iter().map(|s| s.0.clone()).collect();
        Ok(PcmRouter(Router::new(streams, Queues { control, playback, capture })?))
    }
}

/// The device's side of a PCM stream.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct PcmStream(Arc<Stream>, Arc<ClockPort>);

#[pymethods]
impl PcmStream {
    #[new]
    fn new(stream_id: u32, capture: bool) -> Self {
        let stream = Arc::new(Stream::new(stream_id, capture));
        PcmStream(stream.clone(), ClockPort::new(stream, Kind::StandIn))
    }

    #[getter]
    fn stream_id(&self) -> u32 {
        self.0.id
    }

    #[getter]
    fn capture(&self) -> bool {
        self.0.capture
    }

    #[pyo3(signature = (*, buffer_bytes, period_bytes, frame_bytes, rate, silence = 0, polling = false))]
    fn configure(
        &self,
        buffer_bytes: usize,
        period_bytes: usize,
        frame_bytes: usize,
        rate: u32,
        silence: u8,
        polling: bool,
    ) -> PyResult<()> {
        let (buffer, period, frame) = (buffer_bytes, period_bytes, frame_bytes);
        Ok(self.0.configure(Shape { buffer, period, frame, rate, silence, polling })?)
    }

    fn accept(&self) {
        self.0.set_mode(Mode::Queue);
    }

    fn reject(&self) {
        self.0.set_mode(Mode::Reject(S_IO_ERR));
    }

    fn discard(&self) {
        self.0.set_mode(Mode::Discard);
    }

    fn start(&self, py: Python<'_>) {
        py.detach(|| self.0.start());
    }

    fn watch(&self, py: Python<'_>) {
        py.detach(|| {
            if !self.0.discards() {
                self.1.start();
            }
        });
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| {
            self.1.stop();
            self.0.stop();
        });
    }

    fn stand_in(&self) {
        self.1.give_up();
    }

    #[pyo3(signature = (*, ok = true))]
    fn flush(&self, py: Python<'_>, ok: bool) -> usize {
        py.detach(|| self.0.flush(if ok { S_OK } else { S_IO_ERR }))
    }

    fn port(&self) -> PcmPort {
        PcmPort(self.0.clone())
    }

    #[getter]
    fn ahead_bytes(&self) -> usize {
        self.0.ahead_bytes()
    }

    #[getter]
    fn kept(&self) -> (Vec<u16>, usize) {
        self.0.kept_messages()
    }

    #[setter]
    fn set_kept(&self, kept: (Vec<u16>, usize)) {
        self.0.restore_kept(kept.0, kept.1);
    }

    #[getter]
    fn read_ahead<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &py.detach(|| self.0.read_ahead()))
    }

    #[setter]
    fn set_read_ahead(&self, bytes: BytesLike) -> PyResult<()> {
        Ok(self.0.restore_read_ahead(&bytes.0)?)
    }

    #[getter]
    fn running(&self) -> bool {
        self.0.is_running()
    }

    #[getter]
    fn stats(&self) -> BTreeMap<&'static str, u64> {
        stats(&self.0)
    }

    fn __repr__(&self) -> String {
        let way = if self.0.capture { "capture" } else { "playback" };
        let state = if self.0.is_running() { "running" } else { "stopped" };
        format!("<PcmStream {} {way}, {state}>", self.0.id)
    }
}

impl Drop for PcmStream {
    /// A port that nobody closed would tick for ever.
    fn drop(&mut self) {
        self.1.close();
    }
}

fn stats(stream: &Stream) -> BTreeMap<&'static str, u64> {
    let s = &stream.stats;
    [
        ("bytes", s.bytes.load(Relaxed)),
        ("messages", s.messages.load(Relaxed)),
        ("xruns", s.xruns.load(Relaxed)),
        ("missing_bytes", s.missing.load(Relaxed)),
        ("turns", s.turns.load(Relaxed)),
        ("stalls", s.stalls.load(Relaxed)),
        ("stood_in_bytes", s.stood_in.load(Relaxed)),
        ("busy", s.busy.load(Relaxed)),
        ("queued_bytes", s.queued.load(Relaxed)),
        ("ahead_bytes", stream.ahead_bytes() as u64),
        ("latency_bytes", s.latency.load(Relaxed)),
    ]
    .into()
}

/// The engine's side of a PCM stream.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct PcmPort(pub(crate) Arc<Stream>);

impl PcmPort {
    fn check(&self, capture: bool) -> PyResult<()> {
        if self.0.capture == capture {
            return Ok(());
        }
        let text = if capture { "a playback port is read from" } else { "a capture port is written to" };
        Err(PyValueError::new_err(text))
    }

    fn whole_frames(&self, n: usize) -> usize {
        n - n % self.0.frame_bytes()
    }
}

#[pymethods]
impl PcmPort {
    #[getter]
    fn stream_id(&self) -> u32 {
        self.0.id
    }

    #[getter]
    fn capture(&self) -> bool {
        self.0.capture
    }

    #[getter]
    fn running(&self) -> bool {
        self.0.is_running()
    }

    #[getter]
    fn frame_bytes(&self) -> usize {
        self.0.frame_bytes()
    }

    #[getter]
    fn rate(&self) -> u32 {
        self.0.rate()
    }

    #[getter]
    fn period_bytes(&self) -> usize {
        self.0.period_bytes()
    }

    #[getter]
    fn silence(&self) -> u8 {
        self.0.silence()
    }

    #[pyo3(signature = (n, *, delay_bytes = 0))]
    fn read<'py>(&self, py: Python<'py>, n: usize, delay_bytes: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.check(false)?;
        let n = self.whole_frames(n.min(1 << 24));
        let data = py.detach(|| {
            let mut data = vec![0; n];
            let got = self.0.pull_as(&mut data, delay_bytes as isize, Caller::Worker);
            data.truncate(got);
            data
        });
        Ok(PyBytes::new(py, &data))
    }

    #[pyo3(signature = (buffer, *, delay_bytes = 0))]
    fn readinto(&self, buffer: &Bound<'_, PyAny>, delay_bytes: usize) -> PyResult<usize> {
        self.check(false)?;
        let whole = |n| self.whole_frames(n);
        bytes::fill(buffer, whole, |dst| self.0.pull_as(dst, delay_bytes as isize, Caller::Worker))
    }

    #[pyo3(signature = (data, *, delay_bytes = 0))]
    fn write(&self, py: Python<'_>, data: BytesLike, delay_bytes: usize) -> PyResult<usize> {
        self.check(true)?;
        let data = data.0;
        let n = self.whole_frames(data.len());
        Ok(py.detach(|| self.0.push_as(&data[..n], delay_bytes, Caller::Worker)))
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let timeout = duration(timeout)?;
        Ok(py.detach(|| self.0.wait(timeout)))
    }

    #[getter]
    fn queued_bytes(&self) -> usize {
        self.0.queued_bytes()
    }

    #[getter]
    fn stats(&self) -> BTreeMap<&'static str, u64> {
        stats(&self.0)
    }

    #[getter]
    fn native(&self) -> NativePort {
        NativePort::of(self)
    }
}

/// Seconds as Python gives them; None is for ever.
pub fn duration(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    let bad = |_| PyValueError::new_err("a time limit is a number of seconds, not negative, or None");
    seconds.map(Duration::try_from_secs_f64).transpose().map_err(bad)
}
