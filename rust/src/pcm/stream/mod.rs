//! A PCM stream's queue of guest buffers. Python configures it; engines move the bytes.
//!
//! `pull` and `push` (in `transfer`) are what an engine's real-time callback calls: they drain the ring without a kick, copy once, complete
//! what is used up and signal once. They try every lock, allocate nothing and wake nobody but the guest.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::router::Router;
use super::shortage::Shortage;
use super::watch::{Seen, patience};
use super::wire::S_IO_ERR;
use crate::error::{Error, Result};
use crate::vhost::chain::{Chain, Done};
use crate::vhost::ring::Ring;
use crate::vhost::sync::{Bell, TryMutex};
use crate::vhost::{Caller, Mem};

mod ahead;
mod fifo;
mod late;
mod rings;
mod saved;
mod transfer;
mod wait;

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
    /// The ring is open. While it is not, `items` are kept for the same driver.
    open: bool,
    /// So many of the kept items were flushed meanwhile, and cannot be given back before the ring is open.
    flushed: usize,
    /// Audio completed in one wake-up is at most this: the guest's buffer less a period.
    burst: usize,
    ring: Option<Arc<Ring>>,
    /// The guest's memory, kept here so that a callback need not ask for it.
    mem: Arc<Mem>,
    /// Heads that another process had when it was saved; the ring pops them again when it starts.
    again: Vec<u16>,
    /// Of a message that comes again: its head, and what of it was consumed.
    carry: Option<(u16, usize)>,
    items: VecDeque<Item>,
    queued: usize,
    done: Vec<Done>,
    /// Consumed chains that have memory of their own, which a callback does not free.
    spent: Vec<Chain>,
    shortage: Shortage,
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
    /// Turns that engines took: transfers while the stream ran.
    pub turns: AtomicU64,
    /// How often an engine that stood still was stood in for, and the bytes that were moved in its place; `missing` has them too.
    pub stalls: AtomicU64,
    pub stood_in: AtomicU64,
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
    /// Bytes of the engine's last turn, and when it was: nanoseconds since `epoch`.
    turn: AtomicUsize,
    last_turn: AtomicU64,
    epoch: Instant,
    /// Paced by the clock, which does not hang.
    clocked: AtomicBool,
    /// Rate, silence byte and polling flag in one word.
    format: AtomicU64,
    router: OnceLock<Weak<Router>>,
    ahead: ahead::Ahead,
    feed: TryMutex<Option<Feed>>,
    state: TryMutex<State>,
    /// What `state` says to who only asks: bits `RUNNING`, `OPEN`, `DISCARDS`.
    visible: AtomicU8,
    /// For `wait`: a message came, the stream stopped, or another one of its ring is pulled now.
    changed: Bell,
}

const RUNNING: u8 = 1;
const OPEN: u8 = 2;
const DISCARDS: u8 = 4;

fn try_hard<T>(m: &TryMutex<T>, who: Caller) -> Option<MutexGuard<'_, T>> {
    match who {
        Caller::Worker => Some(m.lock()),
        Caller::RealTime => m.try_hard(),
    }
}

impl Stream {
    /// A stream that refuses messages and does not run.
    pub fn new(id: u32, capture: bool) -> Self {
        let state = State {
            mode: Mode::Reject(S_IO_ERR),
            running: false,
            open: false,
            flushed: 0,
            burst: usize::MAX,
            ring: None,
            mem: Arc::default(),
            again: Vec::new(),
            carry: None,
            items: VecDeque::new(),
            queued: 0,
            done: Vec::new(),
            spent: Vec::new(),
            shortage: Shortage::default(),
        };
        Stream {
            id,
            capture,
            stats: StreamStats::default(),
            frame: AtomicUsize::new(1),
            period: AtomicUsize::new(1),
            buffer: AtomicUsize::new(1),
            turn: AtomicUsize::new(0),
            last_turn: AtomicU64::new(0),
            epoch: Instant::now(),
            clocked: AtomicBool::new(false),
            format: AtomicU64::new(1),
            router: OnceLock::new(),
            ahead: ahead::Ahead::default(),
            feed: TryMutex::default(),
            state: TryMutex::new(state),
            visible: AtomicU8::new(0),
            changed: Bell::default(),
        }
    }

    /// False if it belongs to another router.
    pub(in crate::pcm) fn belongs_to(&self, router: &Arc<Router>) -> bool {
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

    /// What may be given back to the guest in one wake-up at most, in bytes: rule 10 of docs/design.md.
    pub(in crate::pcm) fn burst(&self) -> usize {
        let (buffer, period) = (self.buffer_bytes(), self.period_bytes());
        buffer.saturating_sub(period).max(period)
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
        self.visible(RUNNING)
    }

    fn visible(&self, bit: u8) -> bool {
        self.visible.load(Relaxed) & bit != 0
    }

    /// To be called by whoever changed one of these, under the lock: looking at them makes no callback miss its turn.
    fn show(&self, s: &State) {
        let bits = [(s.running, RUNNING), (s.open, OPEN), (s.mode == Mode::Discard, DISCARDS)];
        self.visible.store(bits.iter().map(|(set, bit)| u8::from(*set) * bit).sum(), Relaxed);
    }

    /// Messages are answered at once: there is no engine.
    pub fn discards(&self) -> bool {
        self.visible(DISCARDS)
    }

    /// The clock paces it, or does not any more.
    pub(in crate::pcm) fn set_clocked(&self, on: bool) {
        self.clocked.store(on, Relaxed);
    }

    /// Whether engines move it.
    pub(in crate::pcm) fn seen(&self) -> Seen {
        if self.clocked.load(Relaxed) {
            return Seen::Clocked;
        }
        if self.visible(DISCARDS) {
            return Seen::Clocked;
        }
        // One that waits for the guest will move what comes.
        if !self.visible(RUNNING) || !self.visible(OPEN) || self.changed.has_waiters() {
            return Seen::Closed;
        }
        let last = self.epoch + Duration::from_nanos(self.last_turn.load(Relaxed));
        Seen::Turns(self.stats.turns.load(Relaxed), last)
    }

    /// How long the engine may move nothing.
    pub(in crate::pcm) fn patience(&self) -> Duration {
        let bytes_per_s = (self.frame_bytes() * self.rate() as usize).max(1);
        let time = |bytes: usize| Duration::from_secs_f64(bytes as f64 / bytes_per_s as f64);
        patience(time(self.buffer_bytes()), time(self.turn.load(Relaxed)))
    }

    /// Say something of this stream to people. Not for real-time threads.
    pub(in crate::pcm) fn tell(&self, what: &str) {
        if let Some(router) = self.router.get().and_then(Weak::upgrade) {
            router.tell(format!("stream {}: {what}", self.id));
        }
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
        self.ahead.clear();
        self.state.lock().burst = self.burst();
        Ok(())
    }

    /// What happens to messages from now on.
    pub fn set_mode(&self, mode: Mode) {
        let mut s = self.state.lock();
        s.mode = mode;
        self.show(&s);
    }

    /// START: let the engine consume. While it pulls no kicks are needed.
    pub fn start(&self) {
        if self.capture {
            // From now on, not what was recorded before.
            self.ahead.clear();
        }
        self.begin();
        let discard = {
            let mut s = self.state.lock();
            (s.running, s.shortage) = (true, Shortage::default());
            self.show(&s);
            s.mode == Mode::Discard
        };
        self.set_pulling(!discard);
        if discard {
            self.ahead.clear();
            // In order: what waits first, and then what the worker gets.
            let mut s = self.state.lock();
            self.consume_all(&mut s);
        }
    }

    /// STOP: consume nothing more. What is queued stays.
    pub fn stop(&self) {
        {
            let mut s = self.state.lock();
            (s.running, s.shortage) = (false, Shortage::default());
            self.show(&s);
        }
        self.changed.ring();
        self.set_pulling(false);
    }

    /// Ask the guest not to kick, because somebody looks at the ring; or to kick again.
    fn set_pulling(&self, on: bool) {
        let mut feed = self.feed.lock();
        if let Some(f) = feed.as_mut()
            && std::mem::replace(&mut f.pulling, on) != on
        {
            f.ring.pulled(on);
            f.router.drain(&f.ring);
            f.router.wake_waiters(&f.ring);
        }
    }

    /// What could be moved now, in bytes, as far as the ring was looked at; with what was read ahead.
    pub fn queued_bytes(&self) -> usize {
        let ahead = if self.capture { 0 } else { self.ahead_bytes() };
        self.stats.queued.load(Relaxed) as usize + ahead
    }

    /// RELEASE: give back everything that the guest offered so far, the ring's content included; refuse from then on.
    /// Returns the number of messages.
    pub fn flush(&self, status: u32) -> usize {
        let before = self.stats.messages.load(Relaxed);
        {
            let mut s = self.state.lock();
            s.carry = None;
            self.give_back(&mut s, status, usize::MAX);
            s.mode = Mode::Reject(status);
            self.show(&s);
        }
        // Queues are served by different threads: messages offered earlier may not have been looked at.
        self.look();
        self.state.lock().mode = Mode::Reject(S_IO_ERR);
        (self.stats.messages.load(Relaxed) - before) as usize
    }
}
