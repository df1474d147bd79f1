//! A guest whose buffer is smaller than an engine's turns: audio is read out of it ahead of the engine (or handed on
//! behind it, in capture), in parts that the guest's buffer bears, by the clock's thread.
//!
//! The engine's turns set the pace: between two of them as much is moved as one takes, evenly. The callback takes what was
//! read first; only what is missing it takes from the guest itself. Nothing of this happens while turns are no larger than
//! what the guest's buffer bears (its size less one period: rule 10 of docs/design.md), and nothing was kept for an engine that
//! came late (`late`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

use super::fifo::Fifo;
use super::{State, Stream, try_hard};
use crate::pcm::wire::XFER_SIZE;
use crate::vhost::Caller;
use crate::vhost::sync::TryMutex;

/// What a stream has of it.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Made by the thread that reads ahead.
    fifo: TryMutex<Option<Arc<Fifo>>>,
    /// There is one.
    made: AtomicBool,
    /// The thread that reads ahead is at work, or was called.
    working: AtomicBool,
    /// It was called.
    called: AtomicBool,
    /// The ring is closed: what was read stays.
    shut: AtomicBool,
    /// What the engine said at its last turn: `ahead` of a pull, `delay` of a push.
    delay: AtomicIsize,
    /// Bytes in it.
    pub(super) held: AtomicUsize,
    /// The last turn took some from the guest itself.
    short: AtomicBool,
    /// Bytes in it beyond what the next turn takes, that stay there so that the guest keeps its pace: see `late`.
    pub(super) surplus: AtomicUsize,
    /// Turns that engines had taken when the stream began to run.
    pub(super) begun: AtomicU64,
}

impl Ahead {
    pub(super) fn shut(&self, on: bool) {
        self.shut.store(on, SeqCst);
    }

    /// Forget what was read. Any thread that may wait.
    pub(super) fn clear(&self) {
        if let Some(fifo) = &*self.fifo.lock() {
            fifo.clear();
        }
        self.held.store(0, Relaxed);
        self.surplus.store(0, Relaxed);
    }

    /// As `clear`, and free its memory: nobody reads ahead now.
    pub(super) fn free(&self) {
        self.clear();
        self.made.store(false, Relaxed);
        let fifo = self.fifo.lock().take();
        drop(fifo);
    }

    /// A copy of what is in it. Any thread that may wait; complete while it is shut.
    pub(super) fn content(&self) -> Vec<u8> {
        let place = self.fifo.lock();
        let Some(fifo) = &*place else { return Vec::new() };
        let mut bytes = vec![0; fifo.len()];
        let (n, _) = fifo.peek(&mut bytes);
        bytes.truncate(n);
        bytes
    }

    /// Put this in its place, before anything is read ahead; `stays`: as a surplus. Any thread that may wait.
    pub(super) fn replace(&self, bytes: &[u8], stays: bool) {
        self.clear();
        if !bytes.is_empty() {
            self.of_size(bytes.len()).put(bytes);
        }
        self.held.store(bytes.len(), Relaxed);
        self.surplus.store(if stays { bytes.len() } else { 0 }, Relaxed);
    }

    /// The queue, with room for at least `size` bytes. Any thread that may wait.
    pub(super) fn of_size(&self, size: usize) -> Arc<Fifo> {
        let old = self.fifo.lock().clone();
        if let Some(fifo) = old.as_ref().filter(|f| f.capacity() >= size) {
            return fifo.clone();
        }
        let larger = Arc::new(Fifo::new(size));
        let mut place = self.fifo.lock();
        if let Some(fifo) = &*place {
            let mut rest = vec![0; fifo.len()];
            fifo.take(&mut rest);
            larger.put(&rest);
        }
        *place = Some(larger.clone());
        self.made.store(true, Release);
        // The old one is freed here, behind the lock, not in a callback.
        drop(place);
        larger
    }
}

/// How a turn is cut into parts.
struct Parts {
    turn: usize,
    part: usize,
    /// Bytes that have passed since the engine's last turn.
    passed: usize,
    /// How long after its beginning a part is moved: early, so that being late matters little.
    phase: usize,
    /// Which part is due.
    slot: usize,
    last: bool,
}

impl Stream {
    /// Whether the guest's buffer does not bear a turn of so many bytes, or there is something that was read ahead.
    pub(super) fn goes_ahead(&self, turn: usize, who: Caller) -> bool {
        (who == Caller::RealTime && turn > self.burst()) || self.is_read_ahead()
    }

    /// There is a place for what is read ahead.
    pub(super) fn is_read_ahead(&self) -> bool {
        self.ahead.made.load(Acquire)
    }

    /// Bytes that were read ahead and the engine has not taken yet; in capture, that the guest has not got yet.
    pub fn ahead_bytes(&self) -> usize {
        self.ahead.held.load(Relaxed)
    }

    /// The engine's turn: have its next one prepared, if it is too large for the guest. True if nobody did so yet.
    fn note_turn(&self, turn: usize, delay: isize, wanted: bool) -> bool {
        self.ahead.delay.store(delay, Relaxed);
        self.took_turn(turn);
        if !wanted || self.ahead.working.swap(true, SeqCst) {
            return false;
        }
        self.ahead.called.store(true, SeqCst);
        let called = self.call_worker();
        // If that is not possible now, the next turn calls again.
        self.ahead.working.store(called, SeqCst);
        called
    }

    /// Have the ring's worker look at it, and who reads ahead. False if that is not possible now. Real-time safe.
    fn call_worker(&self) -> bool {
        let feed = try_hard(&self.feed, Caller::RealTime);
        let ring = feed.as_ref().and_then(|f| f.as_ref()).map(|f| f.ring.nudge());
        ring.is_some()
    }

    /// True once after a callback has called.
    pub(in crate::pcm) fn wants_reading(&self) -> bool {
        self.ahead.called.swap(false, SeqCst)
    }

    /// Playback: what was read ahead first, then from the guest. Real-time safe.
    pub(super) fn take_read(&self, dst: &mut [u8], ahead: isize, who: Caller) -> usize {
        let turn = dst.len();
        let large = who == Caller::RealTime && turn > self.burst();
        let Some(fifo) = try_hard(&self.ahead.fifo, who) else {
            self.stats.busy.fetch_add(1, Relaxed);
            return 0;
        };
        // Under the lock: who saves what is in there after it was shut has all of it.
        if self.ahead.shut.load(SeqCst) {
            return 0;
        }
        let take = |dst: &mut [u8]| fifo.as_ref().map_or(0, |f| f.take(dst));
        let mut got = take(dst);
        let surplus = fifo.as_ref().is_some_and(|f| self.shed(f, dst));
        self.ahead.short.store(got < turn, Relaxed);
        let first = self.note_turn(turn, ahead, large || surplus);
        if got < turn {
            // Under the stream's lock: what is read ahead meanwhile comes before what is in the ring.
            self.engine(turn, who, None, |s| {
                got += take(&mut dst[got..]);
                // Nothing was heard yet: it begins with a whole turn, which will be there at the next one.
                if !(first && got == 0 && s.shortage.is_new()) {
                    got += self.pull_some(s, &mut dst[got..], ahead.saturating_add_unsigned(got), who);
                }
                got
            });
        } else {
            self.moved_all(turn, who);
        }
        self.ahead.held.store(fifo.as_ref().map_or(0, |f| f.len()), Relaxed);
        got
    }

    /// Book a turn that needed nothing from the guest.
    fn moved_all(&self, turn: usize, who: Caller) {
        if let Some(mut s) = try_hard(&self.state, who).filter(|s| s.running) {
            let verdict = s.shortage.book(turn, turn, self.period_bytes());
            self.judge(&verdict);
        }
    }

    pub(super) fn pull_some(&self, s: &mut State, dst: &mut [u8], ahead: isize, who: Caller) -> usize {
        self.shift(s, dst.len(), ahead, who, |mem, i, at, n| {
            i.chain.readable().read(mem, XFER_SIZE + i.pos, &mut dst[at..at + n])
        })
    }

    /// Capture: put aside what the guest's buffer has no room for at once. None if it is to be handed to the guest
    /// directly. Real-time safe.
    pub(super) fn put_aside(&self, src: &[u8], delay: usize, who: Caller) -> Option<usize> {
        let turn = src.len();
        let large = who == Caller::RealTime && turn > self.burst();
        let Some(fifo) = try_hard(&self.ahead.fifo, who) else {
            self.stats.busy.fetch_add(1, Relaxed);
            return Some(0);
        };
        if self.ahead.shut.load(SeqCst) {
            return Some(0);
        }
        let fifo = fifo.as_ref().filter(|f| large || f.len() > 0);
        if fifo.is_none() && !large {
            return None;
        }
        self.note_turn(turn, delay as isize, true);
        // Before the first turn nobody knew that there must be room: the recording begins with the second.
        let put = fifo.map_or(turn, |f| f.put(src));
        if put == turn {
            self.moved_all(turn, who);
        } else {
            self.engine(turn, who, None, |_| put);
        }
        self.ahead.held.store(fifo.map_or(0, |f| f.len()), Relaxed);
        Some(put)
    }

    fn parts(&self, now: Instant) -> Parts {
        let (turn, at) = (self.turn.load(Relaxed), self.epoch + Duration::from_nanos(self.last_turn.load(Relaxed)));
        let frame = self.frame_bytes();
        // A quarter less than the buffer bears, so that what was missed is caught up with.
        let count = (4 * turn).div_ceil(3 * self.burst()).max(1);
        let part = (turn / frame).div_ceil(count).max(1) * frame;
        let rate = u128::from(self.rate());
        let passed = (now.saturating_duration_since(at).as_nanos() * rate / 1_000_000_000) as usize * frame;
        let slot = (passed / part).min(count - 1);
        // Not at once after a turn that had the guest give something back, too.
        let phase = if self.ahead.short.load(Relaxed) { part / 2 } else { part / 8 };
        Parts { turn, part, passed, phase, slot, last: slot + 1 == count }
    }

    /// Read ahead, or hand on, what is due now. Returns when to come again; None if there is nothing to do until it is called.
    pub fn work_ahead(&self, now: Instant, scratch: &mut Vec<u8>) -> Option<Instant> {
        if !self.ahead.working.load(SeqCst) {
            return None;
        }
        let p = self.parts(now);
        let surplus = self.ahead.surplus.load(Relaxed);
        let fifo = self.ahead.of_size(2 * p.turn + surplus);
        self.look();
        let mut s = self.state.lock();
        let (held, burst) = (fifo.len(), self.burst());
        let small = p.turn <= burst && if self.capture { held == 0 } else { surplus == 0 };
        if !s.running || !s.open || small {
            self.ahead.working.store(false, SeqCst);
            return None;
        }
        // Called or woken before its time: the part before it is what is due.
        let early = p.passed < p.slot * p.part + p.phase;
        let due = ((p.slot + usize::from(!early)) * p.part).min(p.turn);
        let delay = self.ahead.delay.load(Relaxed);
        if self.capture {
            let n = held.saturating_sub(p.turn - due).min(burst);
            scratch.resize(n, 0);
            let (n, position) = fifo.peek(scratch);
            // How old the last byte of this part is: those behind it were recorded later.
            let age = delay.saturating_add_unsigned(p.passed + held - n);
            let moved = self.shift(&mut s, n, age, Caller::Worker, |mem, i, at, n| {
                i.chain.writable().write(mem, i.pos, &scratch[at..at + n])
            });
            fifo.taken(position, moved);
        } else {
            let n = (surplus + due).saturating_sub(held).min(burst).min(fifo.capacity() - held);
            scratch.resize(n, 0);
            // Heard after what is in there already, which the next turn takes.
            let ahead = delay.saturating_add_unsigned(p.turn.saturating_sub(p.passed) + held);
            let moved = self.pull_some(&mut s, scratch, ahead, Caller::Worker);
            fifo.put(&scratch[..moved]);
        }
        self.ahead.held.store(fifo.len(), Relaxed);
        drop(s);
        let wait = match p.last {
            _ if early => p.slot * p.part + p.phase - p.passed,
            true if p.passed > 2 * p.turn => p.turn,
            true => p.turn.saturating_sub(p.passed) + p.part / 8,
            false => (p.slot + 1) * p.part + p.phase - p.passed,
        };
        Some(now + self.time_of(wait))
    }

    pub(super) fn time_of(&self, bytes: usize) -> Duration {
        let bytes_per_s = (self.frame_bytes() * self.rate() as usize).max(1);
        Duration::from_nanos(bytes as u64 * 1_000_000_000 / bytes_per_s as u64)
    }
}
