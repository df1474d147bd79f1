//! The device's state on its way out of, or into, a pipe of the front end (SET_DEVICE_STATE_FD): in a thread of its own, because
//! the front end reads or writes only after it was answered.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::gate::Gate;

/// A larger state is none of ours.
const STATE_MAX: usize = 16 << 20;
/// A front end that does not read, or write, for so long has failed.
const WAIT: Duration = Duration::from_secs(5);
/// So long one that is not wanted any more may take to notice.
const CANCEL_WAIT: Duration = Duration::from_secs(1);
/// How often whoever waits for the end looks around.
const LOOK: Duration = Duration::from_millis(10);

/// Which way the state goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Save,
    Load,
}

/// A transfer under way. Dropped, it ends, and its descriptor is closed.
pub struct Transfer {
    pub way: Way,
    cancel: EventFd,
    gate: Arc<Gate>,
    ended: Receiver<Option<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

/// The front end's descriptor, waited for together with the wish to end.
struct Pipe {
    file: File,
    cancel: EventFd,
    gate: Arc<Gate>,
    until: Instant,
}

impl Pipe {
    /// Run `f` each time the pipe is ready until it says how much it moved. None: at the time limit, cancelled, or broken.
    fn when_ready(
        &mut self,
        events: libc::c_short,
        mut f: impl FnMut(&mut File) -> io::Result<usize>,
    ) -> Option<usize> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now()).as_millis() as i32;
            let watch = |fd, events| libc::pollfd { fd, events, revents: 0 };
            let mut p = [watch(self.file.as_raw_fd(), events), watch(self.cancel.as_raw_fd(), libc::POLLIN)];
            // SAFETY: two live, initialised pollfds.
            if unsafe { libc::poll(p.as_mut_ptr(), 2, left) } <= 0 || p[1].revents != 0 {
                return None;
            }
            // It blocks although it is ready if the front end takes our flag back, or what made it ready.
            match self.gate.pass(|| f(&mut self.file)) {
                Ok(n) => return Some(n),
                // Somebody else was quicker at the same pipe.
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return None,
            }
        }
    }

    fn save(mut self, state: &[u8]) -> Option<Vec<u8>> {
        let mut rest = state;
        while !rest.is_empty() {
            match self.when_ready(libc::POLLOUT, |pipe| pipe.write(&rest[..rest.len().min(libc::PIPE_BUF)])) {
                Some(n) if n > 0 => rest = &rest[n..],
                _ => return None,
            }
        }
        Some(Vec::new())
    }

    fn load(mut self) -> Option<Vec<u8>> {
        let (mut state, mut piece) = (Vec::new(), [0; libc::PIPE_BUF]);
        loop {
            match self.when_ready(libc::POLLIN, |pipe| pipe.read(&mut piece))? {
                0 => return Some(state),
                n if state.len() + n <= STATE_MAX => state.extend(&piece[..n]),
                _ => return None,
            }
        }
    }
}

impl Transfer {
    /// Write the state and close.
    pub fn save(pipe: File, state: Vec<u8>) -> io::Result<Transfer> {
        Self::begin(Way::Save, pipe, move |pipe| pipe.save(&state))
    }

    /// Read until the front end closes.
    pub fn load(pipe: File) -> io::Result<Transfer> {
        Self::begin(Way::Load, pipe, Pipe::load)
    }

    fn begin(way: Way, file: File, run: impl FnOnce(Pipe) -> Option<Vec<u8>> + Send + 'static) -> io::Result<Transfer> {
        // SAFETY: a descriptor of ours; F_SETFL takes a number.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let cancel = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let gate = Gate::new();
        let pipe = Pipe { file, cancel: cancel.try_clone()?, gate: gate.clone(), until: Instant::now() + WAIT };
        let (tell, ended) = sync_channel(1);
        let thread = std::thread::Builder::new().name("vsnd-state".into());
        // The pipe is closed before the end is told.
        let thread = thread.spawn(move || drop(tell.send(run(pipe))))?;
        Ok(Transfer { way, cancel, gate, ended, thread: Some(thread) })
    }

    /// Wait for its end, unless `gone` says that nobody wants it any more: what was loaded, or nothing for what was saved;
    /// None if it failed.
    pub fn finish(mut self, gone: impl Fn() -> bool) -> Option<Vec<u8>> {
        let until = Instant::now() + WAIT + CANCEL_WAIT;
        loop {
            match self.ended.recv_timeout(LOOK) {
                Ok(result) => {
                    self.join();
                    return result;
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < until && !gone() => {}
                // Dropped, it ends.
                Err(_) => return None,
            }
        }
    }

    /// End it at once. False if it does not end.
    pub fn end(&mut self) -> bool {
        let _ = self.cancel.write(1);
        let until = Instant::now() + CANCEL_WAIT;
        while self.thread.is_some() && self.ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            if Instant::now() > until {
                return false;
            }
            self.gate.wake();
        }
        self.join();
        true
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;

    use super::*;

    fn pipe() -> (File, File) {
        let mut fds = [0; 2];
        // SAFETY: room for two descriptors, which are owned from here on.
        unsafe {
            assert_eq!(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC), 0);
            (File::from_raw_fd(fds[0]), File::from_raw_fd(fds[1]))
        }
    }

    #[test]
    fn a_transfer_that_nobody_waits_for_closes_its_pipe() {
        let (mut read, write) = pipe();
        // More than a pipe holds, and nobody reads.
        drop(Transfer::save(write, vec![1; 1 << 19]).unwrap());
        let mut got = Vec::new();
        read.read_to_end(&mut got).unwrap();
        assert!(got.len() < 1 << 19);

        let (read, mut write) = pipe();
        drop(Transfer::load(read).unwrap());
        assert_eq!(write.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn one_that_blocks_although_it_is_ready_ends_too() {
        let (read, write) = pipe();
        let (shared, mut load) = (read.try_clone().unwrap(), Transfer::load(read).unwrap());
        // SAFETY: an open descriptor. From now on a read blocks, as a front end can bring about.
        unsafe { libc::fcntl(shared.as_raw_fd(), libc::F_SETFL, 0) };
        // It reads this and then waits, or is beaten to it by us and stuck.
        (&write).write_all(b"x").unwrap();
        assert!(load.end());
        drop(write);
    }

    #[test]
    fn nobody_is_waited_for_whose_front_end_is_gone() {
        let (read, write) = pipe();
        let begun = Instant::now();
        assert_eq!(Transfer::load(read).unwrap().finish(|| begun.elapsed() > 2 * LOOK), None);
        assert!(begun.elapsed() < WAIT);
        drop(write);
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let state: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
        let (read, write) = pipe();
        let (load, save) = (Transfer::load(read).unwrap(), Transfer::save(write, state.clone()).unwrap());
        assert_eq!(save.finish(|| false), Some(Vec::new()));
        assert_eq!(load.finish(|| false), Some(state));
    }

    #[test]
    fn a_state_that_is_too_long_is_refused() {
        let (read, write) = pipe();
        let load = Transfer::load(read).unwrap();
        let save = Transfer::save(write, vec![0; STATE_MAX + 1]).unwrap();
        assert_eq!(load.finish(|| false), None);
        drop(save);
    }
}
