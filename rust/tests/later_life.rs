//! A device that dies, or is saved, and goes on in another process: nothing is given back twice, nothing is lost.

mod common;

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use _core::guest::{Driver, Frontend, Kick, Options, Piece, numbered, wire};
use _core::pcm::Stream;
use _core::pcm::clock::{self, ClockPort};
use _core::pcm::stream::Mode;
use _core::vhost::events::Event;
use _core::vhost::inflight;
use common::slots::{MESSAGE, Slots};
use common::{Rig, is_alive, shape};

const GET_INFLIGHT_FD: u32 = 31;
const SET_INFLIGHT_FD: u32 = 32;
const SET_DEVICE_STATE_FD: u32 = 42;
const CHECK_DEVICE_STATE: u32 = 43;
const INFLIGHT_SHMFD: u64 = 1 << 12;
const DEVICE_STATE: u64 = 1 << 19;

fn options() -> Options {
    let protocol_features = Options::default().protocol_features | INFLIGHT_SHMFD | DEVICE_STATE;
    Options { protocol_features, ..Options::default() }
}

fn inflight_body(queues: u16, size: u16) -> Vec<u8> {
    let mut body = (inflight::size(queues.into(), size) as u64).to_le_bytes().to_vec();
    body.extend(0u64.to_le_bytes());
    body.extend(queues.to_le_bytes());
    body.extend(size.to_le_bytes());
    body.resize(24, 0);
    body
}

/// The same guest at another device, as a monitor that reconnects: with its own idea of where the rings are.
fn reconnect(driver: &Driver, rig: &Rig, before: impl FnOnce(&Frontend), base: impl Fn(usize) -> u16) -> Frontend {
    let mut fe = Frontend::connect(&rig.path, Duration::from_secs(5)).expect("connect");
    let offered = fe.get_features().expect("features");
    fe.set_protocol_features(options().protocol_features).expect("protocol");
    fe.set_owner().expect("owner");
    fe.set_features(offered & driver.features()).expect("features");
    fe.set_mem_table(driver.ram().regions()).expect("memory");
    before(&fe);
    for i in 0..4 {
        let base = base(i);
        let queue = driver.queue(i).expect("queue").lock();
        fe.set_vring_num(i, queue.size().into()).expect("num");
        fe.set_vring_base(i, base).expect("base");
        fe.set_vring_addr(i, queue.ring().user_addr()).expect("addr");
        fe.set_vring_kick(i, queue.kick_fd()).expect("kick");
        fe.set_vring_call(i, queue.call_fd()).expect("call");
        fe.set_vring_enable(i, true).expect("enable");
    }
    fe.get_features().expect("all of it was handled");
    fe
}

fn play(rig: &Rig) {
    for s in &rig.streams {
        s.configure(shape(4)).unwrap();
        s.set_mode(Mode::Queue);
        s.start();
    }
}

/// So many messages of numbered frames in the ring.
fn offer(driver: &Driver, slots: &Slots, messages: u64) -> Vec<u8> {
    let data = numbered(0, messages * MESSAGE / 4, 4);
    let mut tx = driver.queue(wire::TX).unwrap().lock();
    for (&head, part) in slots.heads.iter().zip(data.chunks(MESSAGE as usize)) {
        slots.fill(driver, head, part);
        tx.offer(head);
    }
    tx.publish(Kick::Asked);
    data
}

fn heads_back(driver: &Driver) -> Vec<u32> {
    let mut tx = driver.queue(wire::TX).unwrap().lock();
    std::iter::from_fn(|| tx.reap())
        .inspect(|u| assert!(u.known, "{} came back twice", u.head))
        .map(|u| u.head)
        .collect()
}

/// A pipe: what is read, and what is written.
fn pipe() -> (std::fs::File, std::fs::File) {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors, which are owned from here on.
    unsafe {
        assert_eq!(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (std::fs::File::from_raw_fd(fds[0]), std::fs::File::from_raw_fd(fds[1]))
    }
}

/// cloud-hypervisor: the daemon was killed, another one is started, and gets the in-flight area; rings "begin" at the available
/// index, as if everything offered had been used.
#[test]
fn what_was_in_flight_when_a_device_died_is_played_by_the_next() {
    let first = Rig::new(&[false]);
    let driver = first.connect(options());
    // A control queue that begins at 0 would be a new driver's.
    is_alive(&driver);
    let area = inflight::create(4, 64).expect("area");
    let bases = driver.stop_rings().expect("stop");
    driver.message(SET_INFLIGHT_FD, 0, &inflight_body(4, 64), &[area.as_raw_fd()], false).expect("area");
    driver.start_rings(&bases).expect("start");
    play(&first);
    let slots = Slots::new(&driver, 0);
    let data = offer(&driver, &slots, 10);
    // Two and a half are heard, and two are given back.
    let mut heard = vec![0; MESSAGE as usize * 5 / 2];
    assert_eq!(first.streams[0].pull(&mut heard, 0), heard.len());
    let mut back = heads_back(&driver);
    assert_eq!(back, slots.heads[..2].iter().map(|&h| u32::from(h)).collect::<Vec<_>>());
    // As at a SIGKILL, nothing more is written to the guest's memory.
    drop(first);

    let second = Rig::new(&[false]);
    play(&second);
    let inflight = |fe: &Frontend| {
        fe.send_raw(SET_INFLIGHT_FD, 0, &inflight_body(4, 64), &[area.as_raw_fd()]).expect("area");
    };
    let available = |i| driver.queue(i).unwrap().lock().avail_index();
    let fe = reconnect(&driver, &second, inflight, available);
    let mut rest = vec![0; 8 * MESSAGE as usize];
    second.until("the rest", || second.streams[0].queued_bytes() == rest.len());
    let mut got = 0;
    while got < rest.len() {
        got += second.streams[0].pull(&mut rest[got..], 0);
    }
    assert!(rest == data[2 * MESSAGE as usize..], "the third message begins anew, the others follow");
    // Completions are paced: the engine's next turns give the last ones back.
    let mut turns = 0;
    while back.len() < 10 && turns < 10 {
        second.streams[0].pull(&mut [0; 4], 0);
        back.extend(heads_back(&driver));
        turns += 1;
    }
    assert_eq!(back, slots.heads[..10].iter().map(|&h| u32::from(h)).collect::<Vec<_>>());
    assert_eq!(fe.get_vring_base(wire::TX).expect("stop"), 10);
}

/// An area is handed out, with room for the queues that were asked for.
#[test]
fn an_in_flight_area_is_made_on_request() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(options());
    let mut wanted = inflight_body(4, 64);
    wanted[..16].fill(0);
    let answer = driver.message(GET_INFLIGHT_FD, 0, &wanted, &[], true).expect("answer");
    assert_eq!(answer, inflight_body(4, 64));
}

/// Snapshots of crosvm and cloud-hypervisor: rings stopped, state saved through a pipe, loaded by a new process, rings
/// started at the bases that were returned. Two streams on the ring, of which one has overtaken the other.
#[test]
fn a_saved_device_goes_on_in_another_process_to_the_byte() {
    let first = Rig::new(&[false, false]);
    let driver = first.connect(options());
    // A control queue that begins at 0 would be a new driver's.
    is_alive(&driver);
    play(&first);
    let slots = Slots::new(&driver, 0);
    let data = offer(&driver, &slots, 10);
    let (header, status) = (driver.ram().alloc(16, 16).unwrap(), driver.ram().alloc(16, 16).unwrap());
    driver.ram().write(header, &1u32.to_le_bytes()).unwrap();
    {
        let piece = |addr, len, writable| Piece { addr, len, writable };
        let mut tx = driver.queue(wire::TX).unwrap().lock();
        tx.push(&[piece(header, 4, false), piece(slots.data, 64, false), piece(status, 8, true)], true).unwrap();
        tx.publish(Kick::Asked);
    }
    let mut heard = vec![0; MESSAGE as usize * 5 / 2];
    assert_eq!(first.streams[0].pull(&mut heard, 0), heard.len());
    assert_eq!(first.streams[1].pull(&mut [0; 64], 0), 64);
    let bases = driver.stop_rings().expect("stop");
    assert_eq!(bases[wire::TX], 3);
    // What Python's policy writes into the state.
    let kept: Vec<_> = first.streams.iter().map(|s| s.kept_messages()).collect();
    assert_eq!((kept[0].0.len(), kept[0].1), (8, MESSAGE as usize / 2));
    assert!(kept[1].0.is_empty());
    drop(first);

    let second = Rig::new(&[false, false]);
    play(&second);
    for (stream, (heads, consumed)) in second.streams.iter().zip(kept) {
        stream.restore_kept(heads, consumed);
    }
    let _fe = reconnect(&driver, &second, |_| (), |i| bases[i]);
    let mut got = heard.len();
    heard.resize(data.len(), 0);
    second.until("the rest", || {
        // A turn of the engine may come before the worker has looked.
        second.streams[0].queued_bytes() == data.len() - got
    });
    while got < data.len() {
        got += second.streams[0].pull(&mut heard[got..], 0);
    }
    assert!(heard == data, "the stream differs");
}

/// Bytes of a turn that the guest's buffer does not bear.
const LARGE: usize = 6400;

/// An engine's turns, each when it was prepared, until `bytes` were heard.
fn hear(rig: &Rig, turn: usize, bytes: usize) -> Vec<u8> {
    let stream = &rig.streams[0];
    let (mut heard, mut part) = (Vec::new(), vec![0; turn]);
    while heard.len() < bytes {
        let n = stream.pull(&mut part, 0);
        heard.extend(&part[..n]);
        if turn == LARGE && heard.len() < bytes {
            rig.until("a whole turn", || stream.ahead_bytes() >= turn.min(bytes - heard.len()));
        }
    }
    heard
}

/// What was read ahead was given back to the guest: it goes with the state, whether the next engine has to read ahead or not.
#[test]
fn what_was_read_ahead_is_heard_in_another_process() {
    for turn in [LARGE, 400] {
        let first = Rig::new(&[false]);
        let driver = first.connect(options());
        is_alive(&driver);
        play(&first);
        let reader = ClockPort::new(first.streams[0].clone(), clock::Kind::StandIn);
        reader.start();
        let slots = Slots::new(&driver, 0);
        let data = offer(&driver, &slots, 30);
        let mut heard = hear(&first, LARGE, 3 * LARGE);
        first.until("something that was read ahead", || first.streams[0].ahead_bytes() > 0);
        let bases = driver.stop_rings().expect("stop");
        assert_eq!(first.streams[0].pull(&mut [0; LARGE], 0), 0, "the ring is stopped");
        let (kept, ahead) = (first.streams[0].kept_messages(), first.streams[0].read_ahead());
        assert!(!ahead.is_empty() && ahead.len() <= LARGE);
        assert_eq!(ahead, data[heard.len()..heard.len() + ahead.len()]);
        reader.close();
        drop(first);

        let second = Rig::new(&[false]);
        play(&second);
        second.streams[0].restore_kept(kept.0, kept.1);
        second.streams[0].restore_read_ahead(&ahead).expect("what was saved");
        assert_eq!((second.streams[0].ahead_bytes(), second.streams[0].read_ahead()), (ahead.len(), ahead));
        let reader = ClockPort::new(second.streams[0].clone(), clock::Kind::StandIn);
        reader.start();
        let _fe = reconnect(&driver, &second, |_| (), |i| bases[i]);
        heard.extend(hear(&second, turn, data.len() - heard.len()));
        assert!(heard == data, "turns of {turn} bytes: the stream differs");
        reader.close();
    }
}

/// The same for what was recorded and not handed on yet.
#[test]
fn what_was_recorded_and_not_handed_on_is_recorded_in_another_process() {
    let stream = Stream::new(0, true);
    stream.configure(shape(4)).expect("shape");
    assert!(stream.restore_read_ahead(&[1; 6]).is_err(), "no whole frame");
    assert!(stream.restore_read_ahead(&vec![0; (8 << 20) + 4]).is_err(), "too much");
    assert_eq!(stream.ahead_bytes(), 0);

    let rig = Rig::new(&[true]);
    let driver = rig.connect(options());
    is_alive(&driver);
    play(&rig);
    let data = numbered(0, 2 * MESSAGE / 4, 4);
    let (before, after) = data.split_at(MESSAGE as usize / 2);
    rig.streams[0].restore_read_ahead(before).expect("whole frames");
    let reader = ClockPort::new(rig.streams[0].clone(), clock::Kind::StandIn);
    reader.start();
    let (header, room, status) = [16, 2 * MESSAGE, 16].map(|n| driver.ram().alloc(n, 16).expect("room")).into();
    driver.ram().write(header, &0u32.to_le_bytes()).unwrap();
    {
        let piece = |addr, len, writable| Piece { addr, len, writable };
        let mut rx = driver.queue(wire::RX).unwrap().lock();
        rx.push(&[piece(header, 4, false), piece(room, 2 * MESSAGE as u32, true), piece(status, 8, true)], true)
            .unwrap();
        rx.publish(Kick::Asked);
    }
    let mut pushed = 0;
    while pushed < after.len() {
        // As an engine of such turns rests: the locks are free most of the time.
        std::thread::sleep(Duration::from_millis(2));
        pushed += rig.streams[0].push(&after[pushed..after.len().min(pushed + 400)], 0);
    }
    rig.until("the message", || driver.queue(wire::RX).unwrap().lock().reap().is_some());
    assert!(driver.ram().read(room, 2 * MESSAGE as usize).unwrap() == data, "the recording differs");
    reader.close();
}

/// The state goes through the front end's pipes as it is, and a refusal is told.
#[test]
fn state_goes_out_and_in_through_pipes() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(options());
    driver.stop_rings().expect("stop");
    let transfer = |direction: u32, fd: i32| {
        let body = [direction, 0].iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        let answer = driver.message(SET_DEVICE_STATE_FD, 0, &body, &[fd], true).expect("answer");
        u64::from_le_bytes(answer.try_into().expect("a number"))
    };
    let check = || driver.message(CHECK_DEVICE_STATE, 0, &[], &[], true).expect("answer")[0];
    // Longer than a pipe holds.
    let state: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();

    let device = rig.server.device().clone();
    let answer = |data: Option<Vec<u8>>| {
        let device = Arc::clone(&device);
        let events = rig.events.clone();
        let seen = events.lock().expect("events").len();
        std::thread::spawn(move || {
            loop {
                let asked = |e: &Event| matches!(e, Event::StateWanted | Event::StateGiven { .. });
                if let Some(e) = events.lock().expect("events")[seen..].iter().find(|e| asked(e)) {
                    device.answer_state(data);
                    return e.clone();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    let (mut read, write) = pipe();
    let asked = answer(Some(state.clone()));
    assert_eq!(transfer(0, write.as_raw_fd()), 0x100, "accepted, and no descriptor of ours");
    drop(write);
    let mut saved = Vec::new();
    read.read_to_end(&mut saved).expect("read");
    assert!(saved == state);
    assert_eq!(check(), 0);
    assert_eq!(asked.join().expect("policy"), Event::StateWanted);

    for (verdict, expected) in [(Some(Vec::new()), 0), (None, 1)] {
        let (read, mut write) = pipe();
        assert_eq!(transfer(1, OwnedFd::from(read).as_raw_fd()), 0x100);
        write.write_all(&state).expect("write");
        drop(write);
        let asked = answer(verdict);
        assert_eq!(check(), expected);
        assert_eq!(asked.join().expect("policy"), Event::StateGiven { state: state.clone() });
    }
    driver.start_rings(&[0; 4]).expect("start");
    is_alive(&driver);
}
