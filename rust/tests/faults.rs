//! What goes wrong with vhost-user-backend 0.24's own connection handler, and must not with ours. One test a fault.

mod common;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use _core::guest::{Driver, Kick, Options, Socket, wire};
use _core::pcm::stream::Mode;
use _core::vhost::events::Event;
use common::slots::Slots;
use common::{Rig, is_alive, shape, socket_path};

/// The crate never registers a kick descriptor that replaces another one on a running ring, and the old one, still open in
/// the front end, makes its worker spin.
#[test]
fn a_replaced_kick_descriptor_is_heard_and_the_old_one_is_not() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options::default());
    is_alive(&driver);
    let old = driver.queue(wire::CONTROL).unwrap().lock().kick_fd().try_clone().expect("dup");
    driver.replace_kick(wire::CONTROL).expect("replace");
    is_alive(&driver);
    let kicks = || rig.server.device().rings()[wire::CONTROL].stats.kicks.load(Relaxed);
    let before = kicks();
    for _ in 0..100 {
        old.write(1).expect("write");
    }
    is_alive(&driver);
    // The request's own, which may have been seen twice; not the hundred, and not a spinning worker's.
    assert!(kicks() - before <= 2, "{} kicks", kicks() - before);
}

/// The crate ends the connection; libkrun says it again when its guest was reset.
#[test]
fn a_second_owner_is_harmless() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options::default());
    driver.frontend().set_owner().expect("owner");
    is_alive(&driver);
}

/// The crate can only listen; libvirt may pass a connected socket.
#[test]
fn a_connected_descriptor_is_served_until_it_closes() {
    let rig = Rig::unbound(&[false]);
    let (ours, theirs) = UnixStream::pair().expect("pair");
    rig.server.listen_fd(theirs.as_raw_fd()).expect("serve");
    drop(theirs);
    let driver = Driver::connect(Socket::Fd(OwnedFd::from(ours)), Options::default()).expect("connect");
    is_alive(&driver);
    assert!(rig.server.is_serving());
    driver.close().expect("close");
    drop(driver);
    rig.until("the end of service", || !rig.server.is_serving());
}

/// A listening one is accepted from, one connection after the other; its file is its owner's.
#[test]
fn a_listening_descriptor_is_accepted_from() {
    let rig = Rig::unbound(&[false]);
    let path = socket_path();
    let listener = UnixListener::bind(&path).expect("bind");
    rig.server.listen_fd(listener.as_raw_fd()).expect("serve");
    for _ in 0..2 {
        let driver = Driver::connect(Socket::Path(path.clone()), Options::default()).expect("connect");
        is_alive(&driver);
    }
    rig.server.close();
    assert!(path.exists());
    std::fs::remove_file(&path).expect("remove");
}

/// The crate goes on with the old size and reads the ring at wrong places.
#[test]
fn a_queue_size_that_is_no_power_of_two_is_refused() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options { need_reply: true, ..Options::default() });
    for size in [0, 3, 65, 32769, 65536, u32::MAX] {
        assert!(driver.frontend().set_vring_num(wire::TX, size).is_err(), "{size} was accepted");
    }
    assert!(driver.frontend().set_vring_num(wire::TX, 32768).is_ok());
    is_alive(&driver);
}

/// The crate ends the connection, whether or not the front end asked for the answer that it got.
#[test]
fn a_refused_message_with_an_answer_leaves_the_connection() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options { need_reply: true, ..Options::default() });
    assert!(driver.frontend().set_vring_base(17, 0).is_err(), "there is no ring 17");
    assert!(driver.frontend().set_features(1 << 5).is_err(), "feature 5 was not offered");
    is_alive(&driver);
}

/// Without an answer the front end cannot know, so the connection ends, with a reason, and the next one is served.
#[test]
fn a_malformed_message_ends_its_connection_only() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options::default());
    driver.frontend().send_raw(9999, 0, b"", &[]).expect("send");
    rig.until("the end of the connection", || {
        rig.saw(|e| matches!(e, Event::Disconnected { reason } if !reason.is_empty()))
    });
    drop(driver);
    is_alive(&rig.connect(Options::default()));
}

/// The crate's worker dies unseen when a handler panics or fails, and with it every queue that it serves.
#[test]
fn a_broken_ring_is_marked_told_and_alone() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options::default());
    {
        let mut tx = driver.queue(wire::TX).unwrap().lock();
        tx.offer(60000);
        tx.publish(Kick::Always);
    }
    rig.until("a fault", || rig.saw(|e| matches!(e, Event::Fault { queue: 2, .. })));
    assert!(!rig.server.device().rings()[wire::TX].is_running());
    is_alive(&driver);
    // A new driver finds it whole.
    driver.reset(_core::guest::ResetStyle::Qemu).expect("reset");
    is_alive(&driver);
    assert!(rig.server.device().rings()[wire::TX].is_running());
}

/// Our connection thread must not be held by a front end that says half a message when the server ends.
#[test]
fn half_a_message_does_not_hold_the_end() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options::default());
    is_alive(&driver);
    driver.frontend().send_bytes(&[1, 0, 0, 0], &[]).expect("send");
    rig.server.close();
    assert!(!rig.server.is_connected());
}

/// Connections that say nothing, half a message or nonsense do not keep out one that speaks, however many they are.
#[test]
fn who_says_nothing_keeps_nobody_out() {
    let rig = Rig::new(&[false]);
    let mut idlers = Vec::new();
    for i in 0..2000 {
        let mut stream = UnixStream::connect(&rig.path).expect("connect");
        let words: &[u8] = [&b""[..], &[1, 0, 0, 0], &[0xff; 300], &[1, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 7]][i % 4];
        // It may be dropped already.
        let _ = std::io::Write::write_all(&mut stream, words);
        idlers.push(stream);
        if idlers.len() > 200 {
            idlers.clear();
        }
        if i % 100 == 0 {
            is_alive(&rig.connect(Options::default()));
        }
    }
    is_alive(&rig.connect(Options::default()));
}

/// A second front end waits unheard until the first has gone, and disturbs nothing.
#[test]
fn a_second_front_end_waits_for_the_first() {
    let rig = Rig::new(&[false]);
    let first = rig.connect(Options::default());
    let waiting = {
        let path = rig.path.clone();
        let options = Options { connect_timeout: Duration::from_secs(60), ..Options::default() };
        std::thread::spawn(move || Driver::connect(Socket::Path(path), options).map(|second| is_alive(&second)))
    };
    for _ in 0..50 {
        is_alive(&first);
    }
    assert!(!waiting.is_finished(), "served beside the first");
    drop(first);
    waiting.join().expect("thread").expect("the second is served");
}

/// One that stops in the middle of a message is dropped for the sake of one that waits.
#[test]
fn half_a_message_of_the_front_end_ends_it_when_another_waits() {
    let rig = Rig::new(&[false]);
    let first = rig.connect(Options::default());
    is_alive(&first);
    first.frontend().send_bytes(&[1, 0, 0], &[]).expect("send");
    is_alive(&rig.connect(Options::default()));
    assert!(rig.saw(|e| matches!(e, Event::Disconnected { reason } if reason.contains("middle of a message"))));
}

/// A front end that truncates the memory it shares ends its connection, not the process, also while an engine reads it.
#[test]
fn memory_that_is_cut_short_ends_its_connection_only() {
    let rig = Rig::new(&[false]);
    let stream = &rig.streams[0];
    let driver = rig.connect(Options::default());
    stream.configure(shape(4)).unwrap();
    stream.set_mode(Mode::Queue);
    stream.start();
    let slots = Slots::new(&driver, 0);
    {
        let mut tx = driver.queue(wire::TX).unwrap().lock();
        slots.heads.iter().for_each(|&h| tx.offer(h));
        tx.publish(Kick::Asked);
    }
    assert!(stream.pull(&mut [0; 100], 0) > 0);
    driver.ram().file(0).set_len(0).expect("truncate");
    // What is read is lost, and nobody dies of it.
    stream.pull(&mut [0; 100_000], 0);
    rig.until("the end of the connection", || {
        rig.saw(|e| matches!(e, Event::Disconnected { reason } if reason.contains("short")))
    });
    // The driver's own mapping is as dead as ours: it must not be touched again.
    std::mem::forget(driver);
    is_alive(&rig.connect(Options::default()));
}
