//! What becomes of each message, said once more and as plainly as possible: a list for each ring, a list for each stream.

use std::collections::VecDeque;

use super::DIRECTIONS;

/// A message that the guest has offered.
#[derive(Debug, Clone)]
pub struct Message {
    pub serial: u64,
    pub head: u16,
    pub stream: usize,
    /// Bytes of sound, or room for them.
    pub len: usize,
    /// Its header and its status are there.
    pub sound: bool,
    pub has_status: bool,
    /// Too long for a real-time caller.
    pub long: bool,
    pub pos: usize,
}

/// One that must have come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Back {
    pub head: u16,
    pub len: u32,
    pub status: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Reject(u32),
    Queue,
    Discard,
}

pub const OK: u32 = 0x8000;
pub const IO_ERR: u32 = 0x8003;

/// A stretch of a message that an engine has moved: (message, from, bytes).
pub type Moved = (u64, usize, usize);

pub struct StreamModel {
    mode: Mode,
    pub running: bool,
    items: VecDeque<Message>,
    /// Moved, and to be given back when the guest's buffer allows it: with the payload.
    waiting: VecDeque<(Back, usize)>,
    /// So many items were released while the ring stood still.
    flushed: usize,
    /// An engine looks at the ring by itself.
    pulling: bool,
}

#[derive(Default)]
pub struct RingModel {
    pub open: bool,
    /// Offered and not looked at.
    unseen: VecDeque<Message>,
}

/// See the module text.
pub struct Model {
    pub streams: Vec<StreamModel>,
    pub rings: [RingModel; 2],
    burst: usize,
    /// Since this was looked at last.
    pub back: [Vec<Back>; 2],
}

impl StreamModel {
    fn new() -> Self {
        let mode = Mode::Reject(IO_ERR);
        let (items, waiting) = (VecDeque::new(), VecDeque::new());
        StreamModel { mode, running: false, items, waiting, flushed: 0, pulling: false }
    }
}

impl Model {
    pub fn new(burst: usize) -> Self {
        let streams = DIRECTIONS.iter().map(|_| StreamModel::new()).collect();
        Model { streams, rings: Default::default(), burst, back: Default::default() }
    }

    pub fn offer(&mut self, rx: bool, message: Message) {
        self.rings[usize::from(rx)].unseen.push_back(message);
    }

    /// The device looks at a ring. A real-time caller stops at a message that it may not take.
    pub fn see(&mut self, rx: bool, real_time: bool) {
        let r = usize::from(rx);
        while self.rings[r].open {
            match self.rings[r].unseen.front() {
                Some(m) if !(real_time && m.long) => {}
                _ => return,
            }
            let m = self.rings[r].unseen.pop_front().expect("looked at");
            self.hand_on(rx, m);
        }
    }

    fn hand_on(&mut self, rx: bool, m: Message) {
        let r = usize::from(rx);
        let known = DIRECTIONS.get(m.stream) == Some(&rx);
        if !m.sound || !known {
            self.back[r].push(given(&m, 0, IO_ERR));
            return;
        }
        let s = &mut self.streams[m.stream];
        if let Mode::Reject(status) = s.mode {
            self.back[r].push(given(&m, 0, status));
            return;
        }
        if s.mode == Mode::Discard && s.running {
            let data = if rx { m.len } else { 0 };
            self.back[r].push(given(&m, data, OK));
        } else {
            s.items.push_back(m);
        }
    }

    /// What an engine's turn of `n` bytes moves.
    pub fn shift(&mut self, stream: usize, n: usize) -> Vec<Moved> {
        if self.look(stream) { self.take(stream, n) } else { Vec::new() }
    }

    /// An engine looks at the ring. Whether anything can move.
    pub fn look(&mut self, stream: usize) -> bool {
        if self.streams[stream].pulling {
            self.see(DIRECTIONS[stream], true);
        }
        self.moves(stream)
    }

    /// Whether anything can move.
    pub fn moves(&self, stream: usize) -> bool {
        self.streams[stream].running && self.rings[usize::from(DIRECTIONS[stream])].open
    }

    /// The next `n` bytes of a stream that can move.
    pub fn take(&mut self, stream: usize, n: usize) -> Vec<Moved> {
        let rx = DIRECTIONS[stream];
        let s = &mut self.streams[stream];
        let (mut moved, mut left) = (Vec::new(), n);
        while left > 0 {
            let Some(m) = s.items.front_mut() else { break };
            let take = (m.len - m.pos).min(left);
            moved.push((m.serial, m.pos, take));
            (m.pos, left) = (m.pos + take, left - take);
            if m.pos == m.len {
                let m = s.items.pop_front().expect("there");
                s.waiting.push_back((given(&m, if rx { m.len } else { 0 }, OK), m.len));
            }
        }
        let mut sum = 0;
        while let Some(&(back, payload)) = s.waiting.front() {
            sum += payload;
            if sum > self.burst && sum != payload {
                break;
            }
            s.waiting.pop_front();
            self.back[usize::from(rx)].push(back);
        }
        moved
    }

    /// START discards what was read ahead: nobody will hear it, or it was recorded before.
    pub fn begins_empty(&self, stream: usize) -> bool {
        DIRECTIONS[stream] || self.streams[stream].mode == Mode::Discard
    }

    pub fn prepare(&mut self, stream: usize, discard: bool) {
        self.streams[stream].mode = if discard { Mode::Discard } else { Mode::Queue };
    }

    pub fn start(&mut self, stream: usize) {
        let s = &mut self.streams[stream];
        s.running = true;
        s.pulling = s.mode != Mode::Discard;
        if s.mode == Mode::Discard && self.rings[usize::from(DIRECTIONS[stream])].open {
            self.consume_all(stream);
        }
    }

    /// Everything comes back as if an engine had moved it.
    fn consume_all(&mut self, stream: usize) {
        let rx = DIRECTIONS[stream];
        let s = &mut self.streams[stream];
        let done = s.items.drain(..).map(|m| given(&m, if rx { m.len } else { 0 }, OK));
        let all: Vec<_> = s.waiting.drain(..).map(|w| w.0).chain(done).collect();
        self.back[usize::from(rx)].extend(all);
    }

    pub fn stop(&mut self, stream: usize) {
        let s = &mut self.streams[stream];
        (s.running, s.pulling) = (false, false);
    }

    /// RELEASE: everything comes back, also what was not looked at; while the ring stands still, when it goes on.
    pub fn flush(&mut self, stream: usize) {
        let rx = DIRECTIONS[stream];
        if self.rings[usize::from(rx)].open {
            self.give_back(stream, usize::MAX, OK);
        } else {
            self.streams[stream].flushed = self.streams[stream].items.len();
        }
        self.streams[stream].mode = Mode::Reject(OK);
        self.see(rx, false);
        self.streams[stream].mode = Mode::Reject(IO_ERR);
    }

    /// The first `n` messages come back as they are.
    fn give_back(&mut self, stream: usize, n: usize, status: u32) {
        let s = &mut self.streams[stream];
        let n = n.min(s.items.len());
        let rx = DIRECTIONS[stream];
        let data = |m: &Message| if rx { m.pos } else { 0 };
        let done: Vec<_> = s.items.drain(..n).map(|m| given(&m, data(&m), status)).collect();
        let all: Vec<_> = s.waiting.drain(..).map(|w| w.0).chain(done).collect();
        self.back[usize::from(rx)].extend(all);
    }

    fn of_ring(rx: bool) -> impl Iterator<Item = usize> {
        (0..DIRECTIONS.len()).filter(move |&i| DIRECTIONS[i] == rx)
    }

    /// The ring stops. What was moved to its end comes back, the rest stays as it is.
    pub fn stop_ring(&mut self, rx: bool) {
        if std::mem::take(&mut self.rings[usize::from(rx)].open) {
            Self::of_ring(rx).for_each(|i| self.give_back(i, 0, OK));
        }
    }

    /// The ring goes on where it was.
    pub fn resume_ring(&mut self, rx: bool) {
        self.rings[usize::from(rx)].open = true;
        for i in Self::of_ring(rx) {
            let flushed = std::mem::take(&mut self.streams[i].flushed);
            self.give_back(i, flushed, IO_ERR);
            if self.streams[i].running && self.streams[i].mode == Mode::Discard {
                self.consume_all(i);
            }
        }
    }

    /// Everything from the start; whatever was away never comes back.
    pub fn reset(&mut self) {
        self.streams.iter_mut().for_each(|s| *s = StreamModel::new());
        self.rings = Default::default();
        self.back = Default::default();
    }

    /// Messages that a ring still has.
    pub fn away(&self, rx: bool) -> usize {
        let of = |(i, s): (usize, &StreamModel)| if DIRECTIONS[i] == rx { s.items.len() + s.waiting.len() } else { 0 };
        self.rings[usize::from(rx)].unseen.len() + self.streams.iter().enumerate().map(of).sum::<usize>()
    }
}

fn given(m: &Message, data: usize, status: u32) -> Back {
    let (len, status) = if m.has_status { (data as u32 + 8, Some(status)) } else { (0, None) };
    Back { head: m.head, len, status }
}
