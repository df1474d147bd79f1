//! Writes inputs to begin with into `corpus/TARGET`: a chain of each kind, the life of a stream, a front end's handshake.

#[path = "../bodies/mod.rs"]
mod bodies;

use std::fs;
use std::path::Path;

use bodies::vhost::record;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

fn descriptor(addr: u64, len: u32, flags: u16, next: u16) -> Vec<u8> {
    let v = u128::from(addr) | u128::from(len) << 64 | u128::from(flags) << 96 | u128::from(next) << 112;
    v.to_le_bytes().to_vec()
}

/// A queue of eight: its table, one head, and what lies at 0x3000.
fn chain(table: &[Vec<u8>], elsewhere: &[Vec<u8>], real_time: u8) -> Vec<u8> {
    let mut input = vec![3, real_time, 1];
    let mut all = table.concat();
    all.resize(16 * 8, 0);
    input.extend(all);
    input.extend([0; 16]);
    input.extend(elsewhere.concat());
    input
}

fn chains() -> Vec<(&'static str, Vec<u8>)> {
    let d = descriptor;
    let whole = [d(0x3100, 4, NEXT, 1), d(0x3200, 400, NEXT, 2), d(0x3f00, 8, WRITE, 0)];
    let cut: Vec<_> = (0..20).map(|i| d(0x3800 + i, 1, if i < 19 { NEXT } else { 0 }, i as u16 + 1)).collect();
    vec![
        ("direct", chain(&whole, &[], 0)),
        ("indirect", chain(&[d(0x3000, 48, INDIRECT, 0)], &whole, 0)),
        ("indirect-behind-direct", chain(&[d(0x3200, 4, NEXT, 1), d(0x3000, 48, INDIRECT, 0)], &whole, 0)),
        ("long", chain(&[d(0x3000, 320, INDIRECT, 0)], &cut, 0)),
        ("long-real-time", chain(&[d(0x3000, 320, INDIRECT, 0)], &cut, 1)),
        ("nested", chain(&[d(0x3000, 16, INDIRECT, 0)], &[d(0x3000, 16, INDIRECT, 0)], 0)),
        ("odd-table", chain(&[d(0x3000, 40, INDIRECT, 0)], &whole, 0)),
        ("no-table", chain(&[d(0x3000, 0, INDIRECT, 0)], &whole, 0)),
        ("longest-table", chain(&[d(0x3000, 0xffff0, INDIRECT, 0)], &whole, 0)),
        ("loop", chain(&[d(0x3100, 4, NEXT, 1), d(0x3200, 4, NEXT, 0)], &[], 0)),
        ("loop-in-table", chain(&[d(0x3000, 0xffff0, INDIRECT, 0)], &[d(0x3100, 4, NEXT, 0)], 0)),
        ("write-before-read", chain(&[d(0x3100, 4, WRITE | NEXT, 1), d(0x3200, 4, 0, 0)], &[], 0)),
        ("outside", chain(&[d(0x2ffe, 4, NEXT, 1), d(u64::MAX - 2, 8, WRITE, 0)], &[], 0)),
        ("too-many-bytes", chain(&[d(0x3000, u32::MAX, NEXT, 1), d(0x3000, 1, 0, 0)], &[], 0)),
        ("next-outside", chain(&[d(0x3000, 4, NEXT, 8)], &[], 0)),
    ]
}

fn operation(code: u8, which: u8, n: u16) -> [u8; 4] {
    [code, which, n as u8, (n >> 8) as u8]
}

fn streams() -> Vec<(&'static str, Vec<u8>)> {
    let of = |size: u8, ops: &[[u8; 4]]| [&[size], ops.concat().as_slice()].concat();
    let o = operation;
    let (prepare, start, stop, flush) = (|s| o(7, s, 0), |s| o(8, s, 0), |s| o(9, s, 0), |s| o(10, s, 0));
    let (play, cut, turn, pause, resume) =
        (|s: u8, n| o(0, s, n), |s: u8, n| o(0, s | 0x98, n), |s: u8, n| o(4, s | 4, n), o(11, 0, 0), o(12, 0, 0));
    let (ahead, stand_in) = (|s| o(16, s, 0), |s, n| o(18, s, n));
    vec![
        ("life", of(6, &[prepare(0), play(0, 400), play(0, 400), start(0), turn(0, 600), turn(0, 600), stop(0), flush(0)])),
        ("record", of(6, &[prepare(2), start(2), play(2, 400), turn(2, 300), turn(2, 300), stop(2), flush(2)])),
        ("pause", of(2, &[prepare(0), start(0), play(0, 400), turn(0, 100), pause, resume, turn(0, 1000)])),
        (
            "two-streams",
            of(6, &[
                prepare(0), prepare(1), start(0), start(1), play(0, 100), play(1, 100), play(0, 100), play(1, 100),
                play(0, 100), turn(1, 100), turn(0, 50), pause, resume, turn(0, 1000), turn(1, 1000),
            ]),
        ),
        (
            "read-ahead",
            of(6, &[
                prepare(0), start(0), play(0, 1200), play(0, 1200), play(0, 1200), play(0, 1200), turn(0, 2000),
                ahead(0), ahead(0), turn(0, 2000), ahead(0), pause, turn(0, 2000), resume, turn(0, 400), stop(0),
                turn(0, 2000), flush(0),
            ]),
        ),
        (
            "handed-on-behind",
            of(6, &[
                prepare(2), start(2), play(2, 1200), play(2, 1200), turn(2, 2000), ahead(2), turn(2, 2000), ahead(2),
                ahead(2), turn(2, 400), ahead(2), ahead(2), turn(2, 400), stop(2), flush(2),
            ]),
        ),
        (
            "late-engine",
            of(6, &[
                prepare(0), start(0), play(0, 1200), play(0, 1200), play(0, 1200), stand_in(0, 600), stand_in(0, 600),
                turn(0, 400), ahead(0), turn(0, 400), ahead(0), turn(0, 2000), ahead(0), turn(0, 2000), stop(0), flush(0),
            ]),
        ),
        (
            "carried",
            of(6, &[
                prepare(0), start(0), play(0, 1200), play(0, 1200), play(0, 1200), turn(0, 2000), ahead(0), pause, o(19, 0, 0),
                resume, turn(0, 400), turn(0, 400), turn(0, 2000), turn(0, 2000),
            ]),
        ),
        ("hung-engine", of(6, &[prepare(0), start(0), play(0, 900), turn(0, 100), stand_in(0, 400), turn(0, 900)])),
        ("discard", of(6, &[o(7, 4, 0), play(0, 100), start(0), play(0, 100), stop(0), flush(0)])),
        ("cut", of(3, &[prepare(0), start(0), cut(0, 700), turn(0, 2000)])),
        ("refused", of(6, &[play(0, 9), prepare(0), o(0, 0x28, 9), o(0, 0x30, 9), o(0, 0x38, 9), play(3, 9), o(0, 0xc0, 9)])),
        ("reset", of(6, &[prepare(0), start(0), play(0, 400), turn(0, 100), o(15, 0, 0), prepare(0), start(0), play(0, 4)])),
        ("remap", of(6, &[prepare(0), start(0), play(0, 400), turn(0, 100), o(14, 0, 0), turn(0, 1000)])),
    ]
}

const MEMORY_FD: u16 = 1;
const KICK_FD: u16 = 1 | 1 << 3;
const CALL_FD: u16 = 1 | 2 << 3;
const USER: u64 = 0x10_0000;

fn message(code: u8, descriptors: u16, body: &[u8]) -> Vec<u8> {
    let [lo, hi] = descriptors.to_le_bytes();
    [&[record::MESSAGE, code, 8, lo, hi, body.len() as u8], body].concat()
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn write(at: u64, bytes: &[u8]) -> Vec<u8> {
    let [lo, hi] = ((at / 16) as u16).to_le_bytes();
    [&[record::WRITE, lo, hi, bytes.len() as u8], bytes].concat()
}

/// A ring of eight at these 0x1000 bytes of memory.
fn ring(index: u64, base: u64) -> Vec<u8> {
    let at = index * 0x1000;
    [
        message(8, 0, &words(&[index | 8 << 32])),
        message(10, 0, &words(&[index | base << 32])),
        message(9, 0, &words(&[index, USER + at, USER + at + 0x200, USER + at + 0x100, 0])),
        message(12, KICK_FD, &words(&[index])),
        message(13, CALL_FD, &words(&[index])),
        message(18, 0, &words(&[index | 1 << 32])),
    ]
    .concat()
}

fn front_ends() -> Vec<(&'static str, Vec<u8>)> {
    let features = [message(1, 0, &[]), message(15, 0, &[]), message(16, 0, &words(&[1 | 1 << 3 | 1 << 9 | 1 << 12 | 1 << 13 | 1 << 15 | 1 << 19]))];
    let set = message(2, 0, &words(&[1 << 32 | 1 << 30 | 1 << 28]));
    let table = message(5, MEMORY_FD, &words(&[1, 0, bodies::vhost::MEMORY, USER, 0]));
    let begin = [features.concat(), message(17, 0, &[]), message(3, 0, &[]), set, table.clone()].concat();
    let rings: Vec<u8> = (0..4).flat_map(|i| ring(i, 0)).collect();
    let tx = [
        write(0x2000, &descriptor(0x8000, 4, NEXT, 1)),
        write(0x2010, &descriptor(0x9000, 64, NEXT, 2)),
        write(0x2020, &descriptor(0x8010, 8, WRITE, 0)),
        write(0x2100, &[0, 0, 1, 0, 0, 0]),
        vec![record::KICK],
    ]
    .concat();
    let (start, pull) = (vec![record::STREAM, 0], vec![record::STREAM, 2]);
    let bases: Vec<u8> = (0..4).flat_map(|i| message(11, 0, &words(&[i]))).collect();
    let config = message(24, 0, &[&[0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0], [0; 12].as_slice()].concat());
    let region = words(&[0, 0x100000, 0x1000, 0x900000, 0x1000]);
    let regions = [message(36, 0, &[]), message(37, MEMORY_FD, &region), message(38, 0, &region)].concat();
    let off: Vec<u8> = (0..4).flat_map(|i| message(18, 0, &words(&[i]))).collect();
    let inflight = [
        message(31, 0, &[words(&[0, 0]), vec![4, 0, 8, 0, 0, 0, 0, 0]].concat()),
        message(32, MEMORY_FD, &[words(&[0x4000, 0xa000]), vec![4, 0, 8, 0, 0, 0, 0, 0]].concat()),
    ]
    .concat();
    let state = |direction: u64| [message(42, MEMORY_FD, &words(&[direction])), message(43, 0, &[])].concat();
    vec![
        ("inflight", [begin.clone(), inflight, rings.clone(), start.clone(), tx.clone()].concat()),
        ("save", [begin.clone(), rings.clone(), start.clone(), tx.clone(), bases.clone(), state(0)].concat()),
        ("load", [begin.clone(), state(1), rings.clone()].concat()),
        ("truncated", [begin.clone(), rings.clone(), vec![record::TRUNCATE, 1], start.clone(), tx.clone()].concat()),
        ("handshake", [begin.clone(), config].concat()),
        ("play", [begin.clone(), rings.clone(), start.clone(), tx.clone(), pull, bases.clone()].concat()),
        ("rings", [begin.clone(), rings.clone(), bases, rings.clone(), off].concat()),
        ("regions", [begin.clone(), rings.clone(), regions, table].concat()),
        ("reset", [begin.clone(), rings.clone(), start, tx, message(34, 0, &[]), rings].concat()),
        ("half", [begin, vec![record::RAW, 7, 0, 0, 1, 0, 0, 0, 1, 0, 0]].concat()),
        ("too-large", vec![record::RAW, 12, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
    ]
}

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, seeds) in [("chain", chains()), ("pcm", streams()), ("vhost", front_ends())] {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        for (name, input) in seeds {
            fs::write(folder.join(name), input)?;
        }
    }
    Ok(())
}
