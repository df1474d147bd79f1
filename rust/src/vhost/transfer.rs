//! The device's state on its way out of, or into, a pipe of the front end (SET_DEVICE_STATE_FD): in a thread of its own, because
//! the front end reads or writes only after it was answered.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A larger state is none of ours.
const STATE_MAX: usize = 1 << 20;
/// A front end that does not read, or write, for so long has failed.
const WAIT: Duration = Duration::from_secs(5);

/// A transfer under way.
pub enum Transfer {
    Save(JoinHandle<bool>),
    Load(JoinHandle<Option<Vec<u8>>>),
}

/// Wait until a pipe can be read or written. False at the time limit.
fn ready(pipe: &File, events: libc::c_short, until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now()).as_millis() as i32;
    let mut p = libc::pollfd { fd: pipe.as_raw_fd(), events, revents: 0 };
    // SAFETY: one live, initialised pollfd.
    unsafe { libc::poll(&mut p, 1, left) > 0 }
}

impl Transfer {
    /// Write the state and close.
    pub fn save(mut pipe: File, state: Vec<u8>) -> std::io::Result<Transfer> {
        let run = move || {
            let until = Instant::now() + WAIT;
            let mut rest = &state[..];
            while !rest.is_empty() {
                // At most what a pipe takes at once when it is ready, so that the write does not block.
                let piece = &rest[..rest.len().min(libc::PIPE_BUF)];
                match ready(&pipe, libc::POLLOUT, until).then(|| pipe.write(piece)) {
                    Some(Ok(n)) if n > 0 => rest = &rest[n..],
                    _ => return false,
                }
            }
            true
        };
        Ok(Transfer::Save(std::thread::Builder::new().name("vsnd-state".into()).spawn(run)?))
    }

    /// Read until the front end closes.
    pub fn load(mut pipe: File) -> std::io::Result<Transfer> {
        let run = move || {
            let until = Instant::now() + WAIT;
            let (mut state, mut piece) = (Vec::new(), [0; libc::PIPE_BUF]);
            loop {
                match ready(&pipe, libc::POLLIN, until).then(|| pipe.read(&mut piece)) {
                    Some(Ok(0)) => return Some(state),
                    Some(Ok(n)) if state.len() + n <= STATE_MAX => state.extend(&piece[..n]),
                    _ => return None,
                }
            }
        };
        Ok(Transfer::Load(std::thread::Builder::new().name("vsnd-state".into()).spawn(run)?))
    }
}
