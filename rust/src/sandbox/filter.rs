//! Which system calls the process makes: three seccomp filters over the lists of `calls`, on every thread.
//!
//! The kernel obeys the strictest answer. What is deadly ends the process; what is refused is EPERM; what is not known
//! is ENOSYS, as on a kernel that is older, so that a newer C library falls back to what it did before.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::Permit;
use super::calls;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// `prctl` for names, memory labels and questions.
const PRCTL: [libc::c_int; 9] = [
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_VMA,
    libc::PR_GET_DUMPABLE,
    libc::PR_CAPBSET_READ,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_GET_SECCOMP,
    libc::PR_SET_TIMERSLACK,
    libc::PR_GET_TIMERSLACK,
];

/// `ioctl` as the standard libraries use it, on files and sockets.
const IOCTL: [u64; 6] = [
    libc::FIONREAD as _,
    libc::FIONBIO as _,
    libc::FIOCLEX as _,
    libc::FIONCLEX as _,
    libc::TCGETS as _,
    libc::TIOCGWINSZ as _,
];

fn condition(argument: u8, length: Len, op: Op, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, length, op, value)
}

/// A call whose argument is none of `values`.
fn other_than(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let all: Result<_, _> = values.iter().map(|v| condition(argument, Len::Dword, Op::Ne, *v)).collect();
    Ok(vec![SeccompRule::new(all?)?])
}

/// A call whose argument has just these of the bits in `mask`.
fn bits(argument: u8, mask: libc::c_int, value: libc::c_int) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let op = Op::MaskedEq(mask as u64);
    Ok(vec![SeccompRule::new(vec![condition(argument, Len::Qword, op, value as u64)?])?])
}

/// What is EPERM: calls that are refused whole, and those that are by their arguments.
fn refused(permits: &[Permit]) -> Result<Rules, seccompiler::BackendError> {
    let has = |permit| permits.contains(&permit);
    let mut rules = Rules::new();
    let all = |rules: &mut Rules, numbers: &[i64]| rules.extend(numbers.iter().map(|n| (*n, vec![])));
    if !has(Permit::Processes) {
        all(&mut rules, calls::REFUSED);
        all(&mut rules, calls::LEGACY_REFUSED);
        all(&mut rules, calls::PROCESSES);
        // A thread is not a process.
        rules.insert(libc::SYS_clone, bits(0, libc::CLONE_THREAD, 0)?);
        rules.insert(libc::SYS_prctl, other_than(0, &PRCTL.map(|option| option as u64))?);
        let own = u64::from(std::process::id());
        rules.insert(libc::SYS_tgkill, other_than(0, &[own])?);
        rules.insert(libc::SYS_kill, other_than(0, &[own])?);
    }
    let mut domains = Vec::new();
    if has(Permit::LocalSockets) {
        domains.push(libc::AF_UNIX as u64);
    }
    if has(Permit::Network) {
        domains.extend([libc::AF_INET as u64, libc::AF_INET6 as u64, libc::AF_NETLINK as u64]);
    } else {
        all(&mut rules, calls::SERVERS);
    }
    if domains.is_empty() {
        all(&mut rules, &[libc::SYS_socket, libc::SYS_connect]);
    } else {
        rules.insert(libc::SYS_socket, other_than(0, &domains)?);
    }
    if !has(Permit::RealTime) {
        all(&mut rules, calls::REAL_TIME);
        // Without new limits it only asks for the present ones.
        let sets = condition(2, Len::Qword, Op::Ne, 0)?;
        rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![sets])?]);
    }
    if !has(Permit::Devices) {
        rules.insert(libc::SYS_ioctl, other_than(1, &IOCTL)?);
    }
    if !has(Permit::ExecutableMemory) {
        let both = libc::PROT_WRITE | libc::PROT_EXEC;
        rules.insert(libc::SYS_mmap, bits(2, both, both)?);
        for call in [libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
            rules.insert(call, bits(2, libc::PROT_EXEC, libc::PROT_EXEC)?);
        }
    }
    Ok(rules)
}

/// Everything that is not ENOSYS; what the other filters answer is in it.
fn known() -> Rules {
    let lists: [&[i64]; 9] = [
        calls::DAILY,
        calls::LEGACY,
        calls::ARGUMENTS,
        calls::REFUSED,
        calls::LEGACY_REFUSED,
        calls::DEADLY,
        calls::PROCESSES,
        calls::SERVERS,
        calls::REAL_TIME,
    ];
    lists.into_iter().flatten().map(|n| (*n, vec![])).collect()
}

fn compiled(rules: Rules, otherwise: SeccompAction, action: SeccompAction) -> io::Result<BpfProgram> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, otherwise, action, architecture).map_err(io::Error::other)?;
    BpfProgram::try_from(filter).map_err(io::Error::other)
}

/// Restrict every thread of the process, and those to come, to what `permits` and the lists say. For ever.
///
/// Needs [`super::privileges::no_new_privileges`] before. A call that is refused or deadly is told to the kernel's log.
pub fn restrict(permits: &[Permit]) -> io::Result<()> {
    let deadly = calls::DEADLY.iter().map(|n| (*n, vec![])).collect();
    let refused = refused(permits).map_err(io::Error::other)?;
    let allow = SeccompAction::Allow;
    let mut filters = vec![
        (compiled(deadly, allow.clone(), SeccompAction::KillProcess)?, true),
        (compiled(refused, allow.clone(), SeccompAction::Errno(libc::EPERM as u32))?, true),
    ];
    if !permits.contains(&Permit::Processes) {
        // Nobody knows what other programs call. Quiet: the C library tries clone3 at every thread.
        filters.push((compiled(known(), SeccompAction::Errno(libc::ENOSYS as u32), allow)?, false));
    }
    filters.iter().try_for_each(|(filter, log)| install(filter, *log))
}

fn install(filter: &BpfProgram, log: bool) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut().cast() };
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | if log { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 };
    // SAFETY: `program` names a live BPF program of that length (seccompiler's type has the kernel's layout), only read.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match result {
        0 => Ok(()),
        thread if thread > 0 => Err(io::Error::other(format!("thread {thread} has a filter of its own"))),
        _ => Err(io::Error::last_os_error()),
    }
}
