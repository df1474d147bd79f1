//! A PCM stream's queue of guest buffers. Python configures it; engines move the bytes.
//!
//! `pull` and `push` are what an engine's real-time callback calls: they drain the ring without a kick, copy once, complete
//! what is used up and signal once. They try every lock and allocate nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::message::finish;
use super::router::Router;
use super::wire::{S_IO_ERR, S_OK, STATUS_SIZE, XFER_SIZE};
use crate::error::{Error, Result};
use crate::vhost::chain::{BadAddress, Chain, Done};
use crate::vhost::ring::Ring;
use crate::vhost::{Caller, lock};

/// A message that carries more is refused.
const MAX_MESSAGE: usize = 1 << 20;

/// What to do with messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Give them back at once with this status.
    Reject(u32),
    /// Keep them until the engine asks.
    Queue,
    /// Keep them until the stream runs, then give them back at once.
    Discard,
}

/// What SET_PARAMS said (5.14.6.6.3), in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub buffer: usize,
    pub period: usize,
    pub frame: usize,
    /// Frames a second.
    pub rate: u32,
    /// The byte that is silence.
    pub silence: u8,
    /// The guest never kicks (MSG_POLLING).
    pub polling: bool,
}

struct Item {
    chain: Chain,
    pos: usize,
    len: usize,
}

struct State {
    mode: Mode,
    running: bool,
    /// The ring is open. Closed before what is not consumed is counted, so that it stays so.
    open: bool,
    /// Audio completed in one wake-up is at most this: the guest's buffer less a period.
    burst: usize,
    ring: Option<Arc<Ring>>,
    items: VecDeque<Item>,
    queued: usize,
    done: Vec<Done>,
    /// Position of a message that was half consumed when its ring stopped, and how far.
    carry: Option<(u16, usize)>,
    /// Audio was seen since the start: from now on a shortage can be an xrun.
    armed: bool,
    /// Bytes short since audio was seen last. An xrun only when audio follows or a period is missing: a guest that has
    /// played all stops a moment after the last byte was taken.
    short: usize,
}

/// The ring a pulling engine looks at. Its lock is the outermost.
struct Feed {
    router: Arc<Router>,
    ring: Arc<Ring>,
    pulling: bool,
}

/// Written without a lock, so that nobody who reads them makes a callback miss its turn.
#[derive(Debug, Default)]
pub struct StreamStats {
    pub bytes: AtomicU64,
    pub messages: AtomicU64,
    pub xruns: AtomicU64,
    pub missing: AtomicU64,
    /// Callbacks that found a lock taken.
    pub busy: AtomicU64,
    pub queued: AtomicU64,
    /// As last told to the guest, in bytes.
    pub latency: AtomicU64,
}

/// See the module text.
pub struct Stream {
    pub id: u32,
    pub capture: bool,
    pub stats: StreamStats,
    frame: AtomicUsize,
    period: AtomicUsize,
    buffer: AtomicUsize,
    /// Rate, silence byte and polling flag in one word.
    format: AtomicU64,
    router: OnceLock<Weak<Router>>,
    feed: Mutex<Option<Feed>>,
    state: Mutex<State>,
    /// For `wait`: a message came, or the stream stopped.
    changed: Condvar,
}

/// A callback is rather a few microseconds late than a quantum short.
fn try_hard<T>(m: &Mutex<T>, who: Caller) -> Option<MutexGuard<'_, T>> {
    if who == Caller::Worker {
        return Some(lock(m));
    }
    for _ in 0..200 {
        if let Ok(g) = m.try_lock() {
            return Some(g);
        }
        std::hint::spin_loop();
    }
    None
}

impl Stream {
    /// A stream that refuses messages and does not run.
    pub fn new(id: u32, capture: bool) -> Self {
        let state = State {
            mode: Mode::Reject(S_IO_ERR),
            running: false,
            open: false,
            burst: usize::MAX,
            ring: None,
            items: VecDeque::new(),
            queued: 0,
            done: Vec::new(),
            carry: None,
            armed: false,
            short: 0,
        };
        Stream {
            id,
            capture,
            stats: StreamStats::default(),
            frame: AtomicUsize::new(1),
            period: AtomicUsize::new(1),
            buffer: AtomicUsize::new(1),
            format: AtomicU64::new(1),
            router: OnceLock::new(),
            feed: Mutex::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// False if it belongs to another router.
    pub(super) fn belongs_to(&self, router: &Arc<Router>) -> bool {
        let mine = self.router.get_or_init(|| Arc::downgrade(router));
        Weak::ptr_eq(mine, &Arc::downgrade(router))
    }

    /// Bytes of a frame.
    pub fn frame_bytes(&self) -> usize {
        self.frame.load(Relaxed)
    }

    /// Bytes of the guest's period.
    pub fn period_bytes(&self) -> usize {
        self.period.load(Relaxed)
    }

    /// Bytes of the guest's buffer.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer.load(Relaxed)
    }

    /// Frames a second.
    pub fn rate(&self) -> u32 {
        self.format.load(Relaxed) as u32
    }

    /// The byte that is silence.
    pub fn silence(&self) -> u8 {
        (self.format.load(Relaxed) >> 32) as u8
    }

    fn polling(&self) -> bool {
        self.format.load(Relaxed) >> 40 != 0
    }

    /// Between START and STOP.
    pub fn is_running(&self) -> bool {
        lock(&self.state).running
    }

    /// What the guest chose.
    pub fn configure(&self, s: Shape) -> Result<()> {
        if s.frame == 0 || s.frame > s.period || s.period > s.buffer || s.rate == 0 {
            let what = "a stream's shape must be 0 < frame <= period <= buffer, and the rate not 0";
            return Err(Error::Invalid(what.into()));
        }
        self.frame.store(s.frame, Relaxed);
        self.period.store(s.period, Relaxed);
        self.buffer.store(s.buffer, Relaxed);
        let word = u64::from(s.rate) | u64::from(s.silence) << 32 | u64::from(s.polling) << 40;
        self.format.store(word, Relaxed);
        lock(&self.state).burst = (s.buffer - s.period).max(s.period);
        Ok(())
    }

    /// What happens to messages from now on.
    pub fn set_mode(&self, mode: Mode) {
        lock(&self.state).mode = mode;
    }

    /// START: let the engine consume. While it pulls no kicks are needed.
    pub fn start(&self) {
        let discard = {
            let mut s = lock(&self.state);
            (s.running, s.armed, s.short) = (true, false, 0);
            s.mode == Mode::Discard
        };
        self.set_pulling(!discard);
        if discard {
            // In order: what waits first, and then what the worker gets.
            let mut s = lock(&self.state);
            self.consume_all(&mut s);
        }
    }

    /// STOP: consume nothing more. What is queued stays.
    pub fn stop(&self) {
        {
            let mut s = lock(&self.state);
            (s.running, s.armed, s.short) = (false, false, 0);
            self.changed.notify_all();
        }
        self.set_pulling(false);
    }

    /// Ask the guest not to kick, because somebody looks at the ring; or to kick again.
    fn set_pulling(&self, on: bool) {
        let mut feed = lock(&self.feed);
        if let Some(f) = feed.as_mut()
            && std::mem::replace(&mut f.pulling, on) != on
        {
            f.ring.pulled(on);
            f.router.drain(&f.ring);
        }
    }

    /// The ring started. Everything a callback will need is allocated here.
    pub(super) fn attach(&self, ring: &Arc<Ring>, resumed: bool) {
        let Some(router) = self.router.get().and_then(Weak::upgrade) else {
            return;
        };
        let depth = ring.depth();
        let mut feed = lock(&self.feed);
        if feed.is_none() {
            let (ring, pulling) = (ring.clone(), false);
            *feed = Some(Feed {
                router,
                ring,
                pulling,
            });
        }
        let mut s = lock(&self.state);
        s.ring = Some(ring.clone());
        s.open = true;
        s.items.reserve(depth);
        s.done.reserve(2 * depth);
        if !resumed {
            s.carry = None;
        }
    }

    /// Wait for a callback in progress.
    pub(super) fn barrier(&self) {
        drop(lock(&self.feed));
    }

    /// Called by whoever holds the ring's route. A chain to be given back at once goes to `done`.
    pub(super) fn offer(&self, ring: &Ring, chain: Chain, done: &mut Vec<Done>) {
        let len = if self.capture {
            chain.writable.len() - STATUS_SIZE
        } else {
            chain.readable.len() - XFER_SIZE
        };
        let mut s = lock(&self.state);
        if let (Mode::Reject(status), _) | (_, (MAX_MESSAGE.., status)) = (s.mode, (len, S_IO_ERR))
        {
            done.push(finish(ring, &chain, 0, 0, status, 0));
            self.stats.messages.fetch_add(1, Relaxed);
            return;
        }
        let pos = match s.carry {
            Some((at, pos)) if at == chain.at => {
                s.carry = None;
                if pos < len { pos } else { 0 }
            }
            _ => 0,
        };
        let item = Item { chain, pos, len };
        if s.mode == Mode::Discard && s.running {
            done.push(self.consumed(ring, &item));
            return;
        }
        s.queued += len - pos;
        self.stats.queued.store(s.queued as u64, Relaxed);
        s.items.push_back(item);
        self.changed.notify_all();
    }

    /// A message that no engine will see, as if one had moved it.
    fn consumed(&self, ring: &Ring, item: &Item) -> Done {
        let n = item.len - item.pos;
        let silent = !self.capture
            || item
                .chain
                .writable
                .fill(&ring.memory(), item.pos, n, self.silence())
                .is_ok();
        let (data, status) = match (self.capture, silent) {
            (true, true) => (item.len, S_OK),
            (_, ok) => (0, if ok { S_OK } else { S_IO_ERR }),
        };
        self.stats.bytes.fetch_add(n as u64, Relaxed);
        self.stats.messages.fetch_add(1, Relaxed);
        finish(ring, &item.chain, data, item.len, status, 0)
    }

    fn consume_all(&self, s: &mut State) {
        let Some(ring) = s.ring.clone() else { return };
        while let Some(item) = s.items.pop_front() {
            s.queued -= item.len - item.pos;
            let done = self.consumed(&ring, &item);
            s.done.push(done);
        }
        self.stats.queued.store(s.queued as u64, Relaxed);
        ring.complete(&mut s.done, usize::MAX, Caller::Worker);
    }

    /// Move up to `n` bytes with `f`; returns how many. `ahead`: what is heard before the first of them (playback), or was
    /// recorded after the last of them (capture), in bytes.
    fn shift(
        &self,
        s: &mut State,
        n: usize,
        ahead: isize,
        who: Caller,
        mut f: impl FnMut(&Ring, &Item, usize, usize) -> std::result::Result<(), BadAddress>,
    ) -> usize {
        let Some(ring) = s.ring.clone() else { return 0 };
        let mut moved = 0;
        while moved < n {
            let Some(item) = s.items.front_mut() else {
                break;
            };
            let take = (item.len - item.pos).min(n - moved);
            let ok = f(&ring, item, moved, take).is_ok();
            item.pos += take;
            moved += take;
            s.queued -= take;
            if ok && item.pos < item.len {
                break;
            }
            let Some(item) = s.items.pop_front() else {
                break;
            };
            s.queued -= item.len - item.pos;
            let within = if self.capture { n - moved } else { moved };
            let latency = ahead.saturating_add_unsigned(within).max(0) as usize;
            let data = if self.capture && ok { item.len } else { 0 };
            let status = if ok { S_OK } else { S_IO_ERR };
            s.done
                .push(finish(&ring, &item.chain, data, item.len, status, latency));
            self.stats.messages.fetch_add(1, Relaxed);
            self.stats.latency.store(latency as u64, Relaxed);
        }
        self.stats.bytes.fetch_add(moved as u64, Relaxed);
        self.stats.queued.store(s.queued as u64, Relaxed);
        Self::complete(s, &ring, who);
        moved
    }

    /// Give back what is used up, but not a whole guest buffer in one wake-up: Linux takes its position modulo the buffer
    /// and would see no progress (EIO). What comes too early for that waits for the next.
    fn complete(s: &mut State, ring: &Ring, who: Caller) {
        let (mut sum, burst) = (0, s.burst);
        let fits = |d: &&Done| {
            sum += d.payload as usize;
            sum <= burst || sum == d.payload as usize
        };
        let max = s.done.iter().take_while(fits).count();
        ring.complete(&mut s.done, max, who);
    }

    /// Run `f` on the stream for an engine, after a look at the ring.
    fn engine(&self, n: usize, who: Caller, f: impl FnOnce(&mut State) -> usize) -> usize {
        // Held to the end: a ring or memory map replaced meanwhile is freed by who waits for it.
        let Some(feed) = try_hard(&self.feed, who) else {
            self.stats.busy.fetch_add(1, Relaxed);
            return 0;
        };
        if let Some(f) = feed.as_ref().filter(|f| f.pulling) {
            f.router.pull(&f.ring);
        }
        let Some(mut s) = try_hard(&self.state, who) else {
            self.stats.busy.fetch_add(1, Relaxed);
            return 0;
        };
        if !s.running || !s.open {
            return 0;
        }
        let got = f(&mut s);
        if self.is_xrun(&mut s, n, got) {
            self.stats.xruns.fetch_add(1, Relaxed);
            if let Some(f) = feed.as_ref() {
                f.router.xrun(self.id);
            }
        }
        got
    }

    /// Book a transfer of `got` bytes where `n` were due. True once for each shortage that is an xrun, and again for each
    /// further period that is missing.
    fn is_xrun(&self, s: &mut State, n: usize, got: usize) -> bool {
        let period = self.period_bytes();
        let told = s.short / period;
        // It was just a shortage; audio goes on: what was missing is a gap.
        let gap = got > 0 && s.short > 0 && told == 0;
        if got > 0 {
            self.stats
                .missing
                .fetch_add(s.short as u64 * u64::from(told == 0), Relaxed);
            s.short = 0;
        }
        if got < n && (s.armed || got > 0) {
            s.short += n - got;
        }
        s.armed |= got > 0;
        // A long one is counted as it goes on.
        let periods = s.short / period;
        let long = got == 0 && periods > told;
        if long {
            let since = if told == 0 { s.short } else { n };
            self.stats.missing.fetch_add(since as u64, Relaxed);
        } else if got == 0 && told > 0 {
            self.stats.missing.fetch_add(n as u64, Relaxed);
        }
        gap || long
    }

    /// Playback callback: fill `dst`, of which `ahead` bytes are heard before the first. Returns the bytes there were; the
    /// rest is untouched. Real-time safe.
    pub fn pull(&self, dst: &mut [u8], ahead: usize) -> usize {
        self.pull_as(dst, ahead as isize, Caller::RealTime)
    }

    /// As `pull`; `ahead` is negative where the engine takes what it has played already.
    pub fn pull_as(&self, dst: &mut [u8], ahead: isize, who: Caller) -> usize {
        if self.capture {
            return 0;
        }
        self.engine(dst.len(), who, |s| {
            self.shift(s, dst.len(), ahead, who, |ring, i, at, n| {
                i.chain
                    .readable
                    .read(&ring.memory(), XFER_SIZE + i.pos, &mut dst[at..at + n])
            })
        })
    }

    /// Capture callback: hand `src`, recorded `delay` bytes ago, to the guest. Returns what found room. Real-time safe.
    pub fn push(&self, src: &[u8], delay: usize) -> usize {
        self.push_as(src, delay, Caller::RealTime)
    }

    /// As `push`, from any thread.
    pub fn push_as(&self, src: &[u8], delay: usize, who: Caller) -> usize {
        if !self.capture {
            return 0;
        }
        self.engine(src.len(), who, |s| {
            self.shift(s, src.len(), delay as isize, who, |ring, i, at, n| {
                i.chain
                    .writable
                    .write(&ring.memory(), i.pos, &src[at..at + n])
            })
        })
    }

    /// What could be moved now, in bytes, as far as the ring was looked at.
    pub fn queued_bytes(&self) -> usize {
        self.stats.queued.load(Relaxed) as usize
    }

    /// Block until something can be moved. False at the time limit, or when the stream does not run.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        let until = timeout.map(|t| Instant::now() + t);
        // From now on kicks wake us; a guest that sends none is looked at twice a period.
        self.set_pulling(false);
        let bytes_per_s = (self.frame_bytes() * self.rate() as usize).max(1);
        let half = Duration::from_secs_f64(self.period_bytes() as f64 / bytes_per_s as f64 / 2.0);
        loop {
            let mut s = lock(&self.state);
            if !s.running {
                return false;
            }
            if s.open && s.queued > 0 {
                return true;
            }
            let left = until.map(|u| u.saturating_duration_since(Instant::now()));
            if left.is_some_and(|l| l.is_zero()) {
                return false;
            }
            let slice = if self.polling() {
                half
            } else {
                Duration::from_secs(3600)
            };
            let slice = left.map_or(slice, |l| l.min(slice));
            s = self
                .changed
                .wait_timeout(s, slice)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
            drop(s);
            if self.polling() {
                self.look();
            }
        }
    }

    /// Look at the ring without a kick. Any thread that may wait.
    fn look(&self) {
        let found = lock(&self.feed)
            .as_ref()
            .map(|f| (f.router.clone(), f.ring.clone()));
        if let Some((router, ring)) = found {
            router.drain(&ring);
        }
    }

    /// RELEASE: give back everything that the guest offered so far, the ring's content included; refuse from then on.
    /// Returns the number of messages.
    pub fn flush(&self, status: u32) -> usize {
        let before = self.stats.messages.load(Relaxed);
        {
            let mut s = lock(&self.state);
            s.carry = None;
            self.give_back(&mut s, status, usize::MAX);
            s.mode = Mode::Reject(status);
        }
        // Queues are served by different threads: messages offered earlier may not have been looked at.
        self.look();
        lock(&self.state).mode = Mode::Reject(S_IO_ERR);
        (self.stats.messages.load(Relaxed) - before) as usize
    }

    /// Complete the first `n` messages as they are, and those that were consumed already.
    fn give_back(&self, s: &mut State, status: u32, n: usize) {
        let Some(ring) = s.ring.clone() else { return };
        let n = n.min(s.items.len());
        for i in s.items.drain(..n) {
            s.queued -= i.len - i.pos;
            let data = if self.capture { i.pos } else { 0 };
            s.done.push(finish(&ring, &i.chain, data, i.len, status, 0));
        }
        self.stats.messages.fetch_add(n as u64, Relaxed);
        self.stats.queued.store(s.queued as u64, Relaxed);
        ring.complete(&mut s.done, usize::MAX, Caller::Worker);
    }

    /// The ring is closed: consume no more. Adds the avail positions of what is left.
    pub(super) fn held(&self, out: &mut Vec<u16>) {
        let mut s = lock(&self.state);
        s.open = false;
        out.extend(s.items.iter().map(|i| i.chain.at));
    }

    /// The ring goes back to `base`, over `held` messages: forget what comes again, complete what does not.
    pub(super) fn recall(&self, base: u16, held: u16, heads: &mut Vec<u16>) {
        let mut s = lock(&self.state);
        let before = |i: &&Item| i.chain.at.wrapping_sub(base) >= held;
        let keep = s.items.iter().take_while(before).count();
        self.give_back(&mut s, S_OK, keep);
        s.carry = s
            .items
            .front()
            .filter(|i| i.pos > 0)
            .map(|i| (i.chain.at, i.pos));
        heads.extend(s.items.drain(..).map(|i| i.chain.head));
        s.queued = 0;
        self.stats.queued.store(0, Relaxed);
    }

    /// The connection is gone (`detach`), or the device starts from zero.
    pub(super) fn reset(&self, detach: bool) {
        let mut feed = lock(&self.feed);
        if let Some(f) = feed.as_mut()
            && std::mem::take(&mut f.pulling)
        {
            f.ring.pulled(false);
        }
        if detach {
            *feed = None;
        }
        drop(feed);
        let mut s = lock(&self.state);
        s.items.clear();
        s.done.clear();
        s.queued = 0;
        self.stats.queued.store(0, Relaxed);
        s.carry = None;
        s.running = false;
        s.mode = Mode::Reject(S_IO_ERR);
        if detach {
            (s.ring, s.open) = (None, false);
        }
        self.changed.notify_all();
    }
}
