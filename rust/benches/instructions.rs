//! One callback of an engine, for an instruction count: `scripts/instructions` runs this under callgrind, which counts what
//! `measured` does. Wall time is noise on a shared machine; this is not.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/realtime/ports.rs"]
#[allow(dead_code)]
mod ports;

use std::ffi::c_void;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use _core::engine::Lent;
use _core::engine::pipewire::PipeWirePort;
use _core::engine::plain::{PlainPort, transfer};
use _core::guest::{Driver, Kick, Options, Piece, wire};
use _core::pcm::stream::{Mode, Shape};
use common::slots::MESSAGE;
use common::{Rig, shape};
use ports::{FRAME, FakeStream, pipewire};

/// Callbacks that are not counted: what is done once for a thread or a stream is done then.
const WARM_UP: usize = 16;
/// Callbacks that are; their mean is the count.
const TURNS: usize = 64;

enum Port {
    Plain(Lent<PlainPort>),
    PipeWire(Lent<PipeWirePort>, Box<FakeStream>),
}

fn turn(port: &mut Port, data: &mut [u8]) -> usize {
    match port {
        Port::Plain(port) => {
            let (context, n) = (port.address() as *mut c_void, data.len());
            // SAFETY: a live port; the buffer is ours.
            unsafe { transfer(context, data.as_mut_ptr().cast(), n as _, 0) as usize }
        }
        Port::PipeWire(port, fake) => fake.play(port).len(),
    }
}

/// What is counted.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn measured(port: &mut Port, data: &mut [u8; 2 * MESSAGE as usize], bytes: usize) -> usize {
    turn(black_box(port), black_box(&mut data[..bytes]))
}

/// A message of 480 frames of S16 stereo for a stream; the chain is offered again and again.
fn message(driver: &Driver, stream: u32, capture: bool) -> u16 {
    let ram = driver.ram();
    let place = ram.alloc(MESSAGE + 64, 4096).expect("memory");
    let (header, status) = (place + MESSAGE, place + MESSAGE + 32);
    ram.write(header, &stream.to_le_bytes()).expect("memory");
    let piece = |addr, len, writable| Piece { addr, len, writable };
    let pieces = [piece(header, 4, false), piece(place, MESSAGE as u32, capture), piece(status, 8, true)];
    let queue = driver.queue(if capture { wire::RX } else { wire::TX }).expect("queue");
    queue.lock().reserve(&pieces, true).expect("room")
}

struct Case {
    capture: bool,
    event_idx: bool,
    /// Of which stream each message is that waits in the ring; the engine's is 0.
    messages: &'static [u32],
    bytes: usize,
    pipewire: bool,
}

fn case(name: &str) -> Option<Case> {
    let one = Case { capture: false, event_idx: true, messages: &[0], bytes: MESSAGE as usize, pipewire: false };
    Some(match name {
        "play" => one,
        "play, two messages" => Case { messages: &[0, 0], bytes: 2 * MESSAGE as usize, ..one },
        "play, half a message" => Case { bytes: MESSAGE as usize / 2, ..one },
        "play, nothing there" => Case { messages: &[], ..one },
        "play, without EVENT_IDX" => Case { event_idx: false, ..one },
        "play, by PipeWire's port" => Case { bytes: ports::QUANTUM * FRAME, pipewire: true, ..one },
        "route another stream's message" => Case { messages: &[1], ..one },
        "record" => Case { capture: true, ..one },
        _ => return None,
    })
}

fn run(case: &Case) {
    let rig = Rig::new(&[case.capture; 2]);
    let driver = rig.connect(Options { event_idx: case.event_idx, ..Options::default() });
    rig.until_started();
    for s in &rig.streams {
        // Every message may come back in the callback that consumed it.
        s.configure(Shape { buffer: 1 << 20, ..shape(FRAME) }).expect("shape");
        s.set_mode(Mode::Queue);
        s.start();
    }
    let (ours, others) = (&rig.streams[0], &rig.streams[1]);
    let mut port = if case.pipewire {
        let mut fake = FakeStream::new();
        Port::PipeWire(pipewire(ours, &mut fake), fake)
    } else {
        Port::Plain(Lent::new(PlainPort::new(Arc::clone(ours))))
    };
    let heads: Vec<_> = case.messages.iter().map(|&s| message(&driver, s, case.capture)).collect();
    let mut data = [1; 2 * MESSAGE as usize];
    let queue = driver.queue(if case.capture { wire::RX } else { wire::TX }).expect("queue");
    let mut tx = queue.lock();
    let mut before = [0; 2];
    for i in 0..WARM_UP + TURNS {
        // A message that is half consumed comes back every other time.
        for &head in heads.iter().filter(|_| case.bytes != MESSAGE as usize / 2 || i % 2 == 0) {
            tx.offer(head);
        }
        tx.arm(1);
        tx.publish(Kick::Never);
        if i < WARM_UP {
            turn(&mut port, &mut data[..case.bytes]);
            // The worker looks at a ring that has started; under valgrind it runs when we do not.
            std::thread::sleep(Duration::from_millis(1));
        } else {
            measured(&mut port, &mut data, case.bytes);
        }
        if case.messages == [1] {
            others.pull(&mut data[..MESSAGE as usize], 0);
        }
        if case.pipewire {
            // The rest of the message, so that each callback finds a whole one.
            ours.pull(&mut data[..MESSAGE as usize - case.bytes], 0);
        }
        while tx.reap().is_some() {}
        if i + 1 == WARM_UP {
            before = [ours, others].map(|s| s.stats.bytes.load(Relaxed));
        }
    }
    let moved = [0, 1].map(|i| (rig.streams[i].stats.bytes.load(Relaxed) - before[i]) as usize / TURNS);
    let bytes = if case.pipewire { MESSAGE as usize } else { case.bytes };
    let due = |stream| if case.messages.contains(&stream) { bytes } else { 0 };
    assert_eq!(moved, [due(0), due(1)], "bytes in each turn");
    assert_eq!(ours.stats.busy.load(Relaxed), 0, "nobody else is at work");
    if let Port::PipeWire(port, _) = &port {
        port.set_stream(std::ptr::null_mut());
    }
}

fn main() {
    // `cargo bench` passes options of its own.
    let Some(name) = std::env::args().nth(1).filter(|a| !a.starts_with('-')) else {
        println!("make instructions runs this");
        return;
    };
    run(&case(&name).unwrap_or_else(|| panic!("no case {name:?}")));
}
