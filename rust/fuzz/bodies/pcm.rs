//! PCM messages: a router and its streams on real rings, against the model in `model`. Operations come from a fuzzer's bytes
//! here, from proptest in `rust/tests/take_back.rs`.

mod bench;
mod model;
mod turns;

pub use bench::Bench;

use super::input::Input;

/// Streams 0 and 1 play, 2 records; 3 is not there.
pub const DIRECTIONS: [bool; 3] = [false, false, true];

/// What a driver, its VMM, the device's policy or an engine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A message on a queue (true: rx), seen by the device at once, or when an engine looks.
    Offer {
        stream: u8,
        rx: bool,
        bytes: u16,
        form: Form,
        quiet: bool,
    },
    /// An engine's turn.
    Move {
        stream: u8,
        bytes: u16,
        real_time: bool,
    },
    /// What is due by now is read ahead of the engine, or handed on behind it.
    ReadAhead {
        stream: u8,
    },
    /// Somebody stands in for an engine that takes no turns.
    StandIn {
        stream: u8,
        bytes: u16,
    },
    /// What was read ahead is saved, and restored.
    Carry {
        stream: u8,
    },
    /// PREPARE; with `discard` for a stream without an engine.
    Prepare {
        stream: u8,
        discard: bool,
    },
    Start {
        stream: u8,
    },
    Stop {
        stream: u8,
    },
    /// RELEASE.
    Flush {
        stream: u8,
    },
    /// GET_VRING_BASE, or ENABLE 0.
    StopRing {
        rx: bool,
        by_disabling: bool,
    },
    /// The ring goes on where it was stopped: with all that a VMM tells of it, or by ENABLE 1 if that is enough.
    ResumeRing {
        rx: bool,
        by_enabling: bool,
    },
    /// SET_MEM_TABLE with the same memory.
    Remap,
    /// RESET_DEVICE, and a driver that starts from zero.
    Reset,
}

/// How a message is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In three descriptors, behind one indirect.
    Whole,
    /// Cut into pieces of this size, direct.
    Cut(u8),
    /// Its header has three bytes.
    ShortHeader,
    /// Its status part has seven bytes.
    ShortStatus,
    /// A readable descriptor behind a writable one.
    Mixed,
}

/// Input: four bytes an operation.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let first = input.u8();
    let mut bench = Bench::new(8 << (first & 3), first & 4 != 0);
    while !input.is_empty() {
        bench.apply(decode(input.u8(), input.u8(), input.u16()));
    }
    bench.end();
}

fn decode(code: u8, which: u8, n: u16) -> Op {
    let (stream, flag) = (which & 3, which & 4 != 0);
    let form = match which >> 3 & 7 {
        0..=2 => Form::Whole,
        3 | 4 => Form::Cut((which >> 6) * 60 + 7),
        5 => Form::ShortHeader,
        6 => Form::ShortStatus,
        _ => Form::Mixed,
    };
    match code % 20 {
        0..=3 => Op::Offer { stream, rx: (stream == 2) ^ (which >> 6 == 3), bytes: n % 2048, form, quiet: flag },
        4..=6 => Op::Move { stream, bytes: n % 4096, real_time: flag },
        7 => Op::Prepare { stream, discard: flag },
        8 => Op::Start { stream },
        9 => Op::Stop { stream },
        10 => Op::Flush { stream },
        11 => Op::StopRing { rx: flag, by_disabling: which & 8 != 0 },
        12 | 13 => Op::ResumeRing { rx: flag, by_enabling: which & 8 != 0 },
        14 => Op::Remap,
        15 => Op::Reset,
        16 | 17 => Op::ReadAhead { stream },
        18 => Op::StandIn { stream, bytes: n % 4096 },
        _ => Op::Carry { stream },
    }
}
