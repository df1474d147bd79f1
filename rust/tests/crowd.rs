//! A guest that offers far more than is usual: nothing is lost, though little room is kept for it in advance.

mod common;

use std::cell::Cell;
use std::time::Duration;

use _core::guest::{Kick, Options, Piece, wire};
use _core::pcm::stream::Mode;
use common::{Engine, Rig, shape};

const MESSAGES: u32 = 700;
const BYTES: u32 = 64;

#[test]
fn a_thousand_messages_at_once_are_heard_whole_and_in_order() {
    let rig = Rig::new(&[false, false]);
    let driver = rig.connect(Options { queue_size: 1024, ..Options::default() });
    for s in &rig.streams {
        s.configure(shape(4)).unwrap();
        s.set_mode(Mode::Queue);
        s.start();
    }
    // They look at the ring themselves, and no kick comes.
    let engines = [0, 1].map(|i| Engine::new(&rig.streams[i], 160, Duration::from_millis(1)));
    let queue = driver.queue(wire::TX).unwrap();
    let mut tx = queue.lock();
    let back = Cell::new(0);
    for number in 0..MESSAGES {
        let place = driver.ram().alloc(128, 128).unwrap();
        // Few for the second: it is not to be held up for ever by the first.
        let stream = u32::from(number % 50 == 49);
        driver.ram().write(place, &stream.to_le_bytes()).unwrap();
        let words: Vec<u8> = (0..BYTES / 4).flat_map(|_| number.to_le_bytes()).collect();
        driver.ram().write(place + 16, &words).unwrap();
        let piece = |addr, len, writable| Piece { addr, len, writable };
        let pieces = [piece(place, 4, false), piece(place + 16, BYTES, false), piece(place + 96, 8, true)];
        tx.push(&pieces, true).unwrap();
    }
    tx.publish(Kick::Never);
    drop(tx);
    rig.until("every message to come back", || {
        while queue.lock().reap().is_some() {
            back.set(back.get() + 1);
        }
        back.get() == MESSAGES
    });
    for (stream, engine) in (0..).zip(engines) {
        let heard = engine.stop();
        let numbers: Vec<u32> =
            heard.chunks_exact(BYTES as usize).map(|c| u32::from_le_bytes(c[..4].try_into().unwrap())).collect();
        let sent: Vec<u32> = (0..MESSAGES).filter(|n| u32::from(n % 50 == 49) == stream).collect();
        assert_eq!(numbers, sent);
    }
}
