//! Streams that no engine paces are paced by the clock: one thread for all of them, no drift.
//!
//! Each moves a period each period, counted from its start; those of equal periods do so together. What cannot be caught
//! up (the thread was late by more than the guest's buffer) is skipped, not taken for an underrun.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::stream::Stream;
use super::watch::{Seen, Verdict, Watch};
use crate::vhost::{Caller, lock};

mod thread;

pub(super) use thread::call;
use thread::stamp;
pub use thread::start_thread;

/// What a tap keeps if nobody takes it.
const TAP_MAX: usize = 64 << 20;

/// Counters.
#[derive(Debug, Default)]
pub struct ClockStats {
    pub ticks: AtomicU64,
    pub bytes: AtomicU64,
    /// Wake-ups more than a period late.
    pub late: AtomicU64,
    /// Bytes of a tap that nobody took.
    pub dropped: AtomicU64,
}

struct Run {
    /// When frame 0 was.
    origin: Instant,
    moved_frames: u64,
    next: Instant,
}

struct Inner {
    run: Option<Run>,
    /// Only for a port that stands in.
    watch: Option<Watch>,
    closed: bool,
    scratch: Vec<u8>,
    tap: VecDeque<u8>,
}

/// However short a guest's periods are, nobody is woken more often.
const TICK_MIN: Duration = Duration::from_micros(500);

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What is played is dropped, silence is recorded.
    Plain,
    /// What is played is kept, what is fed is recorded.
    Tapped,
    /// Rests as long as an engine moves the stream; when that hangs it is in its place, and steps back when it is there again.
    StandIn,
}

/// One paced stream.
pub struct ClockPort {
    stream: Arc<Stream>,
    kind: Kind,
    pub stats: ClockStats,
    inner: Mutex<Inner>,
    /// `Run::next` as a `stamp`, changed under `inner`: the thread looks at many ports and locks those that are due.
    due: AtomicU64,
    /// The tap was filled (playback) or emptied (capture), or the port was closed.
    changed: Condvar,
}

fn frames_to_time(frames: u64, rate: u32) -> Duration {
    let (rate, frames) = (u64::from(rate.max(1)), frames);
    Duration::from_secs(frames / rate) + Duration::from_nanos(frames % rate * 1_000_000_000 / rate)
}

fn time_to_frames(t: Duration, rate: u32) -> u64 {
    (t.as_nanos() * u128::from(rate) / 1_000_000_000) as u64
}

impl ClockPort {
    /// A port that does not tick yet.
    pub fn new(stream: Arc<Stream>, kind: Kind) -> Arc<Self> {
        let inner = Inner { run: None, watch: None, closed: false, scratch: Vec::new(), tap: VecDeque::new() };
        Arc::new(ClockPort {
            stream,
            kind,
            stats: ClockStats::default(),
            inner: Mutex::new(inner),
            due: AtomicU64::new(u64::MAX),
            changed: Condvar::new(),
        })
    }

    /// Begin to move a period each period.
    pub fn start(self: &Arc<Self>) {
        let now = Instant::now();
        let period = frames_to_time(self.period_frames(), self.stream.rate());
        let next = if self.kind == Kind::StandIn { now } else { self.with_others(now + period, period) };
        {
            let mut i = lock(&self.inner);
            if i.closed || i.run.is_some() {
                return;
            }
            i.scratch.reserve(self.stream.buffer_bytes());
            let mut origin = now;
            if self.kind == Kind::StandIn {
                i.watch = Some(Watch::new(now));
            } else {
                self.stream.set_clocked(true);
                origin = next.checked_sub(period).unwrap_or(now);
            }
            i.run = Some(Run { origin, moved_frames: 0, next });
            self.due.store(stamp(next), Relaxed);
        }
        thread::add(self);
    }

    /// Pause. When it returns the thread touches the stream no more.
    pub fn stop(self: &Arc<Self>) {
        let ran = lock(&self.inner).run.take().is_some();
        if ran && self.kind != Kind::StandIn {
            self.stream.set_clocked(false);
        }
        thread::remove(self);
    }

    /// Stand in at once, if it runs: the engine is gone.
    pub fn give_up(&self) {
        {
            let mut i = lock(&self.inner);
            let Inner { run, watch, .. } = &mut *i;
            let (Some(run), Some(watch)) = (run, watch) else { return };
            watch.give_up();
            let now = Instant::now();
            *run = Run { origin: now, moved_frames: 0, next: now };
            self.due.store(stamp(now), Relaxed);
        }
        thread::wake();
    }

    /// Stop for good; `take` returns what is left, then None. Idempotent.
    pub fn close(self: &Arc<Self>) {
        self.stop();
        lock(&self.inner).closed = true;
        self.changed.notify_all();
    }

    /// When to tick first: not before `earliest`, and together with a port of the same period, if there is one, so that
    /// many streams wake the thread as often as one does.
    fn with_others(&self, earliest: Instant, period: Duration) -> Instant {
        let alike = |p: &Arc<ClockPort>| {
            (p.kind, p.stream.rate(), p.period_frames()) == (self.kind, self.stream.rate(), self.period_frames())
        };
        // Its origin: one that is late is due at another time than usual.
        let origin = |p: &Arc<ClockPort>| lock(&p.inner).run.as_ref().map(|run| stamp(run.origin));
        let Some(origin) = thread::find(|p| alike(p).then(|| origin(p)).flatten()) else {
            return earliest;
        };
        let period = (period.as_nanos() as u64).max(1);
        thread::time(origin + stamp(earliest).saturating_sub(origin).div_ceil(period) * period)
    }

    fn period_frames(&self) -> u64 {
        (self.stream.period_bytes() / self.stream.frame_bytes()).max(1) as u64
    }

    /// Playback: what was consumed since the last call; empty at the time limit; None when closed and empty.
    pub fn take(&self, timeout: Option<Duration>) -> Option<Vec<u8>> {
        let until = timeout.map(|t| Instant::now() + t);
        let mut i = lock(&self.inner);
        while i.tap.is_empty() {
            if i.closed {
                return None;
            }
            let left = until.map_or(Duration::MAX, |u| u.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Some(Vec::new());
            }
            i = self.wait(i, left);
        }
        Some(Vec::from(std::mem::take(&mut i.tap)))
    }

    /// Capture: queue what is recorded next, two seconds at most. Returns the bytes taken.
    pub fn feed(&self, data: &[u8], timeout: Option<Duration>) -> usize {
        let until = timeout.map(|t| Instant::now() + t);
        let limit = 2 * self.stream.rate() as usize * self.stream.frame_bytes();
        let mut i = lock(&self.inner);
        let mut taken = 0;
        loop {
            if i.closed {
                return taken;
            }
            let n = limit.saturating_sub(i.tap.len()).min(data.len() - taken);
            i.tap.extend(&data[taken..taken + n]);
            taken += n;
            let left = until.map_or(Duration::MAX, |u| u.saturating_duration_since(Instant::now()));
            if taken == data.len() || left.is_zero() {
                return taken;
            }
            i = self.wait(i, left);
        }
    }

    fn wait<'a>(&self, guard: std::sync::MutexGuard<'a, Inner>, left: Duration) -> std::sync::MutexGuard<'a, Inner> {
        self.changed
            .wait_timeout(guard, left.min(Duration::from_secs(3600)))
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .0
    }

    /// Move what is due, and note when to come again.
    fn tick(&self, now: Instant) {
        let mut guard = lock(&self.inner);
        let ahead = match &*guard {
            Inner { run: Some(_), .. } if self.kind == Kind::StandIn => self.stream.work_ahead(now, &mut guard.scratch),
            _ => None,
        };
        let next = self.advance(&mut guard, now);
        let due = next.map(|next| ahead.map_or(next, |ahead| ahead.min(next)));
        self.due.store(due.map_or(u64::MAX, stamp), Relaxed);
    }

    /// The same, but for reading ahead. Returns when to come again; None if it does not run.
    fn advance(&self, inner: &mut Inner, now: Instant) -> Option<Instant> {
        let Inner { run, watch, scratch, tap, .. } = inner;
        let run = run.as_mut()?;
        if now < run.next {
            return Some(run.next);
        }
        let seen = self.stream.seen();
        if let Some(watch) = watch {
            match watch.look(now, seen, self.stream.patience()) {
                Verdict::Wait(next) => {
                    run.next = next;
                    return Some(next);
                }
                Verdict::Back(next) => {
                    self.stream.tell("its engine moves audio again");
                    run.next = next;
                    return Some(next);
                }
                Verdict::TakeOver => {
                    self.stream.stats.stalls.fetch_add(1, Relaxed);
                    let late = matches!(seen, Seen::Turns(turns, _) if self.stream.is_awaited(turns));
                    self.stream.tell(match late {
                        true => "its engine has not begun; what is played is kept for it",
                        false => "its engine does not move audio; silence until it does",
                    });
                    let period = frames_to_time(self.period_frames(), self.stream.rate());
                    (run.origin, run.moved_frames) = (now.checked_sub(period).unwrap_or(now), 0);
                }
                Verdict::StandIn => {}
            }
        }
        let (rate, frame) = (self.stream.rate(), self.stream.frame_bytes());
        let period = self.period_frames();
        // Not the whole guest buffer at once: see `Stream::complete`.
        let most = (self.stream.burst() / frame) as u64;
        // Whole periods only, so that being late once does not move every wake-up that follows. One is due in any case:
        // rounding to nanoseconds must not say otherwise.
        let since = time_to_frames(now.saturating_duration_since(run.origin), rate).saturating_sub(run.moved_frames);
        let mut due = (since / period).max(1) * period;
        if due >= 2 * period {
            self.stats.late.fetch_add(1, Relaxed);
        }
        if due > most {
            run.origin += frames_to_time(due - most, rate);
            due = most;
        }
        let n = due as usize * frame;
        scratch.clear();
        scratch.resize(n, self.stream.silence());
        if let (Kind::StandIn, Seen::Turns(turns, _)) = (self.kind, seen) {
            self.stream.stand_in(scratch, turns);
        } else if self.stream.capture {
            if self.kind == Kind::Tapped {
                let got = n.min(tap.len());
                for (to, from) in scratch.iter_mut().zip(tap.drain(..got)) {
                    *to = from;
                }
            }
            self.stream.push_as(scratch, 0, Caller::Worker);
        } else {
            // They were played while we slept: the last of them is heard now.
            self.stream.pull_as(scratch, -(n as isize), Caller::Worker);
            if self.kind == Kind::Tapped {
                if tap.len() + n > TAP_MAX {
                    self.stats.dropped.fetch_add(n as u64, Relaxed);
                } else {
                    tap.extend(&*scratch);
                }
            }
        }
        if self.kind == Kind::Tapped {
            self.changed.notify_all();
        }
        self.stats.ticks.fetch_add(1, Relaxed);
        self.stats.bytes.fetch_add(n as u64, Relaxed);
        run.moved_frames += due;
        run.next = (run.origin + frames_to_time(run.moved_frames + period, rate)).max(now + TICK_MIN);
        Some(run.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::stream::Shape;

    const PERIOD_NS: u64 = 2_000_000;

    fn port(id: u32, period_frames: usize) -> Arc<ClockPort> {
        let stream = Arc::new(Stream::new(id, false));
        let period = 4 * period_frames;
        let shape = Shape { buffer: 4 * period, period, frame: 4, rate: 48000, silence: 0, polling: false };
        stream.configure(shape).unwrap();
        ClockPort::new(stream, Kind::Plain)
    }

    #[test]
    fn ports_of_equal_periods_tick_together_whenever_they_start() {
        let ports: Vec<_> = (0..8).map(|id| port(id, 96)).collect();
        for p in &ports {
            p.start();
            std::thread::sleep(Duration::from_micros(2300));
        }
        // Not when they are due: one that is late comes again a little later than that.
        let origin = |p: &Arc<ClockPort>| stamp(lock(&p.inner).run.as_ref().unwrap().origin);
        for p in &ports[1..] {
            let apart = origin(p).abs_diff(origin(&ports[0])) % PERIOD_NS;
            assert!(apart.min(PERIOD_NS - apart) < 1000, "{apart} ns apart");
        }
        ports.iter().for_each(ClockPort::close);
    }

    #[test]
    fn a_port_of_another_period_begins_a_period_after_its_start() {
        let (fast, slow) = (port(0, 96), port(1, 480_000));
        fast.start();
        let before = stamp(Instant::now());
        slow.start();
        let after = stamp(Instant::now());
        let first = slow.due.load(Relaxed) - 10_000_000_000;
        assert!((before..=after).contains(&first));
        fast.close();
        slow.close();
    }
}
