//! A queue between threads, and waiting for what the device gives back.

use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::error::{GuestError, Result};
use super::poll::wait_or_hangup;
use super::queue::Queue;

/// A queue that threads share. Nobody holds its lock while waiting for the device.
pub struct SharedQueue {
    queue: Mutex<Queue>,
    // to learn that the device is gone
    socket: UnixStream,
}

impl SharedQueue {
    pub fn new(queue: Queue, socket: UnixStream) -> Self {
        SharedQueue { queue: Mutex::new(queue), socket }
    }

    pub fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The call eventfd, kept open while somebody waits on it.
    pub(crate) fn call(&self) -> Arc<EventFd> {
        self.lock().call()
    }

    pub(crate) fn socket_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Wait until `n` completions are there to `reap`. False: not within `timeout`. An error: the device is gone.
    pub fn wait(&self, n: u16, timeout: Duration) -> Result<bool> {
        let end = Instant::now().checked_add(timeout);
        loop {
            let call = {
                let mut q = self.lock();
                q.arm(n);
                if q.pending() >= n {
                    return Ok(true);
                }
                q.call()
            };
            let (_, gone) = wait_or_hangup(&[call.as_raw_fd()], self.socket_fd(), end)?;
            let mut q = self.lock();
            q.take_signals();
            if q.pending() >= n {
                return Ok(true);
            }
            if gone {
                return Err(GuestError::Disconnected(format!("while queue {} waited", q.index())));
            }
            if end.is_some_and(|e| Instant::now() >= e) {
                return Ok(false);
            }
        }
    }
}
