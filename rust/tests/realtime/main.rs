//! Every port's callback, between a real guest and an engine's thread, in both directions and in all that can happen to a
//! stream. Feature `rtcheck` ends the process if a callback allocates, frees, or takes a lock that it could have to wait for.

#[path = "../common/mod.rs"]
mod common;
mod ports;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use _core::engine::Lent;
use _core::engine::plain::{PlainPort, transfer};
use _core::guest::{Driver, Options, PcmParams, Run, Shape as Layout, StreamOptions, numbered, wire};
use _core::pcm::Stream;
use _core::pcm::clock::{self, ClockPort};
use _core::pcm::stream::Mode;
use _core::realtime::{real_time, rtcheck};
use _core::vhost::Caller;
use _core::vhost::events::Event;
use common::{BUFFER, PERIOD, Rig, shape};
use ports::{DELAY_FRAMES, EngineThread, FRAME, FakeStream, Kind, QUANTUM, numbers, pipewire};

const FRAMES: u64 = 48_000;

/// Both ports, both ways.
fn each(f: impl Fn(Kind, bool)) {
    for kind in [Kind::PipeWire, Kind::Plain] {
        for capture in [false, true] {
            println!("{kind:?}, {}", if capture { "capture" } else { "playback" });
            let before = rtcheck::callbacks();
            f(kind, capture);
            assert!(rtcheck::callbacks() > before, "no callback was watched");
        }
    }
}

fn begin(driver: &Arc<Driver>, stream: u32, capture: bool, frames: u64, pieces: &[u32]) -> Run {
    let (buffer_bytes, period_bytes) = (BUFFER as u32, PERIOD as u32);
    let params = PcmParams { buffer_bytes, period_bytes, features: 0, channels: 2, format: 5, rate: 7 };
    let options = StreamOptions {
        stream,
        capture,
        params,
        message_bytes: None,
        shape: Layout { pieces: pieces.to_vec(), ..Layout::default() },
        starve: None,
        stall: Duration::from_secs(5),
    };
    let sent = if capture { Vec::new() } else { numbered(1, frames, FRAME) };
    driver.start_stream(options, sent, frames * FRAME as u64).expect("start")
}

/// Played: all of it, in order. Recorded: so many, in order; a guest that is late loses some.
fn whole(capture: bool, frames: u64, got: &[u32]) {
    if capture {
        assert!(got.len() as u64 >= frames, "{} frames were recorded", got.len());
        assert!(got.windows(2).all(|n| n[0] < n[1]), "frames are doubled or out of order");
    } else {
        assert!(got.iter().copied().eq(1..=frames as u32), "{} frames of {frames}, or out of order", got.len());
    }
}

fn finish(run: &Run, engine: EngineThread, capture: bool, frames: u64) {
    let recorded = run.wait().expect("report").recorded;
    let heard = engine.stop();
    whole(capture, frames, &if capture { numbers(&recorded) } else { heard });
}

#[test]
fn a_stream_from_its_first_callback_on() {
    each(|kind, capture| {
        let rig = Rig::new(&[capture]);
        let driver = rig.connect(Options::default());
        let run = begin(&driver, 0, capture, FRAMES, &[]);
        finish(&run, EngineThread::new(kind, &rig.streams[0]), capture, FRAMES);
    });
}

#[test]
fn underruns_and_overruns() {
    each(|kind, capture| {
        let rig = Rig::new(&[capture]);
        let driver = rig.connect(Options::default());
        let run = begin(&driver, 0, capture, FRAMES, &[]);
        let engine = EngineThread::new(kind, &rig.streams[0]);
        for _ in 0..5 {
            let before = rig.streams[0].stats.xruns.load(Relaxed);
            run.starve(true).expect("starve");
            rig.until("an xrun", || rig.streams[0].stats.xruns.load(Relaxed) > before);
            run.starve(false).expect("feed");
        }
        finish(&run, engine, capture, FRAMES);
    });
}

#[test]
fn messages_of_more_pieces_than_a_callback_walks() {
    each(|kind, capture| {
        let rig = Rig::new(&[capture]);
        let driver = rig.connect(Options::default());
        // 1920 bytes: more pieces than are kept without an allocation, which the worker makes and frees.
        let run = begin(&driver, 0, capture, FRAMES, &[40, 60]);
        finish(&run, EngineThread::new(kind, &rig.streams[0]), capture, FRAMES);
    });
}

/// Frames of a turn that the guest's buffer of four periods does not bear; it bears three.
const LARGE: usize = 1600;

#[test]
fn turns_that_are_read_ahead_for() {
    let rig = Rig::new(&[false]);
    let clock = ClockPort::new(rig.streams[0].clone(), clock::Kind::StandIn);
    clock.start();
    let driver = rig.connect(Options::default());
    let run = begin(&driver, 0, false, FRAMES, &[]);
    let port = Lent::new(PlainPort::new(rig.streams[0].clone()));
    let (mut heard, mut full) = (Vec::new(), 0);
    let mut part = vec![0_u8; LARGE * FRAME];
    for _ in 0..1000 {
        // SAFETY: a live port; the buffer is ours.
        let got = unsafe { transfer(port.address() as *mut _, part.as_mut_ptr().cast(), part.len() as _, 0) };
        heard.extend_from_slice(&part[..usize::try_from(got).expect("a count of bytes")]);
        if heard.len() >= FRAMES as usize * FRAME {
            break;
        }
        // Until there is a whole turn, or as long as an engine can wait before the clock stands in for it.
        for _ in 0..60 {
            std::thread::sleep(Duration::from_millis(1));
            if rig.streams[0].ahead_bytes() >= part.len() {
                full += 1;
                break;
            }
        }
    }
    assert!(full > 10, "{full} turns were read ahead whole");
    whole(false, FRAMES, &numbers(&heard));
    clock.close();
    port.take_back();
    run.stop(true).expect("report");
}

/// An engine that waits for its guest, as one in Python does.
fn waiting(stream: &Arc<Stream>) -> Vec<u8> {
    let (mut all, mut part, mut number) = (Vec::new(), [0; 512], 0_u32);
    while stream.wait(None) {
        if stream.capture {
            part.as_chunks_mut().0.iter_mut().for_each(|f| {
                number += 1;
                *f = number.to_le_bytes();
            });
            stream.push_as(&part, 0, Caller::Worker);
        } else {
            let n = stream.pull_as(&mut part, 0, Caller::Worker);
            all.extend_from_slice(&part[..n]);
        }
    }
    all
}

#[test]
fn another_streams_messages_and_a_thread_that_sleeps_until_they_come() {
    each(|kind, capture| {
        let rig = Rig::new(&[capture, capture]);
        let driver = rig.connect(Options::default());
        let pulled = begin(&driver, 0, capture, FRAMES, &[]);
        let engine = EngineThread::new(kind, &rig.streams[0]);
        let waited = begin(&driver, 1, capture, FRAMES / 4, &[]);
        let stream = rig.streams[1].clone();
        let sleeper = std::thread::spawn(move || waiting(&stream));
        let recorded = waited.wait().expect("report").recorded;
        let heard = sleeper.join().expect("the thread that sleeps");
        whole(capture, FRAMES / 4, &numbers(if capture { &recorded } else { &heard }));
        finish(&pulled, engine, capture, FRAMES);
    });
}

#[test]
fn memory_and_eventfds_that_are_replaced_and_a_device_that_is_reset() {
    each(|kind, capture| {
        let rig = Rig::new(&[capture]);
        let driver = rig.connect(Options::default());
        let run = begin(&driver, 0, capture, FRAMES, &[]);
        let engine = EngineThread::new(kind, &rig.streams[0]);
        let ring = if capture { wire::RX } else { wire::TX };
        for i in 1..20 {
            rig.until("progress", || run.progress().1 > i * 2 * PERIOD as u64);
            driver.remap().expect("memory");
            driver.replace_call(ring).expect("call");
            driver.replace_kick(ring).expect("kick");
        }
        finish(&run, engine, capture, FRAMES);

        let _run = begin(&driver, 0, capture, FRAMES, &[]);
        let engine = EngineThread::new(kind, &rig.streams[0]);
        rig.until("audio", || rig.streams[0].is_running());
        driver.frontend().reset_device().expect("reset");
        rig.until("the reset", || !rig.streams[0].is_running());
        engine.stop();
    });
}

#[test]
fn a_ring_that_its_driver_breaks_is_told_by_the_worker() {
    each(|kind, capture| {
        let rig = Rig::new(&[capture]);
        let driver = rig.connect(Options::default());
        rig.until_started();
        let stream = &rig.streams[0];
        stream.configure(shape(FRAME)).expect("shape");
        stream.set_mode(Mode::Queue);
        stream.start();
        let _engine = EngineThread::new(kind, stream);
        let before = stream.stats.turns.load(Relaxed);
        rig.until("callbacks", || stream.stats.turns.load(Relaxed) > before + 10);
        // More available than a ring can hold; nobody is kicked.
        driver.queue(if capture { wire::RX } else { wire::TX }).expect("queue").lock().set_avail_index(60_000);
        rig.until("the fault", || rig.saw(|e| matches!(e, Event::Fault { queue, .. } if *queue > 0)));
    });
}

#[test]
fn the_latency_told_is_the_engines_and_where_in_the_buffer_the_message_ends() {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options::default());
    let run = begin(&driver, 0, false, FRAMES, &[]);
    let engine = EngineThread::new(Kind::PipeWire, &rig.streams[0]);
    let report = run.wait().expect("report");
    engine.stop();
    let (least, most) = (DELAY_FRAMES * FRAME, (DELAY_FRAMES + QUANTUM) * FRAME);
    assert!(report.messages.iter().all(|m| (least..=most).contains(&(m.latency_bytes as usize))));
}

#[test]
fn a_callback_that_is_not_bound_touches_nothing() {
    let rig = Rig::new(&[false]);
    rig.streams[0].configure(shape(FRAME)).expect("shape");
    let mut fake = FakeStream::new();
    let port = pipewire(&rig.streams[0], &mut fake);
    assert!(fake.play(&port).iter().all(|b| *b == 0), "nobody plays, so it is silent");
    assert_eq!((port.calls(), fake.queued), (1, 1));
    assert_eq!((fake.buffer.size, fake.chunk.stride), (QUANTUM as u64, FRAME as i32));
    assert_eq!(port.delay_frames(), DELAY_FRAMES as i64);
    port.set_stream(std::ptr::null_mut());
    fake.play(&port);
    assert_eq!((port.calls(), fake.queued, fake.free), (2, 1, true));
}

#[test]
fn the_plain_port_fills_what_the_guest_does_not_give_with_silence() {
    let rig = Rig::new(&[false]);
    rig.streams[0].configure(shape(FRAME)).expect("shape");
    let port = Lent::new(PlainPort::new(rig.streams[0].clone()));
    let mut part = [0xAA_u8; 100 * FRAME];
    // SAFETY: a live port; the buffer is ours.
    let got = unsafe { transfer(port.address() as *mut _, part.as_mut_ptr().cast(), part.len() as _, 0) };
    assert!(got == 0 && part.iter().all(|b| *b == 0));
    port.take_back();
}

/// Runs one of the tests below in a process of its own, with the offence in it committed; what it says on standard error.
fn offence(test: &str) -> String {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    let output = command.args([test, "--exact", "--nocapture"]).env(OFFEND, "1").output().expect("a child");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "the offence went unseen");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const OFFEND: &str = "VSND_TEST_OFFEND";

fn offends() -> bool {
    std::env::var_os(OFFEND).is_some()
}

#[test]
fn the_check_sees_an_allocation() {
    if offends() {
        real_time(|| drop(std::hint::black_box(Box::new(1))));
    }
    drop(std::hint::black_box(Box::new(1)));
    assert!(offence("the_check_sees_an_allocation").contains("an engine's callback allocates"));
}

#[test]
fn the_check_sees_memory_that_is_freed() {
    let block = Box::new(1);
    if offends() {
        real_time(|| drop(std::hint::black_box(block)));
    }
    assert!(offence("the_check_sees_memory_that_is_freed").contains("an engine's callback frees memory"));
}

#[test]
fn the_check_sees_a_lock_that_could_have_to_be_waited_for() {
    let stream = Stream::new(0, false);
    if offends() {
        real_time(|| stream.set_mode(Mode::Queue));
    }
    stream.set_mode(Mode::Queue);
    assert!(offence("the_check_sees_a_lock_that_could_have_to_be_waited_for").contains("takes a lock that it could"));
}
