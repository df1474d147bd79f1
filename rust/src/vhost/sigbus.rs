//! Guest memory that its owner cuts short while we have it mapped: the next access would end the process by SIGBUS.
//!
//! The handler puts zeros in the place of the region that was hit, so that whoever touched it goes on, and wakes the connection
//! whose memory it is, which ends. A SIGBUS anywhere else is as deadly as before.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use vmm_sys_util::eventfd::EventFd;

/// Regions watched at once; as many front ends can be served by one process as have room, the others are not protected.
const SLOTS: usize = 1024;

struct Watched {
    start: AtomicUsize,
    len: AtomicUsize,
    wake: AtomicI32,
}

static WATCHED: [Watched; SLOTS] =
    [const { Watched { start: AtomicUsize::new(0), len: AtomicUsize::new(0), wake: AtomicI32::new(-1) } }; SLOTS];
/// What handled SIGBUS before us.
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(std::ptr::null_mut());
static INSTALL: Once = Once::new();

/// A mapped region under watch, until dropped; drop it before the mapping.
#[derive(Debug)]
pub struct Watch(Option<usize>);

impl Watch {
    /// Watch `len` bytes from `start` on; `wake` is written to when they are lost, and must outlive the watch.
    pub fn new(start: *const u8, len: usize, wake: &EventFd) -> Watch {
        INSTALL.call_once(install);
        let free = WATCHED
            .iter()
            .position(|w| w.wake.compare_exchange(-1, wake.as_raw_fd(), Ordering::AcqRel, Ordering::Relaxed).is_ok());
        if let Some(i) = free {
            WATCHED[i].len.store(len, Ordering::Relaxed);
            // Last: from now on the handler takes the slot for valid.
            WATCHED[i].start.store(start as usize, Ordering::Release);
        }
        Watch(free)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(i) = self.0 {
            WATCHED[i].start.store(0, Ordering::Release);
            WATCHED[i].wake.store(-1, Ordering::Release);
        }
    }
}

fn install() {
    // SAFETY: both structures are live and initialised; the handler makes only async-signal-safe calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
        let mut before: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, &action, &mut before) == 0 {
            BEFORE.store(Box::into_raw(Box::new(before)), Ordering::Release);
        }
    }
}

/// On whichever thread touched the lost memory: atomics and system calls only.
extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid siginfo with SA_SIGINFO.
    let addr = unsafe { (*info).si_addr() } as usize;
    for w in &WATCHED {
        let (start, len) = (w.start.load(Ordering::Acquire), w.len.load(Ordering::Relaxed));
        if start != 0 && addr >= start && addr - start < len {
            let wake: RawFd = w.wake.load(Ordering::Acquire);
            let one = 1u64.to_ne_bytes();
            // SAFETY: replaces a mapping of ours, which stays reserved until its owner unmaps it; the write is of 8 live
            // bytes, and to a closed descriptor it is an error, no more.
            let place = unsafe {
                let place = libc::mmap(
                    start as *mut libc::c_void,
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                    -1,
                    0,
                );
                libc::write(wake, one.as_ptr().cast(), one.len());
                place
            };
            if place != libc::MAP_FAILED {
                return;
            }
        }
    }
    pass_on(signal, info, context);
}

/// Not ours: what would have happened without us.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let before = BEFORE.load(Ordering::Acquire);
    // SAFETY: `before` is null or was leaked by `install`; a handler in it has the signature that its flags say.
    unsafe {
        if !before.is_null() && (*before).sa_flags & libc::SA_SIGINFO != 0 {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            let f: Handler = std::mem::transmute((*before).sa_sigaction);
            f(signal, info, context);
        } else if !before.is_null() && !matches!((*before).sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
            let f: extern "C" fn(libc::c_int) = std::mem::transmute((*before).sa_sigaction);
            f(signal);
        } else {
            // The access is made again and kills us, with the core dump that belongs to it.
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::FromRawFd;

    use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK};

    use super::*;

    #[test]
    fn memory_that_is_cut_short_reads_as_zeros_and_wakes() {
        const LEN: usize = 1 << 20;
        let wake = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap();
        // SAFETY: a fresh memfd and a fresh mapping, which is unmapped below.
        unsafe {
            let file = File::from_raw_fd(libc::memfd_create(c"short".as_ptr(), libc::MFD_CLOEXEC));
            file.set_len(LEN as u64).unwrap();
            let (rw, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            let at = libc::mmap(std::ptr::null_mut(), LEN, rw, shared, file.as_raw_fd(), 0).cast::<u8>();
            at.add(70_000).write_volatile(7);
            let watch = Watch::new(at, LEN, &wake);
            file.set_len(4096).unwrap();
            assert_eq!(at.add(70_000).read_volatile(), 0);
            assert_eq!(wake.read().unwrap(), 1);
            at.add(LEN - 1).write_volatile(9);
            drop(watch);
            libc::munmap(at.cast(), LEN);
        }
        assert!(wake.read().is_err());
    }
}
