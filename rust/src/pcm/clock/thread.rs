//! The clock's one thread, and the list of the ports that it looks at.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};

use super::{ClockPort, Kind};
use crate::pcm::stream::Stream;
use crate::realtime;
use crate::vhost::lock;

/// The thread's list, and how it is woken. Its lock comes before those of the ports.
struct Clock {
    ports: Mutex<Ports>,
    wake: Condvar,
}

struct Ports {
    list: Vec<Arc<ClockPort>>,
    thread: bool,
}

static CLOCK: Clock = Clock { ports: Mutex::new(Ports { list: Vec::new(), thread: false }), wake: Condvar::new() };

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since an epoch of ours.
pub(super) fn stamp(t: Instant) -> u64 {
    t.saturating_duration_since(*EPOCH).as_nanos() as u64
}

/// When that is.
pub(super) fn time(stamp: u64) -> Instant {
    *EPOCH + Duration::from_nanos(stamp)
}

/// Have the thread look at a port from now on.
pub(super) fn add(port: &Arc<ClockPort>) {
    let mut ports = lock(&CLOCK.ports);
    if !ports.list.iter().any(|p| Arc::ptr_eq(p, port)) {
        ports.list.push(port.clone());
    }
    if !std::mem::replace(&mut ports.thread, true) {
        ports.thread = spawn(|| drop(realtime::take_priority())).is_ok();
    }
    CLOCK.wake.notify_all();
}

/// Not any more.
pub(super) fn remove(port: &Arc<ClockPort>) {
    let mut ports = lock(&CLOCK.ports);
    ports.list.retain(|p| !Arc::ptr_eq(p, port));
    CLOCK.wake.notify_all();
}

/// The first of the ports that `f` says something of.
pub(super) fn find<R>(f: impl FnMut(&Arc<ClockPort>) -> Option<R>) -> Option<R> {
    lock(&CLOCK.ports).list.iter().find_map(f)
}

/// Read ahead for a stream, or hand on, now: its port's turn may be later than that. Any thread that may wait.
pub(in crate::pcm) fn call(stream: &Arc<Stream>) {
    let its = |p: &&Arc<ClockPort>| p.kind == Kind::StandIn && Arc::ptr_eq(&p.stream, stream);
    let Some(port) = lock(&CLOCK.ports).list.iter().find(its).cloned() else { return };
    {
        // Under this lock: a tick that ends now would say otherwise.
        let _inner = lock(&port.inner);
        port.due.store(0, Relaxed);
    }
    wake();
}

/// Have the thread look at the ports' times again.
pub(super) fn wake() {
    let _ports = lock(&CLOCK.ports);
    CLOCK.wake.notify_all();
}

fn spawn(first: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let body = move || {
        first();
        run();
    };
    std::thread::Builder::new().name("vsnd-clock".into()).spawn(body).map(drop)
}

/// Start the thread before it is needed: later it may not be permitted to take its priority. The error is the system's word on
/// that; the thread runs as others do then.
pub fn start_thread() -> io::Result<()> {
    let (told, tell) = std::sync::mpsc::channel();
    {
        let mut ports = lock(&CLOCK.ports);
        if ports.thread {
            return Ok(());
        }
        spawn(move || drop(told.send(realtime::take_priority())))?;
        ports.thread = true;
    }
    tell.recv().unwrap_or(Ok(()))
}

/// The thread: sleeps until the earliest port is due. It stays, because to make it takes longer than a START may.
fn run() {
    let mut ports = lock(&CLOCK.ports);
    let mut due = Vec::new();
    loop {
        let Some(next) = ports.list.iter().map(|p| p.due.load(Relaxed)).min() else {
            ports = CLOCK.wake.wait(ports).unwrap_or_else(std::sync::PoisonError::into_inner);
            continue;
        };
        let now = Instant::now();
        let left = next.saturating_sub(stamp(now));
        if left > 0 {
            // Whoever makes a port due sooner takes the lock that is let go of here.
            let left = Duration::from_nanos(left);
            ports = CLOCK.wake.wait_timeout(ports, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
            continue;
        }
        due.extend(ports.list.iter().filter(|p| p.due.load(Relaxed) <= stamp(now)).cloned());
        drop(ports);
        due.drain(..).for_each(|p| p.tick(now));
        ports = lock(&CLOCK.ports);
    }
}
