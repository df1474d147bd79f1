//! The locks between a ring and its streams: workers, engines, the policy and a VMM at once, with nothing to pace them.
//!
//! loom would need every lock, the eventfds and the guest's memory behind types of its own; here are the real ones, and each
//! run has some hundred thousand of the crossings that matter.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use _core::guest::{Driver, Kick, Options, Piece, Queue, wire};
use _core::pcm::Stream;
use _core::pcm::stream::Mode;
use _core::vhost::Caller;
use common::{Engine, Rig, shape};

const STREAMS: usize = 3;
const BYTES: u32 = 96;
const MESSAGES: usize = 20_000;

/// Each message says whose it is, and which of its stream's.
fn message(driver: &Driver, place: u64, stream: u32, number: u32) -> [Piece; 3] {
    let ram = driver.ram();
    ram.write(place, &stream.to_le_bytes()).unwrap();
    let words: Vec<u8> = (0..BYTES / 4).flat_map(|_| number.to_le_bytes()).collect();
    ram.write(place + 16, &words).unwrap();
    let piece = |addr, len, writable| Piece { addr, len, writable };
    [piece(place, 4, false), piece(place + 16, BYTES, false), piece(place + 128, 8, true)]
}

/// An engine that may wait; `sleeps`: until there is something to play.
fn waiting_engine(stream: &Arc<Stream>, sleeps: bool, quit: &Arc<AtomicBool>) -> JoinHandle<Vec<u8>> {
    let (s, quit) = (stream.clone(), quit.clone());
    std::thread::spawn(move || {
        let (mut heard, mut buffer) = (Vec::new(), [0; 200]);
        while !quit.load(Relaxed) {
            if sleeps && !s.wait(Some(Duration::from_millis(20))) {
                std::thread::yield_now();
            }
            let n = s.pull_as(&mut buffer, 0, Caller::Worker);
            heard.extend(&buffer[..n]);
        }
        heard
    })
}

/// STOP and START as fast as they go; how many.
fn policy(streams: &[Arc<Stream>], quit: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let (streams, quit) = (streams.to_vec(), quit.clone());
    std::thread::spawn(move || {
        let mut turns = 0;
        while !quit.load(Relaxed) {
            for s in &streams {
                s.stop();
                std::thread::yield_now();
                s.start();
                turns += 1;
            }
        }
        turns
    })
}

struct Guest {
    free: Vec<u64>,
    away: BTreeMap<u16, u64>,
    /// Messages of each stream so far.
    sent: [u32; STREAMS],
}

impl Guest {
    fn total(&self) -> usize {
        self.sent.iter().sum::<u32>() as usize
    }

    /// Offer what there is room for, and take what came back.
    fn turn(&mut self, driver: &Driver, tx: &mut Queue) {
        while self.total() < MESSAGES
            && let Some(place) = self.free.pop()
        {
            let stream = self.total() % 7 % STREAMS;
            let pieces = message(driver, place, stream as u32, self.sent[stream]);
            self.sent[stream] += 1;
            self.away.insert(tx.push(&pieces, true).unwrap(), place);
        }
        tx.publish(if self.total().is_multiple_of(5) { Kick::Always } else { Kick::Asked });
        while let Some(used) = tx.reap() {
            assert!(used.known, "head {} came back twice", used.head);
            self.free.push(self.away.remove(&(used.head as u16)).expect("away"));
        }
    }
}

/// Three streams on a ring are pulled by engines, drained by a worker, stopped and started, while the ring is stopped and started
/// and the memory replaced: each engine hears its own stream's messages, whole and in order, and each comes back once.
#[test]
fn route_stop_and_pull_from_every_side() {
    let rig = Rig::new(&[false; STREAMS]);
    let driver = rig.connect(Options::default());
    for s in &rig.streams {
        s.configure(shape(4)).unwrap();
        s.set_mode(Mode::Queue);
        s.start();
    }
    let quit = Arc::new(AtomicBool::new(false));
    let callback = Engine::new(&rig.streams[0], 160, Duration::ZERO);
    let others = [1, 2].map(|i| waiting_engine(&rig.streams[i], i == 2, &quit));
    let policy = policy(&rig.streams, &quit);
    let free = (0..48).map(|_| driver.ram().alloc(256, 256).unwrap()).collect();
    let mut guest = Guest { free, away: BTreeMap::new(), sent: [0; STREAMS] };
    let queue = driver.queue(wire::TX).unwrap();
    for round in 1.. {
        guest.turn(&driver, &mut queue.lock());
        if guest.total() == MESSAGES {
            break;
        }
        match round % 64 {
            0 => driver.remap().expect("remap"),
            32 => {
                let base = driver.stop_one(wire::TX).expect("stop");
                assert_eq!(base, queue.lock().used_index(), "taken but not given back");
                driver.start_one(wire::TX, base).expect("start");
            }
            _ => std::thread::yield_now(),
        }
    }
    quit.store(true, Relaxed);
    let turns = policy.join().expect("policy");
    assert!(turns > 100, "{turns} turns");
    let mut heard: Vec<_> = others.into_iter().map(|t| t.join().expect("engine")).collect();
    heard.insert(0, callback.stop());
    rig.streams.iter().for_each(|s| {
        s.flush(0x8000);
    });
    guest.turn(&driver, &mut queue.lock());
    assert!(guest.away.is_empty(), "{:?} never came back", guest.away);
    for (stream, bytes) in heard.iter().enumerate() {
        let numbers: Vec<u32> = bytes.chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().unwrap())).collect();
        let want = (0..guest.sent[stream]).flat_map(|n| std::iter::repeat_n(n, BYTES as usize / 4));
        assert!(want.take(numbers.len()).eq(numbers.iter().copied()), "stream {stream} heard another sound");
        assert!(numbers.len() > 1000, "stream {stream} heard {} words", numbers.len());
    }
}
