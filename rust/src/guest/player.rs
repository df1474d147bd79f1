//! Play and record as an application over Linux's virtio_snd: parameters, PREPARE, fill the buffer, START, keep it full,
//! STOP, RELEASE. Everything is measured, nothing is judged.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::control::{PcmParams, accepted};
use super::error::{GuestError, Result};
use super::layout::Shape;
use super::poll::monotonic_ns;
use super::pump::{Pump, Waited};
use super::sound::Driver;
use super::transfer::{Message, Plan, Starve, Transfer};
use super::wire;

/// How to play or record.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    pub stream: u32,
    pub capture: bool,
    /// With MSG_POLLING in `features` the device is never kicked for messages.
    pub params: PcmParams,
    /// Bytes of a message; a period if None.
    pub message_bytes: Option<u32>,
    pub shape: Shape,
    pub starve: Option<Starve>,
    /// Waiting gives up when nothing has come back for this long.
    pub stall: Duration,
}

/// What happened. Times are CLOCK_MONOTONIC in ns.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order in which they were offered.
    pub messages: Vec<Message>,
    /// What was recorded, in the order of completion.
    pub recorded: Vec<u8>,
    /// Bytes of completed messages.
    pub bytes: u64,
    pub kicks: u64,
    pub signals: u64,
    /// Of these, between the answer to START and the request to STOP.
    pub kicks_running: u64,
    pub signals_running: u64,
    /// XRUN events for this stream.
    pub xruns: u64,
    /// START was answered.
    pub started_ns: u64,
    /// STOP was sent.
    pub stopping_ns: u64,
    /// The last answer (STOP or RELEASE) came.
    pub ended_ns: u64,
    /// Messages that the device did not give back within the time for requests after RELEASE.
    pub unreturned: usize,
    /// Why it was cut off.
    pub aborted: Option<String>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    kicks: u64,
    signals: u64,
}

/// A stream that plays or records. Stop it: dropped, it leaves the stream running in the device with nothing to play.
pub struct Run {
    driver: Arc<Driver>,
    id: u64,
    options: StreamOptions,
    before: Counts,
    begun: Counts,
    xruns: u64,
    started_ns: u64,
    report: Mutex<Option<Report>>,
}

fn queue_index(capture: bool) -> usize {
    if capture { wire::RX } else { wire::TX }
}

impl Driver {
    fn counts(&self, capture: bool) -> Counts {
        let counts = {
            let mut queue = self.queues[queue_index(capture)].lock();
            queue.take_signals();
            Counts { kicks: queue.kicks(), signals: queue.signals() }
        };
        self.pump(capture).nudge();
        counts
    }

    pub(crate) fn pump(&self, capture: bool) -> &Pump {
        &self.pumps[usize::from(capture)]
    }

    /// SET_PARAMS and PREPARE; an error if the device refuses.
    pub(crate) fn prepare_stream(&self, options: &StreamOptions) -> Result<()> {
        let p = &options.params;
        if p.period_bytes == 0 || p.buffer_bytes < p.period_bytes || options.message_bytes == Some(0) {
            return Err(GuestError::Invalid("a stream needs 0 < period <= buffer, and messages of some bytes".into()));
        }
        accepted(wire::SET_PARAMS, options.stream, self.set_params(options.stream, p)?)?;
        self.must(wire::PREPARE, options.stream)
    }

    /// Begin to play `source` (over and over until `total_bytes`; the buffers stay zero if it is empty) or to record
    /// `total_bytes`. Returns when START was answered.
    pub fn start_stream(self: &Arc<Self>, options: StreamOptions, source: Vec<u8>, total_bytes: u64) -> Result<Run> {
        self.prepare_stream(&options)?;
        let before = self.counts(options.capture);
        let xruns = self.events.xruns(options.stream);
        let shape = Shape { indirect: options.shape.indirect && self.indirect(), ..options.shape.clone() };
        let plan = Plan {
            stream: options.stream,
            capture: options.capture,
            buffer_bytes: options.params.buffer_bytes,
            message_bytes: options.message_bytes.unwrap_or(options.params.period_bytes),
            total_bytes,
            shape,
            polling: options.params.features & wire::MSG_POLLING != 0,
            starve: options.starve,
        };
        let id = self.pump(options.capture).attach(plan, source)?;
        let started = self.must(wire::START, options.stream);
        let (begun, started_ns) = (self.counts(options.capture), monotonic_ns());
        let driver = self.clone();
        let run = Run { driver, id, options, before, begun, xruns, started_ns, report: Mutex::default() };
        started.map(|()| run)
    }

    /// Play all of `data` and return when it was consumed and the stream released.
    pub fn play(self: &Arc<Self>, options: StreamOptions, data: Vec<u8>) -> Result<Report> {
        let total = data.len() as u64;
        self.start_stream(options, data, total)?.wait()
    }

    /// Record `total_bytes`. The report has all that came, also what was more.
    pub fn record(self: &Arc<Self>, options: StreamOptions, total_bytes: u64) -> Result<Report> {
        self.start_stream(options, Vec::new(), total_bytes)?.wait()
    }
}

impl Run {
    fn pump(&self) -> &Pump {
        self.driver.pump(self.options.capture)
    }

    /// Messages that came back so far, and bytes offered (playback) or recorded (capture).
    pub fn progress(&self) -> (usize, u64) {
        let capture = self.options.capture;
        let look = self.pump().with(self.id, |t| (t.done, if capture { t.recorded.len() as u64 } else { t.offered }));
        look.unwrap_or_else(|_| {
            let report = self.report.lock().unwrap_or_else(|e| e.into_inner());
            report.as_ref().map_or((0, 0), |r| (r.messages.iter().filter(|m| m.done_ns != 0).count(), r.bytes))
        })
    }

    fn await_until(&self, limit: Duration, done: impl FnMut(&Transfer) -> bool) -> Result<bool> {
        match self.pump().wait(self.id, self.options.stall, limit, done)? {
            Waited::Done => Ok(true),
            Waited::TimeUp => Ok(false),
            Waited::Stalled => {
                let what = format!("a message of stream {}", self.options.stream);
                let seconds = self.options.stall.as_secs_f64();
                Err(GuestError::Timeout { what, seconds })
            }
        }
    }

    /// Wait until `n` messages came back, or the stream was cut off. False if that takes longer than `limit`.
    pub fn wait_messages(&self, n: usize, limit: Duration) -> Result<bool> {
        self.await_until(limit, |t| t.done >= n)
    }

    /// Wait until everything was played or recorded, or the stream was cut off. False if that takes longer than `limit`.
    pub fn wait_done(&self, limit: Duration) -> Result<bool> {
        self.await_until(limit, |t| t.complete() || t.stopped)
    }

    /// Wait to the end, then STOP and RELEASE. A stream that was cut off (reset, device gone) is told in the report.
    pub fn wait(&self) -> Result<Report> {
        self.wait_done(Duration::MAX)?;
        self.stop(true)
    }

    /// STOP; what is queued stays queued until `resume`.
    pub fn pause(&self) -> Result<()> {
        self.pump().with(self.id, |t| t.paused = true)?;
        self.driver.must(wire::STOP, self.options.stream)
    }

    /// START after `pause`.
    pub fn resume(&self) -> Result<()> {
        self.driver.must(wire::START, self.options.stream)?;
        self.pump().with(self.id, |t| t.paused = false)
    }

    /// Offer nothing more (the application has stopped writing or reading), or go on.
    pub fn starve(&self, on: bool) -> Result<()> {
        self.pump().with(self.id, |t| t.idle = on)
    }

    /// STOP now and, if wanted, RELEASE and wait for what is pending. Again: the same report.
    pub fn stop(&self, release: bool) -> Result<Report> {
        let mut kept = self.report.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(report) = kept.as_ref() {
            return Ok(report.clone());
        }
        let (aborted, paused) = self.pump().with(self.id, |t| {
            t.stopped = true;
            (t.aborted.is_some(), t.paused)
        })?;
        let end = self.driver.counts(self.options.capture);
        let stopping_ns = monotonic_ns();
        let asked = if aborted { Ok(()) } else { self.wind_up(paused, release) };
        let ended_ns = monotonic_ns();
        let after = self.driver.counts(self.options.capture);
        let mut report = Report {
            kicks: after.kicks - self.before.kicks,
            signals: after.signals - self.before.signals,
            kicks_running: end.kicks - self.begun.kicks,
            signals_running: end.signals - self.begun.signals,
            xruns: self.driver.events.xruns(self.options.stream) - self.xruns,
            started_ns: self.started_ns,
            stopping_ns,
            ended_ns,
            ..Report::default()
        };
        if let Some(mut t) = self.pump().detach(self.id) {
            report.unreturned = t.outstanding();
            report.bytes = t.messages.iter().filter(|m| m.done_ns != 0).map(|m| u64::from(m.bytes)).sum();
            report.messages = std::mem::take(&mut t.messages);
            report.recorded = std::mem::take(&mut t.recorded);
            report.aborted = t.aborted.take();
        }
        // Of a stream that was cut off while it ended the report tells more than the error does.
        if report.aborted.is_none() {
            asked?;
        }
        *kept = Some(report.clone());
        Ok(report)
    }

    fn wind_up(&self, paused: bool, release: bool) -> Result<()> {
        if !paused {
            self.driver.must(wire::STOP, self.options.stream)?;
        }
        if release {
            self.driver.must(wire::RELEASE, self.options.stream)?;
            let limit = self.driver.options.request_timeout;
            self.pump().wait(self.id, Duration::MAX, limit, |t| t.outstanding() == 0)?;
        }
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.pump().detach(self.id);
    }
}
