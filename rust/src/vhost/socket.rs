//! Where front ends come from: a path that is bound, or a descriptor that was handed over.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket file that we made, to be removed if it is still ours.
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// Remove it, unless somebody has put another in its place.
    pub fn remove(&self) {
        let same = |m: fs::Metadata| (m.dev(), m.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(same) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What a descriptor turned out to be.
pub enum Source {
    Listener(UnixListener),
    Connected(UnixStream),
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Bind; a stale file is replaced, a living server's is not. Until `open_to` nobody but the owner may connect.
fn bind_to(fd: &OwnedFd, path: &Path, mode: u32) -> io::Result<()> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: all-zero is a valid sockaddr_un.
    let mut addr: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    addr.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if bytes.is_empty() || bytes.len() >= addr.sun_path.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in addr.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let try_bind = || {
        let len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        // SAFETY: an open socket; `addr` is initialised and of the length named.
        unsafe {
            // The file gets the socket's own mode, less the umask.
            check(libc::fchmod(fd.as_raw_fd(), mode & 0o600))?;
            check(libc::bind(fd.as_raw_fd(), (&raw const addr).cast(), len))
        }
    };
    let Err(e) = try_bind() else {
        return Ok(());
    };
    if e.raw_os_error() != Some(libc::EADDRINUSE) {
        return Err(e);
    }
    let is_socket = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    let refused = |e: io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
    if !is_socket || !UnixStream::connect(path).is_err_and(refused) {
        return Err(e);
    }
    fs::remove_file(path)?;
    try_bind()
}

/// Give the socket file its group and mode. Returns which file it is.
fn open_to(path: &Path, mode: u32, group: Option<u32>) -> io::Result<(u64, u64)> {
    // By a descriptor: the path could lead to another file at each look.
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let m = file.metadata()?;
    if !m.file_type().is_socket() {
        return Err(io::Error::from_raw_os_error(libc::ENOTSOCK));
    }
    let this = format!("/proc/self/fd/{}", file.as_raw_fd());
    if group.is_some() {
        chown(&this, None, group)?;
    }
    if mode != m.mode() & 0o777 {
        fs::set_permissions(&this, fs::Permissions::from_mode(mode))?;
    }
    Ok((m.dev(), m.ino()))
}

/// Make a socket on which front ends wait. Who may connect (`mode`, `group`) is settled before anyone can.
pub fn bind(path: &Path, mode: u32, group: Option<u32>) -> io::Result<(UnixListener, SocketFile)> {
    // SAFETY: plain socket(2); the descriptor is owned from here on.
    let fd = unsafe {
        let fd = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        check(fd)?;
        OwnedFd::from_raw_fd(fd)
    };
    bind_to(&fd, path, mode)?;
    let identity = open_to(path, mode, group).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })?;
    let file = SocketFile { path: std::path::absolute(path)?, identity };
    // SAFETY: an open, bound socket.
    check(unsafe { libc::listen(fd.as_raw_fd(), 128) }).inspect_err(|_| file.remove())?;
    Ok((UnixListener::from(fd), file))
}

/// A descriptor that was handed to us: ask it what it is.
pub fn adopt(fd: RawFd) -> io::Result<Source> {
    let (mut value, mut len) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: `value` and `len` are live; a wrong descriptor gives an error.
    let fd = unsafe {
        let rc = libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, (&raw mut value).cast(), &mut len);
        if rc < 0 {
            return Err(io::Error::last_os_error());
        }
        let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(copy)
    };
    Ok(if value != 0 { Source::Listener(UnixListener::from(fd)) } else { Source::Connected(UnixStream::from(fd)) })
}
