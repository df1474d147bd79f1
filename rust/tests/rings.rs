//! Ring stop, resume and reset while an engine pulls: nothing is lost, repeated, or written too late.

mod common;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use _core::guest::{Kick, Options, Piece, Queue, ResetStyle, numbered, wire};
use _core::pcm::stream::Mode;
use _core::vhost::Caller;
use _core::vhost::events::Event;
use common::slots::{MESSAGE, N, Slots};
use common::{Engine, Rig, shape};

fn reap(tx: &mut Queue, free: &mut Vec<u16>) -> u64 {
    let mut n = 0;
    while let Some(u) = tx.reap() {
        assert!(u.known, "head {} came back twice", u.head);
        free.push(u.head as u16);
        n += 1;
    }
    n
}

/// An engine pulls at full speed while the ring is stopped and started again and again.
#[test]
fn a_ring_stops_while_the_engine_pulls() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options::default());
    let stream = &rig.streams[0];
    stream.configure(shape(4)).unwrap();
    stream.set_mode(Mode::Queue);
    stream.start();
    let slots = Slots::new(&driver, 0);
    let engine = Engine::new(stream, 700, Duration::ZERO);
    let mut free = slots.heads.clone();
    let (mut sent, mut back) = (0, 0);
    for round in 0..300 {
        let queue = driver.queue(wire::TX).unwrap();
        for _ in 0..20 {
            let mut tx = queue.lock();
            while let Some(head) = free.pop() {
                tx.offer(head);
                sent += 1;
            }
            tx.publish(Kick::Asked);
            back += reap(&mut tx, &mut free);
            std::thread::yield_now();
        }
        let base = driver.stop_one(wire::TX).expect("stop");
        let mut tx = queue.lock();
        let snapshot = slots.snapshot(&driver, &tx);
        assert_eq!(base, tx.used_index(), "round {round}: taken but not given back");
        if round % 10 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(snapshot == slots.snapshot(&driver, &tx), "round {round}: written after the stop");
        back += reap(&mut tx, &mut free);
        drop(tx);
        driver.start_one(wire::TX, base).expect("start");
    }
    // What was available but not taken comes back without another kick.
    rig.until("all messages back", || {
        let tx = driver.queue(wire::TX).unwrap().lock();
        tx.pending() as u64 + back == sent
    });
    back += reap(&mut driver.queue(wire::TX).unwrap().lock(), &mut free);
    assert!(back == sent && sent > 1000, "{back} of {sent}");
    engine.stop();
    assert_eq!(slots.header % 16, 0);
}

/// A paused guest: what was not consumed is the guest's again, to the byte.
#[test]
fn no_byte_is_lost_or_repeated_over_stops() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options::default());
    let stream = &rig.streams[0];
    stream.configure(shape(4)).unwrap();
    stream.set_mode(Mode::Queue);
    stream.start();
    let slots = Slots::new(&driver, 0);
    let (mut free, mut sent, mut got) = (slots.heads.clone(), Vec::<u8>::new(), Vec::<u8>::new());
    let mut number = 0;
    for round in 0..200 {
        {
            let mut tx = driver.queue(wire::TX).unwrap().lock();
            while free.len() > 4 {
                let head = free.pop().unwrap();
                let data = numbered(number, MESSAGE / 4, 4);
                number += MESSAGE / 4;
                slots.fill(&driver, head, &data);
                sent.extend(data);
                tx.offer(head);
            }
            tx.publish(Kick::Asked);
        }
        for n in [100, 700 + 8 * round, 4000] {
            let mut buf = vec![0; n];
            let n = stream.pull(&mut buf, 0);
            got.extend(&buf[..n]);
        }
        let base = driver.stop_one(wire::TX).expect("stop");
        {
            let mut tx = driver.queue(wire::TX).unwrap().lock();
            assert_eq!(base, tx.used_index(), "round {round}: base is not the used index");
            reap(&mut tx, &mut free);
        }
        assert_eq!(stream.pull(&mut [0; 64], 0), 0, "consumed while stopped");
        driver.start_one(wire::TX, base).expect("start");
    }
    assert!(got.len() > 500_000, "{} bytes", got.len());
    assert!(sent[..got.len()] == got, "the stream differs");
}

/// ENABLE 0 is a stop as good as GET_VRING_BASE, and ENABLE 1 goes on without a kick.
#[test]
fn disabling_a_ring_pauses_it_to_the_byte() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options::default());
    let stream = &rig.streams[0];
    stream.configure(shape(4)).unwrap();
    stream.set_mode(Mode::Queue);
    stream.start();
    let slots = Slots::new(&driver, 0);
    let data = numbered(0, N * MESSAGE / 4, 4);
    {
        let mut tx = driver.queue(wire::TX).unwrap().lock();
        for (&head, part) in slots.heads.iter().zip(data.chunks(MESSAGE as usize)) {
            slots.fill(&driver, head, part);
            tx.offer(head);
        }
        tx.publish(Kick::Asked);
    }
    let mut got: Vec<u8> = Vec::new();
    for round in 0.. {
        let mut buf = vec![0; 1004];
        let n = stream.pull(&mut buf, 0);
        got.extend(&buf[..n]);
        if got.len() == data.len() {
            break;
        }
        assert!(round < 1000, "{} of {} bytes", got.len(), data.len());
        driver.enable(wire::TX, false).expect("disable");
        driver.frontend().get_features().expect("the stop was handled");
        assert_eq!(stream.pull(&mut buf, 0), 0, "consumed while disabled");
        driver.enable(wire::TX, true).expect("enable");
        driver.frontend().get_features().expect("the start was handled");
    }
    assert!(got == data, "the stream differs");
}

/// Two streams share a ring and one is far ahead: a stop gives back what was consumed, and the other goes on where it was.
#[test]
fn a_shared_ring_stops_with_every_message_accounted_for() {
    let rig = Rig::new(&[false, false]);
    let driver = rig.connect(Options::default());
    for s in &rig.streams {
        s.configure(shape(4)).unwrap();
        s.set_mode(Mode::Queue);
        s.start();
    }
    let slots = [Slots::new(&driver, 0)];
    let other = driver.ram().alloc(16, 16).unwrap();
    driver.ram().write(other, &1u32.to_le_bytes()).unwrap();
    let mut tx = driver.queue(wire::TX).unwrap().lock();
    // a b a b a, of which stream b consumes its own.
    let status = driver.ram().alloc(16, 16).unwrap();
    let piece = |addr, len, writable| Piece { addr, len, writable };
    let of_b = [piece(other, 4, false), piece(slots[0].data, 64, false), piece(status, 8, true)];
    let heads = &slots[0].heads;
    tx.offer(heads[0]);
    tx.push(&of_b, true).unwrap();
    tx.offer(heads[1]);
    tx.push(&of_b, true).unwrap();
    tx.offer(heads[2]);
    tx.publish(Kick::Asked);
    drop(tx);
    let mut buf = vec![0; 128];
    assert_eq!(rig.streams[1].pull(&mut buf, 0), 128);
    let base = driver.stop_one(wire::TX).expect("stop");
    let mut tx = driver.queue(wire::TX).unwrap().lock();
    assert_eq!(base, tx.used_index());
    let mut back = Vec::new();
    reap(&mut tx, &mut back);
    assert_eq!(back.len(), 2, "{back:?}");
    assert!(!heads[..3].iter().any(|h| back.contains(h)));
    drop(tx);
    driver.start_one(wire::TX, base).expect("start");
    let mut buf = vec![0; 4 * MESSAGE as usize];
    assert_eq!(rig.streams[1].pull_as(&mut buf, 0, Caller::Worker), 0);
    assert_eq!(rig.streams[0].pull_as(&mut buf, 0, Caller::Worker), 3 * MESSAGE as usize);
    let mut tx = driver.queue(wire::TX).unwrap().lock();
    assert_eq!(reap(&mut tx, &mut back), 3);
    assert_eq!(tx.used_index(), 5);
}

/// What a stopped ring keeps is forgotten by the next driver, also by one that begins where the last one stopped.
#[test]
fn what_was_kept_is_not_taken_for_a_new_drivers() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options::default());
    rig.streams[0].configure(shape(4)).unwrap();
    rig.streams[0].set_mode(Mode::Queue);
    rig.streams[0].start();
    let slots = Slots::new(&driver, 0);
    let mut tx = driver.queue(wire::TX).unwrap().lock();
    tx.offer(slots.heads[0]);
    tx.publish(Kick::Asked);
    drop(tx);
    assert_eq!(rig.streams[0].pull(&mut [0; 64], 0), 64);
    assert_eq!(driver.stop_one(wire::TX).expect("stop"), 0);
    // Its rings are empty now, and begin at 0: where this one stopped.
    driver.queue(wire::TX).unwrap().lock().set_avail_index(0);
    driver.start_one(wire::TX, 0).expect("start");
    assert_eq!(rig.streams[0].pull(&mut [0; 64], 0), 0);
    assert_eq!(driver.queue(wire::TX).unwrap().lock().used_index(), 0);
}

/// Nobody answers a control request: the stop gives it back after its time limit, and a late answer writes nothing.
#[test]
fn a_stop_gives_an_unanswered_request_back() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options::default());
    rig.mute.store(true, Relaxed);
    let (req, reply) = (driver.ram().alloc(16, 16).unwrap(), driver.ram().alloc(16, 16).unwrap());
    driver.ram().write(reply, &[0xff; 4]).unwrap();
    {
        let mut control = driver.queue(wire::CONTROL).unwrap().lock();
        let piece = |addr, len, writable| Piece { addr, len, writable };
        control.push(&[piece(req, 16, false), piece(reply, 4, true)], true).unwrap();
        control.publish(Kick::Asked);
    }
    let ring = &rig.server.device().rings()[wire::CONTROL];
    rig.until("the request", || ring.in_flight() == 1);
    let base = driver.stop_one(wire::CONTROL).expect("stop");
    assert_eq!(base, 1);
    assert_eq!(driver.queue(wire::CONTROL).unwrap().lock().used_index(), 1);
    assert_eq!(driver.ram().read(reply, 4).unwrap(), [0xff; 4], "written by nobody");
    rig.until("the event", || rig.saw(|e| *e == Event::Stopped { queue: 0, forced: 1 }));
}

/// A reset in mid-play: streams are as new, and nothing of the old life is completed into the new one.
#[test]
fn a_reset_forgets_everything_in_each_vmms_way() {
    for style in [ResetStyle::Qemu, ResetStyle::Crosvm, ResetStyle::Libkrun, ResetStyle::ResetDevice] {
        let rig = Rig::new(&[false]);
        let driver = rig.connect(Options::default());
        let stream = &rig.streams[0];
        stream.configure(shape(4)).unwrap();
        stream.set_mode(Mode::Queue);
        stream.start();
        let slots = Slots::new(&driver, 0);
        let engine = Engine::new(stream, 64, Duration::from_micros(50));
        {
            let mut tx = driver.queue(wire::TX).unwrap().lock();
            slots.heads.iter().for_each(|&h| tx.offer(h));
            tx.publish(Kick::Asked);
        }
        rig.until("playback", || stream.stats.messages.load(Relaxed) > 3);
        driver.reset(style).expect("reset");
        rig.until("the event of a new driver", || {
            rig.saw(|e| matches!(e, Event::Started { queue: 0, base: 0, fresh: true }))
        });
        assert!(!stream.is_running(), "{style:?}");
        assert_eq!(stream.queued_bytes(), 0, "{style:?}");
        let tx = driver.queue(wire::TX).unwrap().lock();
        assert_eq!(tx.used_index(), 0, "{style:?}: completed into the next life");
        drop(tx);
        engine.stop();
    }
}
