//! The call descriptor of a ring, by which its driver is signalled: a write into a file of the front end's.
//!
//! An eventfd blocks at 2^64 - 2, which only malice brings about; then the writer, perhaps an engine's callback that holds a lock,
//! would stand there for ever. So it writes in a [`Gate`], and whoever waits too long for a lock has it woken (`TryMutex::lock`). The
//! descriptor is not used again then.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::time::Duration;

use super::gate::{Gate, WAKE};
use crate::error::{Error, Result};

/// How long a write may block on the connection's thread, for which nobody waits.
const PATIENCE: Duration = Duration::from_millis(100);
/// A timer that wakes the thread which made it, again and again, until dropped.
struct Alarm(libc::timer_t);

impl Alarm {
    fn new() -> std::io::Result<Alarm> {
        let pause = libc::timespec { tv_sec: 0, tv_nsec: PATIENCE.subsec_nanos().into() };
        let times = libc::itimerspec { it_interval: pause, it_value: pause };
        // SAFETY: all structures are live and initialised; the timer is deleted once.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = WAKE;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer = std::mem::zeroed();
            if libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            let alarm = Alarm(timer);
            match libc::timer_settime(timer, 0, &times, std::ptr::null_mut()) {
                0 => Ok(alarm),
                _ => Err(std::io::Error::last_os_error()),
            }
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: made by `new`, deleted nowhere else.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// See the module text.
#[derive(Debug)]
pub struct Call {
    file: Option<File>,
    /// A write to it blocked. It stays open until the connection's thread replaces it.
    spent: bool,
    gate: Arc<Gate>,
}

impl Call {
    /// No descriptor yet.
    pub fn new() -> Call {
        Call { file: None, spent: false, gate: Gate::new() }
    }

    /// Use this one from now on.
    pub fn set(&mut self, file: Option<File>) {
        (self.file, self.spent) = (file, false);
    }

    /// Signal the driver. False if that failed: nothing is lost then but the signal. Real-time safe.
    pub fn signal(&mut self) -> bool {
        let Some(file) = self.file.as_ref().filter(|_| !self.spent) else { return false };
        let one = 1u64.to_ne_bytes();
        let (written, interrupted) = self.gate.pass(|| {
            // SAFETY: an open descriptor and 8 readable bytes.
            let written = unsafe { libc::write(file.as_raw_fd(), one.as_ptr().cast(), one.len()) };
            (written, written < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR))
        });
        // Only what blocks can be interrupted.
        self.spent = interrupted;
        written == one.len() as isize
    }

    /// Whether a write to the descriptor blocked, so that its driver is not signalled any more.
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// As `signal`, on the connection's thread, for which nobody waits.
    pub fn signal_in_time(&mut self) -> bool {
        // Without a timer rather not at all.
        self.file.is_some() && Alarm::new().is_ok_and(|_alarm| self.signal())
    }
}

/// A descriptor that can be a ring's: an eventfd, or a pipe or a socket, of which we have an end of our own that then never blocks.
pub fn check(file: &File) -> Result<()> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_dir() || kind.is_char_device() || kind.is_block_device() {
        return Err(Error::Invalid("a call descriptor must be an eventfd".into()));
    }
    if kind.is_fifo() || kind.is_socket() {
        // SAFETY: an open descriptor; F_SETFL takes a number.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;
    use std::time::Instant;

    use super::*;
    use crate::vhost::sync::TryMutex;

    /// An eventfd that blocks: one short of its end, as no honest front end leaves it.
    fn full() -> File {
        // SAFETY: a fresh descriptor, owned from here on.
        let file = unsafe { File::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
        std::io::Write::write_all(&mut &file, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        file
    }

    #[test]
    fn who_waits_for_a_lock_wakes_who_is_stuck_in_a_signal() {
        let call = Arc::new(TryMutex::new(Call::new()));
        call.lock().set(Some(full()));
        let other = call.clone();
        let stuck = std::thread::spawn(move || other.lock().signal());
        let begun = Instant::now();
        while call.try_lock().is_some() {
            assert!(begun.elapsed() < Duration::from_secs(10), "nothing blocks");
            std::thread::yield_now();
        }
        assert!(!call.lock().signal(), "it is not tried again");
        assert!(!stuck.join().unwrap());
        call.lock().set(None);
    }

    #[test]
    fn the_connections_thread_wakes_itself() {
        let mut call = Call::new();
        call.set(Some(full()));
        assert!(!call.signal_in_time());
        // SAFETY: a fresh descriptor, owned from here on.
        call.set(Some(unsafe { File::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) }));
        assert!(call.signal_in_time() && call.signal());
    }

    #[test]
    fn what_a_ring_is_signalled_by() {
        check(&full()).unwrap();
        assert!(check(&File::open("/dev/null").unwrap()).is_err());
        assert!(check(&File::open("/").unwrap()).is_err());
    }
}
