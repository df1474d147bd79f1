//! Turns of engines, and what is read ahead of them, handed on behind them, or kept for one that is late: byte by byte what the
//! model says.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use _core::pcm::Stream;
use _core::vhost::Caller;

use super::DIRECTIONS;
use super::bench::{Bench, SHAPE, tone};
use super::model::Moved;

/// What may be given back in one wake-up.
const BURST: usize = SHAPE.buffer - SHAPE.period;
const SECOND: usize = SHAPE.rate as usize * SHAPE.frame;

/// The model of the bytes on their way between a guest and an engine.
#[derive(Default)]
pub struct Ahead {
    bytes: VecDeque<u8>,
    /// Room for bytes; None: nothing was read ahead since the last reset.
    room: Option<usize>,
    /// Somebody will look whether something is due.
    working: bool,
    surplus: usize,
    /// No engine has taken a turn since the beginning, and it is not taken for gone.
    awaited: bool,
    /// Audio was moved since START.
    armed: bool,
    /// Bytes of the last turn.
    turn: usize,
}

impl Ahead {
    /// The ring starts.
    pub fn begin(&mut self) {
        self.awaited = true;
    }

    pub fn start(&mut self, empty: bool) {
        (self.awaited, self.armed) = (true, false);
        if empty {
            self.clear();
        }
    }

    pub fn stop(&mut self) {
        self.armed = false;
    }

    /// A turn is known to be wanted still, which does no harm.
    pub fn reset(&mut self) {
        self.clear();
        (self.room, self.armed) = (None, false);
    }

    pub fn compare(&self, stream: &Stream) {
        assert_eq!(stream.ahead_bytes(), self.bytes.len(), "bytes read ahead");
        assert!(self.bytes.iter().eq(&stream.read_ahead()), "another sound is read ahead");
        assert!(self.bytes.len() <= SECOND.max(8 * BURST), "as much is read ahead as a guest wants");
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.surplus = 0;
    }

    fn grow(&mut self, size: usize) {
        if self.room.is_none_or(|room| room < size) {
            self.room = Some(size.next_power_of_two());
        }
    }

    fn pop(&mut self, n: usize) -> Vec<u8> {
        let n = n.min(self.bytes.len());
        self.bytes.drain(..n).collect()
    }

    fn took_turn(&mut self, n: usize) {
        (self.awaited, self.turn) = (false, n);
    }

    /// What of the next turn is due when the last one is long over: whole frames in equal parts.
    fn due(&self) -> usize {
        let parts = (4 * self.turn).div_ceil(3 * BURST).max(1);
        let part = (self.turn / SHAPE.frame).div_ceil(parts).max(1) * SHAPE.frame;
        (parts * part).min(self.turn)
    }
}

impl Bench {
    /// An engine's turn: what it hears, or what the guest records, is what the model says.
    pub(super) fn turn(&mut self, stream: usize, bytes: usize, real_time: bool) {
        let i = stream % DIRECTIONS.len();
        let who = if real_time { Caller::RealTime } else { Caller::Worker };
        let large = real_time && bytes > BURST;
        let mut buffer = vec![0x11; bytes];
        if DIRECTIONS[i] {
            self.clock = self.clock.wrapping_add(1);
            buffer.iter_mut().zip(0..).for_each(|(b, at)| *b = tone(self.clock.into(), at));
            let n = self.streams[i].push_as(&buffer, 0, who);
            assert_eq!(n, self.record(i, &buffer, large), "bytes recorded");
        } else {
            let n = self.streams[i].pull_as(&mut buffer, 0, who);
            let want = self.play(i, bytes, large);
            assert_eq!(n, want.len(), "bytes heard");
            assert!(want == buffer[..n], "another sound");
            assert!(buffer[n..].iter().all(|&b| b == 0x11), "written behind the end");
        }
    }

    fn play(&mut self, i: usize, n: usize, large: bool) -> Vec<u8> {
        let a = &mut self.ahead[i];
        if a.room.is_none() && !large {
            if !self.model.look(i) {
                return Vec::new();
            }
            a.took_turn(n);
            let heard = sound(&self.model.take(i, n));
            a.armed |= !heard.is_empty();
            return heard;
        }
        if !self.model.rings[0].open {
            return Vec::new();
        }
        let mut heard = a.pop(n);
        if a.surplus > 0 {
            if a.bytes.len() >= n && heard.iter().all(|&b| b == SHAPE.silence) {
                heard = a.pop(n);
            }
            a.surplus = a.surplus.min(a.bytes.len());
        }
        a.took_turn(n);
        let first = (large || a.surplus > 0) && !std::mem::replace(&mut a.working, true);
        if heard.len() == n {
            a.armed |= self.model.streams[i].running && n > 0;
        } else if self.model.look(i) {
            // What is heard begins with a whole turn, which the next one is.
            if !first || !heard.is_empty() || a.armed {
                heard.extend(sound(&self.model.take(i, n - heard.len())));
            }
            a.armed |= !heard.is_empty();
        }
        heard
    }

    fn record(&mut self, i: usize, src: &[u8], large: bool) -> usize {
        let (n, a) = (src.len(), &mut self.ahead[i]);
        if (large || a.room.is_some()) && !self.model.rings[1].open {
            return 0;
        }
        let queue = a.room.filter(|_| large || !a.bytes.is_empty());
        if queue.is_some() || large {
            a.took_turn(n);
            a.working = true;
            // Before there is a queue a large turn is lost: nobody knew.
            let put = queue.map_or(n, |room| n.min(room - a.bytes.len()));
            a.bytes.extend(&src[..queue.map_or(0, |_| put)]);
            if put == n {
                a.armed |= self.model.streams[i].running && n > 0;
            } else if self.model.look(i) {
                a.armed |= put > 0;
            }
            return put;
        }
        if !self.model.look(i) {
            return 0;
        }
        a.took_turn(n);
        let moved = self.model.take(i, n);
        let n = self.note(&moved, src);
        self.ahead[i].armed |= n > 0;
        n
    }

    /// The messages now hold this. Returns how much of it they took.
    fn note(&mut self, moved: &[Moved], src: &[u8]) -> usize {
        let mut from = 0;
        for &(serial, at, n) in moved {
            let content = self.recorded.entry(serial).or_default();
            // A message that began again after a stop is overwritten from its beginning.
            content.resize(at, 0xee);
            content.extend(&src[from..from + n]);
            from += n;
        }
        from
    }

    /// Somebody looks long after the last turn: all of the next one is due.
    pub(super) fn read_ahead(&mut self, stream: usize) {
        let i = stream % DIRECTIONS.len();
        self.streams[i].work_ahead(Instant::now() + Duration::from_secs(10), &mut Vec::new());
        let a = &mut self.ahead[i];
        if !a.working {
            return;
        }
        a.grow(2 * a.turn + a.surplus);
        self.model.see(DIRECTIONS[i], false);
        let over = if DIRECTIONS[i] { a.bytes.is_empty() } else { a.surplus == 0 };
        if !self.model.moves(i) || (a.turn <= BURST && over) {
            a.working = false;
            return;
        }
        let (due, held) = (a.due(), a.bytes.len());
        if DIRECTIONS[i] {
            let n = held.saturating_sub(a.turn - due).min(BURST);
            let moved = self.model.take(i, n);
            let taken = a.pop(moved.iter().map(|m| m.2).sum());
            self.note(&moved, &taken);
        } else {
            let room = a.room.unwrap_or(0) - held;
            let n = (a.surplus + due).saturating_sub(held).min(BURST).min(room);
            a.bytes.extend(sound(&self.model.take(i, n)));
        }
    }

    /// The clock in the place of an engine: silence is recorded; what is played passes unheard, or is kept for one that is late.
    pub(super) fn stand_in(&mut self, stream: usize, bytes: usize) {
        let i = stream % DIRECTIONS.len();
        let s = &self.streams[i];
        s.stand_in(&mut vec![SHAPE.silence; bytes], s.stats.turns.load(Relaxed));
        let a = &mut self.ahead[i];
        if DIRECTIONS[i] || !a.awaited {
            let moved = self.model.shift(i, bytes);
            if DIRECTIONS[i] {
                self.note(&moved, &vec![SHAPE.silence; bytes]);
            }
        } else if a.bytes.len() + bytes > SECOND {
            a.clear();
            a.awaited = false;
            self.model.shift(i, bytes);
        } else {
            a.grow(a.bytes.len() + bytes);
            if self.model.look(i) {
                a.bytes.extend(sound(&self.model.take(i, bytes)));
                a.surplus = a.bytes.len();
            }
        }
    }

    /// What was read ahead goes out and in: whole frames only, and more than 50 ms stay ahead.
    pub(super) fn carry(&mut self, stream: usize) {
        let i = stream % DIRECTIONS.len();
        let (s, a) = (&self.streams[i], &mut self.ahead[i]);
        let saved = s.read_ahead();
        let n = saved.len();
        assert_eq!(s.restore_read_ahead(&saved).is_ok(), n % SHAPE.frame == 0);
        if n % SHAPE.frame == 0 {
            a.surplus = if DIRECTIONS[i] || n <= SECOND / 20 { 0 } else { n };
            if n > 0 {
                a.grow(n);
            }
        }
    }
}

/// What an engine hears of messages.
fn sound(moved: &[Moved]) -> Vec<u8> {
    moved.iter().flat_map(|&(serial, at, n)| (at..at + n).map(move |i| tone(serial, i))).collect()
}
