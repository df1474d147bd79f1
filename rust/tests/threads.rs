//! The locks between a ring and its streams: workers, engines, the policy and a VMM at once, with nothing to pace them.
//!
//! loom would need every lock, the eventfds and the guest's memory behind its own types; these are the real ones, and each
//! run has some hundred thousand of the crossings that matter.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use _core::guest::{Driver, Kick, Options, Piece, wire};
use _core::pcm::stream::Mode;
use _core::vhost::Caller;
use common::{Engine, Rig, shape};

const STREAMS: usize = 3;
const BYTES: u32 = 96;
const MESSAGES: usize = 40_000;

/// Each message says whose it is, and which of its stream's.
fn message(driver: &Driver, place: u64, stream: u32, number: u32) -> [Piece; 3] {
    let ram = driver.ram();
    ram.write(place, &stream.to_le_bytes()).unwrap();
    let words: Vec<u8> = (0..BYTES / 4).flat_map(|_| number.to_le_bytes()).collect();
    ram.write(place + 16, &words).unwrap();
    let piece = |addr, len, writable| Piece { addr, len, writable };
    [piece(place, 4, false), piece(place + 16, BYTES, false), piece(place + 128, 8, true)]
}

/// Three streams on a ring are pulled by engines, drained by a worker, stopped, started and looked at, while the guest plays:
/// each engine hears its own stream's messages, in order and whole, and every message comes back once.
#[test]
fn route_stop_and_pull_from_every_side() {
    let rig = Rig::new(&[false; STREAMS]);
    let driver = rig.connect(Options::default());
    for s in &rig.streams {
        s.configure(shape(4)).unwrap();
        s.set_mode(Mode::Queue);
        s.start();
    }
    // As a callback, as a thread that may wait, and as one that sleeps until there is something.
    let engine = Engine::new(&rig.streams[0], 160, Duration::ZERO);
    let quit = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = rig.streams[1..]
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let (s, quit) = (s.clone(), quit.clone());
            std::thread::spawn(move || {
                let (mut heard, mut buffer) = (Vec::new(), [0; 200]);
                while !quit.load(Relaxed) {
                    if i == 1 && !s.wait(Some(Duration::from_millis(20))) {
                        std::thread::yield_now();
                    }
                    let n = s.pull_as(&mut buffer, 0, Caller::Worker);
                    heard.extend(&buffer[..n]);
                }
                heard
            })
        })
        .collect();
    let policy = {
        let (streams, quit) = (rig.streams.clone(), quit.clone());
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
            // Whoever came last, they run.
            streams.iter().for_each(|s| s.start());
            turns
        })
    };
    let ram = driver.ram();
    let mut free: Vec<u64> = (0..48).map(|_| ram.alloc(256, 256).unwrap()).collect();
    let (mut away, mut next) = (std::collections::BTreeMap::new(), [0u32; STREAMS]);
    let queue = driver.queue(wire::TX).unwrap();
    let (mut sent, mut stops) = (0, 0);
    while sent < MESSAGES || !away.is_empty() {
        {
            let mut tx = queue.lock();
            while sent < MESSAGES
                && let Some(place) = free.pop()
            {
                let stream = sent % 7 % STREAMS;
                let pieces = message(&driver, place, stream as u32, next[stream]);
                next[stream] += 1;
                sent += 1;
                away.insert(tx.push(&pieces, true).unwrap(), place);
            }
            tx.publish(if sent % 5 == 0 { Kick::Always } else { Kick::Asked });
            while let Some(used) = tx.reap() {
                assert!(used.known, "head {} came back twice", used.head);
                free.push(away.remove(&(used.head as u16)).expect("away"));
            }
        }
        if sent == MESSAGES {
            quit.store(true, Relaxed);
            // They hear nothing any more, and the first takes all that is left of its own; the rest is given back.
            rig.streams[1..].iter().for_each(|s| drop(s.flush(0x8000)));
        } else if sent % 64 == 0 {
            // No message was completed out of order here, so none is cut: see below.
            stops += 1;
            driver.remap().expect("remap");
        }
        std::thread::yield_now();
    }
    let turns = policy.join().expect("policy");
    assert!(turns > 100 && stops > 10, "{turns} turns, {stops} remaps");
    let mut heard = vec![engine.stop()];
    heard.extend(others.into_iter().map(|t| t.join().expect("engine")));
    for (stream, bytes) in heard.iter().enumerate() {
        let numbers: Vec<u32> = bytes.chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().unwrap())).collect();
        let want = (0..next[stream]).flat_map(|n| std::iter::repeat_n(n, BYTES as usize / 4));
        assert!(want.take(numbers.len()).eq(numbers.iter().copied()), "stream {stream} heard another sound");
        assert!(!numbers.is_empty(), "stream {stream} heard nothing");
    }
    let _: BTreeSet<u16> = away.into_keys().collect();
}
