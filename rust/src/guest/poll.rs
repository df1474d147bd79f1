//! Waiting for descriptors with a time limit, and the clock that all times are told by.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::error::{GuestError, Result};

/// Nanoseconds of CLOCK_MONOTONIC, as Python's `time.monotonic_ns`.
pub fn monotonic_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec; this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

fn poll(fds: &mut [libc::pollfd], end: Option<Instant>) -> Result<()> {
    loop {
        let left = match end.map(|e| e.saturating_duration_since(Instant::now())) {
            None => -1,
            // Round up: a wait never ends early.
            Some(d) => (d + Duration::from_micros(999)).as_millis().min(i32::MAX as u128) as i32,
        };
        // SAFETY: the slice is valid for its length.
        let n = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, left) };
        if n >= 0 {
            return Ok(());
        }
        let e = std::io::Error::last_os_error();
        if e.kind() != std::io::ErrorKind::Interrupted {
            return Err(GuestError::system("poll")(e));
        }
    }
}

/// Wait until one of `fds` is readable or hung up; tells which. None: for ever.
pub fn wait_readable(fds: &[RawFd], end: Option<Instant>) -> Result<Vec<bool>> {
    let mut set: Vec<_> = fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    poll(&mut set, end)?;
    Ok(set.iter().map(|p| p.revents != 0).collect())
}

/// As `wait_readable`; the socket last in the list only wakes when its peer is gone.
pub fn wait_or_hangup(fds: &[RawFd], socket: RawFd, end: Option<Instant>) -> Result<(bool, bool)> {
    let mut set: Vec<_> = fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    set.push(libc::pollfd { fd: socket, events: libc::POLLRDHUP, revents: 0 });
    poll(&mut set, end)?;
    let gone = set.pop().is_some_and(|p| p.revents != 0);
    Ok((set.iter().any(|p| p.revents != 0), gone))
}
