//! Messages of several streams, partial turns of engines, stops and resumes at any point: not one byte is lost or repeated as
//! far as order allows, and every message is accounted for. proptest makes the operations, the model of the fuzzer judges.

use proptest::prelude::*;

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

use bodies::pcm::{Bench, Form, Op};

fn operation() -> impl Strategy<Value = Op> {
    let stream = 0..3u8;
    let form = prop_oneof![
        6 => Just(Form::Whole),
        3 => (1..200u8).prop_map(Form::Cut),
        1 => Just(Form::ShortHeader),
        1 => Just(Form::ShortStatus),
        1 => Just(Form::Mixed),
    ];
    prop_oneof![
        12 => (0..4u8, 0..1500u16, form, any::<bool>(), prop::bool::weighted(0.05)).prop_map(
            |(stream, bytes, form, quiet, astray)| Op::Offer { stream, rx: (stream == 2) != astray, bytes, form, quiet }
        ),
        12 => (stream.clone(), 0..3000u16, any::<bool>())
            .prop_map(|(stream, bytes, real_time)| Op::Move { stream, bytes, real_time }),
        6 => stream.clone().prop_map(|stream| Op::ReadAhead { stream }),
        2 => (stream.clone(), 0..3000u16).prop_map(|(stream, bytes)| Op::StandIn { stream, bytes }),
        1 => stream.clone().prop_map(|stream| Op::Carry { stream }),
        4 => (stream.clone(), prop::bool::weighted(0.1)).prop_map(|(stream, discard)| Op::Prepare { stream, discard }),
        4 => stream.clone().prop_map(|stream| Op::Start { stream }),
        1 => stream.clone().prop_map(|stream| Op::Stop { stream }),
        1 => stream.prop_map(|stream| Op::Flush { stream }),
        4 => any::<(bool, bool)>().prop_map(|(rx, by_disabling)| Op::StopRing { rx, by_disabling }),
        6 => any::<(bool, bool)>().prop_map(|(rx, by_enabling)| Op::ResumeRing { rx, by_enabling }),
        1 => Just(Op::Remap),
        1 => Just(Op::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_becomes_what_the_model_says(
        size in prop::sample::select(vec![8u16, 16, 64, 256]),
        event_idx: bool,
        operations in prop::collection::vec(operation(), 1..120),
    ) {
        let mut bench = Bench::new(size, event_idx);
        operations.into_iter().for_each(|op| bench.apply(op));
        bench.end();
    }
}

/// Of one stream that plays and one that records, on engines of large turns.
fn of_large_turns() -> impl Strategy<Value = Op> {
    let stream = || prop::sample::select(vec![0u8, 2]);
    prop_oneof![
        8 => (stream(), 0..1500u16, any::<bool>())
            .prop_map(|(stream, bytes, quiet)| Op::Offer { stream, rx: stream == 2, bytes, form: Form::Whole, quiet }),
        5 => (stream(), 0..4000u16).prop_map(|(stream, bytes)| Op::Move { stream, bytes, real_time: true }),
        6 => stream().prop_map(|stream| Op::ReadAhead { stream }),
        2 => (stream(), 0..3000u16).prop_map(|(stream, bytes)| Op::StandIn { stream, bytes }),
        1 => stream().prop_map(|stream| Op::Carry { stream }),
        1 => stream().prop_map(|stream| Op::Stop { stream }),
        2 => stream().prop_map(|stream| Op::Start { stream }),
        1 => any::<(bool, bool)>().prop_map(|(rx, by_disabling)| Op::StopRing { rx, by_disabling }),
        2 => any::<(bool, bool)>().prop_map(|(rx, by_enabling)| Op::ResumeRing { rx, by_enabling }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_ahead_comes_out_once_and_in_order(operations in prop::collection::vec(of_large_turns(), 1..120)) {
        let mut bench = Bench::new(64, true);
        for stream in [0, 2] {
            bench.apply(Op::Prepare { stream, discard: false });
            bench.apply(Op::Start { stream });
        }
        operations.into_iter().for_each(|op| bench.apply(op));
        bench.end();
    }
}

/// A pause before anything came back: the ring goes on at 0, and is no new driver's.
#[test]
fn a_pause_in_the_first_message_loses_and_repeats_nothing() {
    let mut bench = Bench::new(16, true);
    for op in [
        Op::Prepare { stream: 0, discard: false },
        Op::Start { stream: 0 },
        Op::Offer { stream: 0, rx: false, bytes: 400, form: Form::Whole, quiet: false },
        Op::Move { stream: 0, bytes: 100, real_time: true },
        Op::StopRing { rx: false, by_disabling: false },
        Op::ResumeRing { rx: false, by_enabling: false },
        Op::Move { stream: 0, bytes: 400, real_time: true },
    ] {
        bench.apply(op);
    }
    bench.end();
}
