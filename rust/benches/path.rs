//! What a message costs on the way from the guest's ring to an engine's buffer and back, in this process and over a real
//! socket's rings: `make bench-path`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use _core::guest::{Driver, Kick, Options, Piece, wire};
use _core::pcm::stream::{Mode, Shape};
use _core::vhost::Caller;
use common::slots::{MESSAGE, Slots};
use common::{Rig, shape};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

struct Playing {
    rig: Rig,
    driver: Arc<Driver>,
    slots: Slots,
}

impl Playing {
    fn new(event_idx: bool) -> Playing {
        let rig = Rig::new(&[false]);
        let driver = rig.connect(Options { event_idx, ..Options::default() });
        rig.until_started();
        let stream = &rig.streams[0];
        // Every message may come back in the wake-up that consumed it.
        stream.configure(Shape { buffer: 1 << 20, ..shape(4) }).expect("shape");
        stream.set_mode(Mode::Queue);
        stream.start();
        let slots = Slots::new(&driver, 0);
        Playing { rig, driver, slots }
    }

    /// Pull until the buffer is full: once, but for a worker that looks at the ring at the same moment.
    fn take(&self, buffer: &mut [u8]) {
        let mut got = 0;
        while got < buffer.len() {
            got += self.rig.streams[0].pull(black_box(&mut buffer[got..]), 0);
        }
    }

    /// Time what the engine's callback does with `n` messages that wait in the ring.
    fn pull(&self, n: usize, turns: u64) -> Duration {
        let mut tx = self.driver.queue(wire::TX).expect("tx").lock();
        let mut buffer = vec![0; n * MESSAGE as usize];
        let mut spent = Duration::ZERO;
        for _ in 0..turns {
            self.slots.heads.iter().take(n).for_each(|&h| tx.offer(h));
            tx.publish(Kick::Never);
            let begun = Instant::now();
            self.take(&mut buffer);
            spent += begun.elapsed();
            while tx.reap().is_some() {}
        }
        spent
    }
}

/// Drain the ring, copy, complete, signal: one callback of a playing stream.
fn pull(c: &mut Criterion) {
    let mut group = c.benchmark_group("pull");
    for event_idx in [true, false] {
        let playing = Playing::new(event_idx);
        for n in [1, 4, 16] {
            group.throughput(Throughput::Elements(n as u64));
            let name = if event_idx { "event_idx" } else { "flags" };
            group.bench_function(BenchmarkId::new(name, n), |b| b.iter_custom(|turns| playing.pull(n, turns)));
        }
    }
    group.finish();
}

/// A message cut into many descriptors, which are walked and copied one by one.
fn pieces(c: &mut Criterion) {
    let mut group = c.benchmark_group("pieces");
    let playing = Playing::new(true);
    let ram = playing.driver.ram();
    for n in [1, 4, 16] {
        let (data, status) = (ram.alloc(MESSAGE, 4096).expect("memory"), ram.alloc(16, 16).expect("memory"));
        let piece = |addr, len: u64, writable| Piece { addr, len: len as u32, writable };
        let mut list = vec![piece(playing.slots.header, 4, false)];
        list.extend((0..n).map(|i| piece(data + i * MESSAGE / n, MESSAGE / n, false)));
        list.push(piece(status, 8, true));
        let mut tx = playing.driver.queue(wire::TX).expect("tx").lock();
        let head = tx.reserve(&list, true).expect("room");
        let mut buffer = vec![0; MESSAGE as usize];
        group.bench_function(BenchmarkId::from_parameter(n), |b| {
            b.iter_custom(|turns| {
                let mut spent = Duration::ZERO;
                for _ in 0..turns {
                    tx.offer(head);
                    tx.publish(Kick::Never);
                    let begun = Instant::now();
                    playing.take(&mut buffer);
                    spent += begun.elapsed();
                    while tx.reap().is_some() {}
                }
                spent
            })
        });
    }
    group.finish();
}

/// An engine's callback that finds nothing: what an idle ring costs.
fn empty(c: &mut Criterion) {
    let playing = Playing::new(true);
    let mut buffer = vec![0; MESSAGE as usize];
    c.bench_function("empty", |b| b.iter(|| playing.rig.streams[0].pull(black_box(&mut buffer), 0)));
}

/// Pop chains off the ring and walk their descriptors; give them back, with one signal.
fn walk_and_complete(c: &mut Criterion) {
    let rig = Rig::new(&[false]);
    let driver = rig.connect(Options::default());
    rig.until_started();
    let slots = Slots::new(&driver, 0);
    let ring = &rig.server.device().rings()[wire::TX];
    for n in [1, 16] {
        let turn = |turns: u64, complete: bool| {
            let mut tx = driver.queue(wire::TX).expect("tx").lock();
            let (mut chains, mut done) = (VecDeque::with_capacity(n), Vec::with_capacity(n));
            let mut spent = Duration::ZERO;
            for _ in 0..turns {
                slots.heads.iter().take(n).for_each(|&h| tx.offer(h));
                tx.arm(1);
                tx.publish(Kick::Never);
                let begun = Instant::now();
                assert_eq!(ring.pop(black_box(&mut chains), n, Caller::RealTime).expect("a ring"), n);
                let walked = begun.elapsed();
                done.extend(chains.drain(..).map(|chain| chain.done(8, MESSAGE as usize)));
                let begun = Instant::now();
                assert_eq!(ring.complete(black_box(&mut done), usize::MAX, Caller::RealTime), n);
                spent += if complete { begun.elapsed() } else { walked };
                while tx.reap().is_some() {}
            }
            spent
        };
        for (name, complete) in [("walk", false), ("complete", true)] {
            c.bench_function(&format!("{name}/{n}"), |b| b.iter_custom(|turns| turn(turns, complete)));
        }
    }
}

/// One stream's callback hands on what is another's.
fn route(c: &mut Criterion) {
    let rig = Rig::new(&[false, false]);
    let driver = rig.connect(Options::default());
    rig.until_started();
    for s in &rig.streams {
        s.configure(Shape { buffer: 1 << 20, ..shape(4) }).expect("shape");
        s.set_mode(Mode::Queue);
        s.start();
    }
    let slots = Slots::new(&driver, 1);
    let mut buffer = vec![0; 16 * MESSAGE as usize];
    for n in [1, 16] {
        c.bench_function(&format!("route/{n}"), |b| {
            b.iter_custom(|turns| {
                let mut tx = driver.queue(wire::TX).expect("tx").lock();
                let mut spent = Duration::ZERO;
                for _ in 0..turns {
                    slots.heads.iter().take(n).for_each(|&h| tx.offer(h));
                    tx.publish(Kick::Never);
                    let begun = Instant::now();
                    black_box(rig.streams[0].pull(black_box(&mut buffer[..MESSAGE as usize]), 0));
                    spent += begun.elapsed();
                    rig.streams[1].pull(&mut buffer, 0);
                    while tx.reap().is_some() {}
                }
                spent
            })
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(2));
    targets = pull, pieces, empty, walk_and_complete, route
}
criterion_main!(benches);
