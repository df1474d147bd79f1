//! `SoundDriver`.

use std::os::fd::{BorrowedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::super::bytes::BytesLike;
use super::{DriverQueue, PcmRun, seconds, wait_slices};
use crate::guest::{Driver, FloodOptions, Options, PcmParams, ResetStyle, Shape, Socket, Starve, StreamOptions};

/// A vhost-user front end with memory, queues and a virtio-snd driver.
#[pyclass(frozen, module = "vsnd_hybrid._core")]
pub struct SoundDriver(Arc<Driver>);

#[derive(FromPyObject)]
enum Place {
    Descriptor(RawFd),
    Path(PathBuf),
}

fn open(place: Place) -> PyResult<Socket> {
    Ok(match place {
        Place::Path(path) => Socket::Path(path),
        Place::Descriptor(fd) if fd < 0 => return Err(PyValueError::new_err(format!("{fd} is no descriptor"))),
        Place::Descriptor(fd) => {
            // SAFETY: only duplicated here, which fails if it is not open.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            Socket::Fd(fd.try_clone_to_owned()?)
        }
    })
}

fn reset_style(name: &str) -> PyResult<ResetStyle> {
    Ok(match name {
        "qemu" => ResetStyle::Qemu,
        "crosvm" => ResetStyle::Crosvm,
        "libkrun" => ResetStyle::Libkrun,
        "reset-device" => ResetStyle::ResetDevice,
        _ => {
            let text = format!("no reset {name:?}: expected qemu, crosvm, libkrun or reset-device");
            return Err(PyValueError::new_err(text));
        }
    })
}

#[pymethods]
impl SoundDriver {
    #[new]
    #[pyo3(signature = (socket, *, queue_size = 64, regions = None, event_idx = true, indirect = true, features = None,
        protocol_features = None, need_reply = false, kick_at_start = true, events = true, handshake = true,
        rings_in = None, buffers_in = None, connect_timeout = 5.0, request_timeout = 1.0))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python")]
    fn new(
        py: Python<'_>,
        socket: Place,
        queue_size: u16,
        regions: Option<Vec<(u64, u64)>>,
        event_idx: bool,
        indirect: bool,
        features: Option<u64>,
        protocol_features: Option<u64>,
        need_reply: bool,
        kick_at_start: bool,
        events: bool,
        handshake: bool,
        rings_in: Option<usize>,
        buffers_in: Option<usize>,
        connect_timeout: f64,
        request_timeout: f64,
    ) -> PyResult<Self> {
        let default = Options::default();
        let options = Options {
            queue_size,
            regions: regions.unwrap_or(default.regions),
            event_idx,
            indirect,
            features,
            protocol_features: protocol_features.unwrap_or(default.protocol_features),
            need_reply,
            kick_at_start,
            events,
            handshake,
            rings_in,
            buffers_in,
            connect_timeout: seconds(connect_timeout)?,
            request_timeout: seconds(request_timeout)?,
        };
        let socket = open(socket)?;
        Ok(SoundDriver(py.detach(|| Driver::connect(socket, options))?))
    }

    #[getter]
    fn offered(&self) -> u64 {
        self.0.offered()
    }

    #[getter]
    fn features(&self) -> u64 {
        self.0.features()
    }

    #[getter]
    fn protocol_features(&self) -> u64 {
        self.0.frontend().protocol_features()
    }

    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.config())
    }

    fn queue(&self, index: usize) -> PyResult<DriverQueue> {
        Ok(DriverQueue { queue: self.0.queue(index)?.clone(), indirect: self.0.indirect() })
    }

    // ---------------------------------------------------------------- sound

    #[pyo3(signature = (data, reply_bytes, *, pieces = vec![], indirect = true))]
    fn request<'py>(
        &self,
        py: Python<'py>,
        data: BytesLike,
        reply_bytes: u32,
        pieces: Vec<u32>,
        indirect: bool,
    ) -> PyResult<(Bound<'py, PyBytes>, u32, u64)> {
        let shape = Shape { pieces, indirect, ..Shape::default() };
        let reply = py.detach(|| self.0.request_shaped(&data.0, reply_bytes, &shape))?;
        Ok((PyBytes::new(py, &reply.bytes), reply.used_len, reply.ns))
    }

    #[pyo3(signature = (stream, capture, data, total_bytes, *, buffer_bytes, period_bytes, features, channels, format,
        rate, message_bytes = None, pieces = vec![], indirect = true, starve = None, stall = 5.0))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python")]
    fn start_stream(
        &self,
        py: Python<'_>,
        stream: u32,
        capture: bool,
        data: BytesLike,
        total_bytes: u64,
        buffer_bytes: u32,
        period_bytes: u32,
        features: u32,
        channels: u8,
        format: u8,
        rate: u8,
        message_bytes: Option<u32>,
        pieces: Vec<u32>,
        indirect: bool,
        starve: Option<(u64, f64)>,
        stall: f64,
    ) -> PyResult<PcmRun> {
        let pause = starve.map(|(after_bytes, s)| seconds(s).map(|pause| Starve { after_bytes, pause }));
        let options = StreamOptions {
            stream,
            capture,
            params: PcmParams { buffer_bytes, period_bytes, features, channels, format, rate },
            message_bytes,
            shape: Shape { pieces, indirect, ..Shape::default() },
            starve: pause.transpose()?,
            stall: seconds(stall)?,
        };
        Ok(PcmRun(py.detach(|| self.0.start_stream(options, data.0, total_bytes))?))
    }

    #[pyo3(signature = (stream, messages, *, buffer_bytes, period_bytes, features, channels, format, rate, depth = 32,
        batch = 16, message_bytes = None, capture = false, indirect = true, limit = None, stall = 5.0))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python")]
    fn flood<'py>(
        &self,
        py: Python<'py>,
        stream: u32,
        messages: u64,
        buffer_bytes: u32,
        period_bytes: u32,
        features: u32,
        channels: u8,
        format: u8,
        rate: u8,
        depth: u16,
        batch: u16,
        message_bytes: Option<u32>,
        capture: bool,
        indirect: bool,
        limit: Option<f64>,
        stall: f64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let options = StreamOptions {
            stream,
            capture,
            params: PcmParams { buffer_bytes, period_bytes, features, channels, format, rate },
            message_bytes,
            shape: Shape { indirect, ..Shape::default() },
            starve: None,
            stall: seconds(stall)?,
        };
        let flood = FloodOptions { depth, batch, messages, limit: limit.map_or(Ok(Duration::MAX), seconds)? };
        let r = py.detach(|| self.0.flood(&options, flood))?;
        let d = PyDict::new(py);
        for (name, value) in [
            ("messages", r.messages),
            ("elapsed_ns", r.elapsed_ns),
            ("kicks", r.kicks),
            ("signals", r.signals),
            ("failed", r.failed),
        ] {
            d.set_item(name, value)?;
        }
        Ok(d)
    }

    fn take_events(&self) -> Vec<(u32, u32, u64)> {
        self.0.take_events().into_iter().map(|e| (e.code, e.data, e.time_ns)).collect()
    }

    fn wait_event(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        wait_slices(py, seconds(timeout)?, |slice| self.0.wait_event(slice))
    }

    // ---------------------------------------------------------------- memory

    #[getter]
    fn regions(&self) -> Vec<(u64, u64)> {
        self.0.ram().regions().iter().map(|r| (r.addr, r.size)).collect()
    }

    #[getter]
    fn slots(&self) -> Vec<(u64, u64, u64, RawFd)> {
        self.0.ram().regions().iter().map(|r| (r.addr, r.size, r.user_addr, r.fd)).collect()
    }

    #[pyo3(signature = (region = None))]
    fn place_buffers(&self, region: Option<usize>) {
        self.0.ram().place_buffers(region);
    }

    #[pyo3(signature = (n, align = 16))]
    fn alloc(&self, n: u64, align: u64) -> PyResult<u64> {
        if !align.is_power_of_two() {
            return Err(PyValueError::new_err(format!("an alignment of {align}: expected a power of two")));
        }
        Ok(self.0.ram().alloc(n, align)?)
    }

    fn free(&self, addr: u64, n: u64) {
        self.0.ram().free(addr, n);
    }

    fn read<'py>(&self, py: Python<'py>, addr: u64, n: usize) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.ram().read(addr, n)?))
    }

    fn write(&self, addr: u64, data: BytesLike) -> PyResult<()> {
        Ok(self.0.ram().write(addr, &data.0)?)
    }

    // ---------------------------------------------------------------- the monitor's part

    fn stop_rings(&self, py: Python<'_>) -> PyResult<Vec<u16>> {
        Ok(py.detach(|| self.0.stop_rings())?)
    }

    fn start_rings(&self, py: Python<'_>, bases: Vec<u16>) -> PyResult<()> {
        Ok(py.detach(|| self.0.start_rings(&bases))?)
    }

    fn stop_ring(&self, py: Python<'_>, index: usize) -> PyResult<u16> {
        Ok(py.detach(|| self.0.stop_one(index))?)
    }

    fn start_ring(&self, py: Python<'_>, index: usize, base: u16) -> PyResult<()> {
        Ok(py.detach(|| self.0.start_one(index, base))?)
    }

    fn enable(&self, py: Python<'_>, index: usize, on: bool) -> PyResult<()> {
        Ok(py.detach(|| self.0.enable(index, on))?)
    }

    fn hold(&self, on: bool) {
        self.0.hold_streams(on);
    }

    #[pyo3(signature = (style = "qemu"))]
    fn reset(&self, py: Python<'_>, style: &str) -> PyResult<()> {
        let style = reset_style(style)?;
        Ok(py.detach(|| self.0.reset(style))?)
    }

    #[pyo3(signature = (*, zero = true))]
    fn reboot(&self, py: Python<'_>, zero: bool) -> PyResult<()> {
        Ok(py.detach(|| self.0.reboot(zero))?)
    }

    fn remap(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.remap())?)
    }

    fn add_region(&self, py: Python<'_>, region: usize) -> PyResult<()> {
        Ok(py.detach(|| self.0.add_region(region))?)
    }

    fn remove_region(&self, py: Python<'_>, region: usize) -> PyResult<()> {
        Ok(py.detach(|| self.0.remove_region(region))?)
    }

    fn replace_kick(&self, py: Python<'_>, index: usize) -> PyResult<()> {
        Ok(py.detach(|| self.0.replace_kick(index))?)
    }

    fn replace_call(&self, py: Python<'_>, index: usize) -> PyResult<()> {
        Ok(py.detach(|| self.0.replace_call(index))?)
    }

    #[pyo3(signature = (code, body, *, flags = 0, fds = vec![], reply = false))]
    fn message<'py>(
        &self,
        py: Python<'py>,
        code: u32,
        body: BytesLike,
        flags: u32,
        fds: Vec<RawFd>,
        reply: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let answer = py.detach(|| self.0.message(code, flags, &body.0, &fds, reply))?;
        Ok(PyBytes::new(py, &answer))
    }

    fn send_bytes(&self, py: Python<'_>, data: BytesLike) -> PyResult<()> {
        Ok(py.detach(|| self.0.frontend().send_bytes(&data.0, &[]))?)
    }

    fn kill(&self, py: Python<'_>) {
        py.detach(|| self.0.kill());
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.close())?)
    }

    /// Wait until the device closed the connection.
    #[pyo3(signature = (timeout = 1.0))]
    fn wait_closed(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let limit: Duration = seconds(timeout)?;
        wait_slices(py, limit, |slice| self.0.wait_closed(slice))
    }
}
