//! The driver's side against a device in the same process: what it measures, and that it can do what VMMs do.

use std::time::Duration;

use _core::guest::{
    Descriptor, Driver, FloodOptions, GuestError, Kick, NEXT, Options, PcmParams, ResetStyle, Shape, Socket, Starve,
    StreamOptions, WRITE, numbered, wire,
};

mod guest_device;
use guest_device::{Bench, SILENT};

const PERIOD: u32 = 1920;

fn options() -> Options {
    Options { request_timeout: Duration::from_secs(5), ..Options::default() }
}

fn connect(bench: &Bench, options: Options) -> std::sync::Arc<Driver> {
    Driver::connect(Socket::Path(bench.path.clone()), options).expect("connect")
}

fn stream(capture: bool) -> StreamOptions {
    StreamOptions {
        stream: capture.into(),
        capture,
        params: PcmParams {
            buffer_bytes: 4 * PERIOD,
            period_bytes: PERIOD,
            features: 0,
            channels: 2,
            format: 5,
            rate: 7,
        },
        message_bytes: None,
        shape: Shape::default(),
        starve: None,
        stall: Duration::from_secs(10),
    }
}

#[test]
fn what_is_played_arrives_and_every_message_is_measured() {
    let bench = Bench::new();
    let driver = connect(&bench, options());
    let data = numbered(1, 10_000, 4);
    let report = driver.play(stream(false), data.clone()).expect("play");
    bench.assert_played(&data);
    assert_eq!(report.messages.len(), 40_000usize.div_ceil(PERIOD as usize));
    assert_eq!((report.bytes, report.unreturned, &report.aborted), (40_000, 0, &None));
    for m in &report.messages {
        assert_eq!((m.status, m.used_len), (wire::OK, 8));
        assert!(m.latency_bytes >= 100 && m.done_ns >= m.queued_ns);
    }
    assert!(report.messages.is_sorted_by_key(|m| m.done_ns));
    assert!(report.started_ns <= report.stopping_ns && report.stopping_ns <= report.ended_ns);
}

#[test]
fn what_is_recorded_comes_in_order() {
    let bench = Bench::new();
    let driver = connect(&bench, options());
    let report = driver.record(stream(true), 20_000).expect("record");
    assert!(report.recorded.len() >= 20_000);
    assert!(report.recorded.starts_with(&numbered(0, 5_000, 4)));
    assert_eq!(report.unreturned, 0);
}

#[test]
fn every_shape_of_chain_and_either_notification_rule_carries_the_same() {
    for (event_idx, indirect, pieces) in
        [(true, true, vec![1, 3, 7]), (true, false, vec![500]), (false, true, vec![7]), (false, false, vec![])]
    {
        let bench = Bench::new();
        let driver = connect(&bench, Options { event_idx, indirect, ..options() });
        let shape = Shape { pieces, indirect, pages: true };
        let data = numbered(1, 5_000, 4);
        let one = StreamOptions { shape, message_bytes: Some(1000), ..stream(false) };
        let report = driver.play(one, data.clone()).expect("play");
        bench.assert_played(&data);
        assert_eq!(report.messages.len(), 20);
    }
}

#[test]
fn a_polling_stream_is_never_kicked() {
    let bench = Bench::new();
    let driver = connect(&bench, options());
    let mut polling = stream(false);
    polling.params.features = wire::MSG_POLLING;
    let report = driver.play(polling, numbered(1, 10_000, 4)).expect("play");
    assert_eq!(report.kicks, 0);
    assert_eq!(bench.played.lock().expect("played").len(), 40_000);
}

#[test]
fn both_directions_run_at_once() {
    let bench = Bench::new();
    let driver = connect(&bench, options());
    let playing = driver.start_stream(stream(false), numbered(1, 50_000, 4), 200_000).expect("start");
    let recording = driver.start_stream(stream(true), Vec::new(), 100_000).expect("start");
    assert_eq!(playing.wait().expect("play").bytes, 200_000);
    let recorded = recording.wait().expect("record").recorded;
    assert!(recorded.starts_with(&numbered(0, 25_000, 4)));
}

#[test]
fn a_source_shorter_than_the_play_is_repeated() {
    let bench = Bench::new();
    let driver = connect(&bench, options());
    let run = driver.start_stream(stream(false), numbered(0, 100, 4), 10_000).expect("start");
    run.wait().expect("play");
    let played = bench.played.lock().expect("played").clone();
    assert_eq!(played.len(), 10_000);
    assert!(played.chunks(400).all(|c| numbered(0, 100, 4).starts_with(c)));
}

#[test]
fn a_starved_stream_offers_nothing_for_a_while() {
    let bench = Bench::new();
    let driver = connect(&bench, options());
    let pause = Duration::from_millis(60);
    let starve = Some(Starve { after_bytes: u64::from(5 * PERIOD), pause });
    let report = driver.play(StreamOptions { starve, ..stream(false) }, numbered(1, 10_000, 4)).expect("play");
    let gap = report.messages[5].queued_ns - report.messages[4].queued_ns;
    assert!(gap >= pause.as_nanos() as u64, "{gap}");
    assert_eq!(bench.played.lock().expect("played").len(), 40_000);
}

#[test]
fn a_stop_without_release_leaves_messages_with_the_device() {
    let bench = Bench::new();
    let driver = connect(&bench, options());
    let run = driver.start_stream(stream(false), numbered(1, 1000, 4), u64::MAX).expect("start");
    assert!(run.wait_messages(20, Duration::MAX).expect("progress"));
    let report = run.stop(false).expect("stop");
    assert!(report.messages.len() >= 20);
    assert_eq!(run.stop(true).expect("the same again").messages, report.messages);
    assert_eq!(driver.pcm_command(wire::RELEASE, 0).expect("release"), wire::OK);
}

#[test]
fn paused_rings_go_on_where_they_were() {
    let bench = Bench::new();
    let driver = connect(&bench, options());
    let data = numbered(1, 50_000, 4);
    let run = driver.start_stream(stream(false), data.clone(), 200_000).expect("start");
    for n in [3, 20, 40] {
        assert!(run.wait_messages(n, Duration::MAX).expect("progress"));
        let bases = driver.stop_rings().expect("stop");
        assert_eq!(bases[wire::TX], driver.queue(wire::TX).expect("tx").lock().used_index());
        driver.start_rings(&bases).expect("start");
    }
    run.wait().expect("play");
    bench.assert_played(&data);
}

#[test]
fn eventfds_and_memory_are_replaced_under_a_running_stream() {
    let bench = Bench::new();
    let driver = connect(&bench, Options { regions: vec![(0, 1 << 20), (1 << 32, 8 << 20)], ..options() });
    let data = numbered(1, 50_000, 4);
    let run = driver.start_stream(stream(false), data.clone(), 200_000).expect("start");
    for n in [5, 30, 60] {
        assert!(run.wait_messages(n, Duration::MAX).expect("progress"));
        driver.replace_call(wire::TX).expect("call");
        driver.replace_kick(wire::TX).expect("kick");
        driver.remap().expect("memory");
    }
    run.wait().expect("play");
    bench.assert_played(&data);
}

#[test]
fn every_reset_cuts_streams_off_and_the_driver_works_again() {
    for style in [ResetStyle::Qemu, ResetStyle::Crosvm, ResetStyle::Libkrun, ResetStyle::ResetDevice] {
        let bench = Bench::new();
        let driver = connect(&bench, options());
        let run = driver.start_stream(stream(false), numbered(1, 1000, 4), u64::MAX).expect("start");
        assert!(run.wait_messages(10, Duration::MAX).expect("progress"));
        driver.reset(style).expect("reset");
        let report = run.wait().expect("a report");
        assert_eq!(report.aborted.as_deref(), Some("the guest was reset"));
        let report = driver.play(stream(false), numbered(1, 1000, 4)).expect("play");
        assert_eq!(report.bytes, 4000, "{style:?}");
    }
}

#[test]
fn events_are_collected_and_their_buffers_given_back() {
    let bench = Bench::new();
    let driver = connect(&bench, options());
    for i in 0..200 {
        assert!(bench.tell(wire::EVT_PCM_XRUN, i % 2), "a buffer for event {i}");
        assert!(driver.wait_event(Duration::from_secs(5)).expect("event"));
        let events = driver.take_events();
        assert_eq!((events[0].code, events[0].data, events[0].used_len), (wire::EVT_PCM_XRUN, i % 2, 8));
    }
    assert!(!driver.wait_event(Duration::ZERO).expect("no event"));
}

#[test]
fn a_device_that_does_not_answer_is_told_in_one_line() {
    let bench = Bench::new();
    let short = Duration::from_millis(50);
    let driver = connect(&bench, Options { request_timeout: short, ..options() });
    let e = driver.request(&wire::words(&[SILENT, 0]), 4).expect_err("no answer");
    assert_eq!(e.to_string(), "the device did not answer request 0x7777 within 0.05 s");
    let driver = connect_next(bench, driver);
    assert!(matches!(driver, GuestError::Disconnected(_)), "{driver}");
}

/// What a request says when the device is gone.
fn connect_next(mut bench: Bench, driver: std::sync::Arc<Driver>) -> GuestError {
    bench.close();
    driver.request(&wire::words(&[wire::STOP, 0]), 4).expect_err("nobody there")
}

#[test]
fn a_refused_request_names_itself() {
    let bench = Bench::new();
    let driver = connect(&bench, options());
    let e = driver.play(StreamOptions { stream: 9, ..stream(false) }, vec![0; 100]).expect_err("no stream 9");
    assert_eq!(e.to_string(), "the device refused SET_PARAMS of stream 9: NOT_SUPP");
}

#[test]
fn raw_descriptors_and_indices_reach_the_ring_as_they_are() {
    let bench = Bench::new();
    let driver = connect(&bench, options());
    let control = driver.queue(wire::CONTROL).expect("control");
    let at = driver.ram().alloc(64, 16).expect("memory");
    driver.ram().write(at, &wire::words(&[wire::STOP, 0])).expect("memory");
    let raw = [
        Descriptor { addr: at, len: 8, flags: NEXT, next: 1 },
        Descriptor { addr: at + 32, len: 4, flags: WRITE, next: 0 },
    ];
    let head = control.lock().push_raw(&raw).expect("room");
    assert_eq!(control.lock().avail_index(), 0, "not published yet");
    control.lock().publish(Kick::Always);
    assert!(control.wait(1, Duration::from_secs(5)).expect("an answer"));
    let used = control.lock().reap().expect("used");
    assert_eq!((used.head, used.len, used.known), (head.into(), 4, true));
    assert_eq!(driver.ram().read(at + 32, 4).expect("memory"), wire::words(&[wire::OK]));
    control.lock().set_avail_index(60_000);
    assert_eq!(control.lock().avail_index(), 60_000);
}

#[test]
fn queues_of_any_power_of_two_work() {
    for queue_size in [4, 1024, 32768] {
        let bench = Bench::new();
        let driver = connect(&bench, Options { queue_size, ..options() });
        assert_eq!(driver.play(stream(false), numbered(1, 5000, 4)).expect("play").bytes, 20_000);
    }
    let bench = Bench::new();
    let odd = Driver::connect(Socket::Path(bench.path.clone()), Options { queue_size: 48, ..options() });
    assert!(matches!(odd, Err(GuestError::Invalid(_))));
}

#[test]
fn a_flood_sends_as_many_messages_as_asked() {
    let bench = Bench::new();
    let driver = connect(&bench, options());
    let flood = FloodOptions { messages: 2000, ..FloodOptions::default() };
    let report = driver.flood(&stream(false), flood).expect("flood");
    assert_eq!((report.messages, report.failed), (2000, 0));
    assert!(report.rate() > 0.0);
}

#[test]
fn a_flood_ends_at_its_time_limit_with_everything_given_back() {
    let bench = Bench::new();
    let driver = connect(&bench, options());
    let direct = Shape { indirect: false, ..Shape::default() };
    let flood = FloodOptions { depth: 16, limit: Duration::from_millis(50), ..FloodOptions::default() };
    let report = driver.flood(&StreamOptions { shape: direct, ..stream(false) }, flood).expect("flood");
    assert!(report.messages >= 16);
    assert_eq!(report.failed, 0);
    let queue = driver.queue(2).expect("tx").lock();
    assert_eq!(queue.free(), usize::from(queue.size()), "every descriptor came back");
}
