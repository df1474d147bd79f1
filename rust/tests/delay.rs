//! What Linux makes of the latency that it is told, an engine's turns being the clock: `snd_pcm_delay` of who plays.
//!
//! Linux (sound/virtio/virtio_pcm_msg.c) adds the length of each message that came back to its position, and keeps the latency of
//! the last one. `snd_pcm_delay` is what was written less that position, plus that latency. All in frames here.

use std::collections::VecDeque;
use std::sync::Arc;

use _core::guest::{Driver, Kick, Options, Piece, wire};
use _core::pcm::Stream;
use _core::pcm::stream::{Mode, Shape};
use _core::vhost::Caller;

mod common;
use common::Rig;

const FRAME: usize = 4;
/// What the engine says is heard before the first frame of a turn.
const AHEAD: usize = 300;
const TURNS: usize = 200;

/// Keeps the buffer of a Linux guest full, and asks for the delay after each write.
struct Application {
    driver: Arc<Driver>,
    period: usize,
    header: u64,
    data: u64,
    /// Head and place of the status of each message that is away.
    away: VecDeque<(u16, u64)>,
    free: Vec<u64>,
    written: usize,
    position: usize,
    latency: usize,
    delays: Vec<i64>,
}

impl Application {
    fn new(driver: Arc<Driver>, period: usize, periods: usize) -> Self {
        let ram = driver.ram();
        let (header, data) = (ram.alloc(16, 16).unwrap(), ram.alloc((period * FRAME) as u64, 16).unwrap());
        ram.write(header, &0u32.to_le_bytes()).unwrap();
        let free = (0..periods).map(|_| ram.alloc(16, 16).unwrap()).collect();
        let (away, delays) = (VecDeque::new(), Vec::new());
        let mut application =
            Application { driver, period, header, data, away, free, written: 0, position: 0, latency: 0, delays };
        (0..periods).for_each(|_| application.write());
        application
    }

    fn write(&mut self) {
        let status = self.free.pop().expect("a free message");
        let piece = |addr, len, writable| Piece { addr, len, writable };
        let sound = piece(self.data, (self.period * FRAME) as u32, false);
        let mut tx = self.driver.queue(wire::TX).unwrap().lock();
        let head = tx.push(&[piece(self.header, 4, false), sound, piece(status, 8, true)], true).unwrap();
        // While it plays, the engine looks.
        tx.publish(Kick::Never);
        self.away.push_back((head, status));
        self.written += self.period;
    }

    /// What came back is written again. Where Linux is after each message: so much was heard.
    fn wake_up(&mut self) -> Vec<i64> {
        let back: Vec<_> = std::iter::from_fn(|| self.driver.queue(wire::TX).unwrap().lock().reap()).collect();
        let mut heard = Vec::new();
        for used in &back {
            let (head, status) = self.away.pop_front().expect("away");
            assert_eq!(used.head, u32::from(head), "out of order");
            let told = self.driver.ram().read(status, 8).unwrap();
            let [code, latency] = [0, 4].map(|i| u32::from_le_bytes(told[i..i + 4].try_into().unwrap()));
            assert_eq!(code, wire::OK);
            self.free.push(status);
            self.position += self.period;
            self.latency = latency as usize / FRAME;
            heard.push(self.position as i64 - self.latency as i64);
        }
        for _ in back {
            self.write();
            self.delays.push((self.written - self.position + self.latency) as i64);
        }
        heard
    }
}

fn play(stream: &Stream, driver: Arc<Driver>, (period, periods, quantum): (usize, usize, usize)) -> Vec<i64> {
    let (period_bytes, buffer) = (period * FRAME, period * periods * FRAME);
    let shape = Shape { buffer, period: period_bytes, frame: FRAME, rate: 48000, silence: 0, polling: false };
    stream.configure(shape).unwrap();
    stream.set_mode(Mode::Queue);
    stream.start();
    let mut application = Application::new(driver, period, periods);
    let mut turn = vec![0; quantum * FRAME];
    for n in 0..TURNS {
        assert_eq!(stream.pull_as(&mut turn, (AHEAD * FRAME) as isize, Caller::RealTime), turn.len());
        // Heard is what earlier turns took, but for what is still ahead of the ear; each message says so, also one of several.
        let now = (n * quantum) as i64 - AHEAD as i64;
        assert!(application.wake_up().iter().all(|&heard| heard == now), "{period}x{periods} at {quantum}");
    }
    stream.stop();
    stream.flush(wire::OK);
    application.delays
}

#[test]
fn the_delay_follows_the_clock_and_steps_by_a_period_at_most_where_a_turn_is_no_longer_than_two() {
    let shapes: Vec<_> = [
        (480, 4, vec![64, 256, 441, 480, 512, 960, 1024, 1440]),
        (480, 3, vec![512, 960]),
        (480, 2, vec![117, 256, 480]),
        (1024, 2, vec![128, 1024]),
        (256, 3, vec![512]),
        (128, 16, vec![128, 1024, 1920]),
    ]
    .into_iter()
    .flat_map(|(period, periods, quanta)| quanta.into_iter().map(move |quantum| (period, periods, quantum)))
    .collect();
    for (period, periods, quantum) in shapes {
        let rig = Rig::new(&[false]);
        let driver = rig.connect(Options::default());
        rig.until_started();
        let delays = play(&rig.streams[0], driver, (period, periods, quantum));
        let steps: Vec<_> = delays.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.len() > 20);
        let (p, q) = (period as i64, quantum as i64);
        // From one write to the next a period was written, while no time passed, or so many turns as a period needs.
        let some = |step: i64| (p / q..=(p + q - 1) / q).any(|turns| step == p - turns * q);
        assert!(steps.iter().all(|&step| step == p || some(step)), "{period}x{periods} at {quantum}: {steps:?}");
        assert!(q > 2 * p || steps.iter().all(|step| step.abs() <= p), "{period}x{periods} at {quantum}: {steps:?}");
    }
}
