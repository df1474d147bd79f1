//! An engine that takes its first turn long after START: what the guest played meanwhile is heard, from the beginning on.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use _core::guest::{Options, PcmParams, Run, Shape as Layout, StreamOptions, numbered};
use _core::pcm::Stream;
use _core::pcm::clock::{ClockPort, Kind};
use common::{BUFFER, PERIOD, Rig};

const FRAME: usize = 4;
/// Bytes of a tenth of a second, and of a turn.
const TENTH: usize = 4800 * FRAME;
const TURN: usize = 256 * FRAME;

/// A guest that plays, and an engine that is not there yet.
struct Late {
    rig: Rig,
    stream: Arc<Stream>,
    clock: Arc<ClockPort>,
    run: Run,
    heard: Vec<u8>,
}

impl Late {
    fn new(sent: Vec<u8>) -> Late {
        let rig = Rig::new(&[false]);
        let driver = rig.connect(Options::default());
        let (buffer_bytes, period_bytes) = (BUFFER as u32, PERIOD as u32);
        let params = PcmParams { buffer_bytes, period_bytes, features: 0, channels: 2, format: 5, rate: 7 };
        let options = StreamOptions {
            stream: 0,
            capture: false,
            params,
            message_bytes: None,
            shape: Layout::default(),
            starve: None,
            stall: Duration::from_secs(5),
        };
        let stream = rig.streams[0].clone();
        let clock = ClockPort::new(stream.clone(), Kind::StandIn);
        let total = sent.len() as u64;
        let run = driver.start_stream(options, sent, total).expect("start");
        clock.start();
        Late { rig, stream, clock, run, heard: Vec::new() }
    }

    fn kept(&self) -> usize {
        self.stream.ahead_bytes()
    }

    /// Turns of an engine, until `f`. It gives a busy machine the time to prepare each, as long as one can be waited for.
    fn hear(&mut self, f: impl Fn(&Late) -> bool) {
        let mut part = [0; TURN];
        while !f(self) {
            let before = self.kept();
            let n = self.stream.pull(&mut part, 0);
            self.heard.extend(&part[..n]);
            std::thread::sleep(Duration::from_micros(5333));
            for _ in 0..50 {
                if self.kept() >= before && self.stream.queued_bytes() >= TURN {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn end(self) -> Vec<u8> {
        self.run.stop(true).expect("report");
        self.clock.close();
        self.heard
    }
}

#[test]
fn what_was_kept_for_it_is_heard_first_and_the_guest_keeps_its_pace_meanwhile() {
    let sent = numbered(1, 72_000, FRAME);
    let mut late = Late::new(sent.clone());
    late.rig.until("a tenth of a second", || late.kept() >= TENTH);
    assert_eq!(late.stream.stats.stalls.load(Relaxed), 1);
    let (kept, done) = (late.kept(), late.run.progress().1);
    // Before half of that was heard, the guest has got more than its buffer back.
    late.hear(|l| l.run.progress().1 > done + BUFFER as u64);
    assert!(late.heard.len() > kept / 2 || late.kept() > kept / 2, "it stays ahead");
    assert!(late.run.progress().1 as usize > late.heard.len() + kept / 4, "and the guest is told by its latency");
    assert!(late.stream.stats.latency.load(Relaxed) as usize > kept / 2);

    // A gap of the guest's is where it goes.
    late.run.starve(true).expect("starve");
    late.hear(|l| l.kept() == 0);
    assert_eq!(late.stream.stats.xruns.load(Relaxed), 0, "nothing was missing so far");
    late.run.starve(false).expect("feed");
    late.hear(|l| l.heard.len() == sent.len());
    assert!(late.end() == sent, "the stream differs");
}

#[test]
fn silence_is_where_it_catches_up() {
    let sent = [numbered(1, 24_000, FRAME), vec![0; 24_000 * FRAME], numbered(24_001, 24_000, FRAME)].concat();
    let mut late = Late::new(sent.clone());
    late.rig.until("a tenth of a second", || late.kept() >= TENTH);
    let end = 48_000_u32.to_le_bytes();
    late.hear(|l| l.heard.ends_with(&end));
    assert_eq!(late.stream.stats.xruns.load(Relaxed), 0);
    let heard = late.end();
    assert!(heard.len() < sent.len() - TENTH / 2, "it caught up");
    assert!(heard.starts_with(&sent[..24_000 * FRAME]) && heard.ends_with(&sent[48_000 * FRAME..]));
    assert!(
        heard[24_000 * FRAME..heard.len() - 24_000 * FRAME].iter().all(|b| *b == 0),
        "only of silence is some left out"
    );
}

#[test]
fn an_engine_that_does_not_come_for_a_second_is_gone_and_nothing_is_kept_for_it() {
    let late = Late::new(numbered(1, 96_000, FRAME));
    let stats = &late.stream.stats;
    late.rig.until("something kept", || late.kept() > 0);
    late.rig.until("the end of that", || stats.xruns.load(Relaxed) > 0);
    late.rig.until("nothing kept", || late.kept() == 0);
    let passed = stats.stood_in.load(Relaxed);
    assert!(passed > 9 * TENTH as u64 && passed == stats.missing.load(Relaxed));
    late.rig.until("the guest's pace", || stats.stood_in.load(Relaxed) > passed + TENTH as u64);
    assert_eq!(late.kept(), 0);
    late.end();
}
