//! What the process is: its user, its capabilities, its limits.

use std::ffi::CStr;
use std::io;

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// No program that this process starts gets more rights than it has itself. For the calling thread and those it makes.
pub fn no_new_privileges() -> io::Result<()> {
    // SAFETY: prctl with plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// Get SIGTERM when the parent ends: the thread of it that forked, to be exact. An error if it has ended before.
pub fn end_with_parent(parent: libc::pid_t) -> io::Result<()> {
    // SAFETY: prctl and getppid with plain numbers.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM, 0, 0, 0))?;
        if libc::getppid() != parent {
            return Err(io::Error::other("the parent process has ended"));
        }
    }
    Ok(())
}

/// How lists of processes show this one; the kernel keeps 15 bytes.
pub fn name_process(name: &CStr) -> io::Result<()> {
    // SAFETY: a live string that ends with a zero.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) })
}

/// No core dumps, which would hold the guest's memory, and at most so many open files. Limits are only lowered.
pub fn limit_resources(open_files: u64) -> io::Result<()> {
    lower(libc::RLIMIT_CORE, 0)?;
    lower(libc::RLIMIT_NOFILE, open_files)
}

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn lower(resource: Resource, most: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit.
    unsafe {
        check(libc::getrlimit(resource, &mut limit))?;
        limit.rlim_max = limit.rlim_max.min(most);
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(resource, &limit))
    }
}

/// Become this user for good: no supplementary groups, no capabilities, none to be had again.
///
/// The C library does this for every thread.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    if uid == 0 || gid == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "root is not a user to become"));
    }
    // SAFETY: calls with plain numbers; setgroups reads no list of length 0.
    unsafe {
        // While it is permitted: what is not in the bounding set cannot come back by a program that is started.
        for capability in 0..64 {
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 {
                break;
            }
        }
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(gid, gid, gid))?;
        // From root to another user: the kernel clears every capability.
        check(libc::setresuid(uid, uid, uid))?;
        if libc::setresuid(0, 0, 0) == 0 {
            return Err(io::Error::other("root came back after it was dropped"));
        }
        // The kernel hides /proc/PID of who changed its user; PipeWire looks there to tell who its client is.
        check(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0))
    }
}
