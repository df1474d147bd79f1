//! What a connection leaves behind: nothing. Alone in its process, which it counts the descriptors and threads of.

mod common;

use std::sync::Mutex;

use _core::guest::{Kick, Options, wire};
use _core::pcm::stream::Mode;
use common::slots::Slots;
use common::{Rig, is_alive, resources, shape};

/// One test at a time.
static TURN: Mutex<()> = Mutex::new(());

fn no_more_than(before: (usize, usize)) -> bool {
    let now = resources();
    now.0 <= before.0 && now.1 <= before.1
}

/// The crate leaks an exit descriptor for each worker and connection.
#[test]
fn connections_leave_no_descriptor_and_no_thread() {
    let _turn = TURN.lock();
    let rig = Rig::new(&[false, true]);
    let round = || {
        let driver = rig.connect(Options::default());
        is_alive(&driver);
        driver.kill();
        drop(driver);
        rig.until("the end of the connection", || !rig.server.is_connected());
    };
    round();
    let before = resources();
    (0..20).for_each(|_| round());
    // The driver's own threads end a moment after it, those of the first round too.
    rig.until("no more descriptors and threads than before", || no_more_than(before));
}

/// The front end vanishes with buffers queued; the next one finds a fresh device, and the process is as before.
#[test]
fn a_killed_front_end_leaves_nothing() {
    let _turn = TURN.lock();
    let rig = Rig::new(&[false]);
    let stream = &rig.streams[0];
    let mut before: Option<(usize, usize)> = None;
    for round in 0..20 {
        let driver = rig.connect(Options::default());
        stream.configure(shape(4)).unwrap();
        stream.set_mode(Mode::Queue);
        stream.start();
        let slots = Slots::new(&driver, 0);
        {
            let mut tx = driver.queue(wire::TX).unwrap().lock();
            slots.heads.iter().for_each(|&h| tx.offer(h));
            tx.publish(Kick::Always);
        }
        let mut buf = [0; 100];
        rig.until("playback", || stream.pull(&mut buf.clone(), 0) > 0);
        driver.kill();
        rig.until("the end", || stream.queued_bytes() == 0 && !rig.server.is_connected());
        let tx = driver.queue(wire::TX).unwrap().lock();
        assert_eq!(tx.used_index(), 0, "round {round}: completed for a dead front end");
        drop(tx);
        drop(driver);
        buf.fill(0);
        // The first round makes what stays, and the driver's own threads end a moment after it.
        match before {
            None if round == 0 => {}
            None => before = Some(resources()),
            Some(before) => rig.until("no more descriptors and threads than before", || no_more_than(before)),
        }
    }
}
