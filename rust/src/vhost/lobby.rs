//! Who is served next. Connections that have said nothing wait here, so that none of them can keep out one that speaks.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

/// Silent connections kept; beyond it the oldest is dropped.
const SILENT_MAX: usize = 128;
/// A front end sends a message in one piece: one that stops in the middle has this long, if nobody else waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same if somebody does.
const PATIENCE_WHEN_WANTED: Duration = Duration::from_millis(50);
/// How often half a message, or a lack of descriptors, is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Header of a vhost-user message: request, flags, size; 32 bits each.
const HEADER: usize = 12;
/// A larger message is none: the handler says so.
const MESSAGE_MAX: usize = 0x1000;

/// What a connection has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// A whole message; `wants_reply`: it asks for an acknowledgement (NEED_REPLY).
    Message { wants_reply: bool },
    /// The beginning of one.
    Part,
    /// Nothing yet.
    Nothing,
    /// Nothing more, ever.
    End,
}

/// Poll descriptors for input. `timeout` None: for ever.
fn poll(fds: &mut [libc::pollfd], timeout: Option<Duration>) {
    let ms = timeout.map_or(-1, |t| t.as_millis().min(i32::MAX as u128) as i32);
    // SAFETY: a live slice of initialised pollfds.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, ms) };
}

fn input(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// Look without taking anything.
pub fn listen_to(stream: &UnixStream) -> Said {
    match peek(stream) {
        // The rest will never come.
        Said::Part if is_gone(stream) => match peek(stream) {
            // It came in between.
            whole @ Said::Message { .. } => whole,
            _ => Said::End,
        },
        said => said,
    }
}

/// The other side has closed, or will send nothing more.
pub(super) fn is_gone(stream: &UnixStream) -> bool {
    let mut p = [libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 }];
    poll(&mut p, Some(Duration::ZERO));
    p[0].revents != 0
}

fn peek(stream: &UnixStream) -> Said {
    let (fd, mut waiting) = (stream.as_raw_fd(), 0);
    let mut header = [0u8; HEADER];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: an open socket; `header` and `waiting` are live and of the sizes that the calls write.
    let (n, counted) = unsafe {
        let n = libc::recv(fd, header.as_mut_ptr().cast(), HEADER, flags);
        (n, libc::ioctl(fd, libc::FIONREAD, &raw mut waiting) == 0)
    };
    match n {
        0 => Said::End,
        n if n < 0 && std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock => Said::Nothing,
        n if n < 0 || !counted => Said::End,
        n if (n as usize) < HEADER => Said::Part,
        _ => {
            let word = |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
            let size = word(8) as usize;
            if size <= MESSAGE_MAX && (waiting as usize) < HEADER + size {
                return Said::Part;
            }
            Said::Message { wants_reply: word(4) & 1 << 3 != 0 }
        }
    }
}

/// Wait until a connection has said a whole message: Some(wants a reply). None: it ended, or we are told to stop. Otherwise the
/// reason to drop it: it stopped in the middle of a message, or cut the memory short that it shares (`alarm`).
pub fn next_message(
    stream: &UnixStream,
    listener: Option<&UnixListener>,
    stop: &EventFd,
    alarm: &EventFd,
) -> Result<Option<bool>, &'static str> {
    let mut part_since = None;
    loop {
        let mut fds = [input(stop.as_raw_fd()), input(alarm.as_raw_fd()), input(stream.as_raw_fd())];
        match part_since {
            None => poll(&mut fds, None),
            // Readable all the time: only the stop event may wake us.
            Some(_) => poll(&mut fds[..2], Some(LOOK)),
        }
        if fds[0].revents != 0 {
            return Ok(None);
        }
        if fds[1].revents != 0 {
            return Err("it cut the guest's memory short");
        }
        match listen_to(stream) {
            Said::Message { wants_reply } => return Ok(Some(wants_reply)),
            Said::End => return Ok(None),
            Said::Nothing => part_since = None,
            Said::Part => {
                let since: Instant = *part_since.get_or_insert_with(Instant::now);
                let mut others = [input(listener.map_or(-1, AsRawFd::as_raw_fd))];
                poll(&mut others, Some(Duration::ZERO));
                let patience = if others[0].revents != 0 { PATIENCE_WHEN_WANTED } else { PATIENCE };
                if since.elapsed() > patience {
                    return Err("it stopped in the middle of a message");
                }
            }
        }
    }
}

/// Wait until there is room for a reply of any size. False: there is none for so long, or we are told to stop.
pub fn takes_replies(stream: &UnixStream, stop: &EventFd, limit: Duration) -> bool {
    let output = libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    let mut fds = [input(stop.as_raw_fd()), output];
    poll(&mut fds, Some(limit));
    // A Unix socket is writable while three quarters of its buffer are free: fifty kilobytes and more.
    fds[1].revents != 0
}

struct Waiting {
    stream: UnixStream,
    /// It began a message.
    half_since: Option<Instant>,
}

/// The connections that have said nothing yet, or not all of it.
#[derive(Default)]
pub struct Lobby {
    silent: VecDeque<Waiting>,
}

impl Lobby {
    /// Accept until a connection has said a whole message, and return it. None: told to stop.
    pub fn next(&mut self, listener: &UnixListener, stop: &EventFd) -> Option<UnixStream> {
        loop {
            let mut fds = vec![input(stop.as_raw_fd()), input(listener.as_raw_fd())];
            fds.extend(self.silent.iter().map(|w| input(w.stream.as_raw_fd())));
            // Whoever has said half a message is readable all the time.
            let halves = self.silent.iter().any(|w| w.half_since.is_some());
            let watched = if halves { 2 } else { fds.len() };
            poll(&mut fds[..watched], halves.then_some(LOOK));
            if fds[0].revents != 0 {
                return None;
            }
            if fds[1].revents != 0 {
                self.accept(listener);
            }
            if let Some(speaker) = self.speaker() {
                return Some(speaker);
            }
        }
    }

    /// Take in who waits at the door.
    fn accept(&mut self, listener: &UnixListener) {
        for _ in 0..SILENT_MAX {
            match listener.accept() {
                Ok((stream, _)) => {
                    self.silent.push_back(Waiting { stream, half_since: None });
                    if self.silent.len() > SILENT_MAX {
                        self.silent.pop_front();
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    // Out of descriptors: those who say nothing make room.
                    if self.silent.pop_front().is_none() {
                        std::thread::sleep(LOOK);
                    }
                    return;
                }
            }
        }
    }

    /// The first that has said a whole message. Who has gone, or stopped in the middle, is forgotten.
    fn speaker(&mut self) -> Option<UnixStream> {
        let mut i = 0;
        while let Some(w) = self.silent.get_mut(i) {
            let keep = match listen_to(&w.stream) {
                Said::Message { .. } => return self.silent.remove(i).map(|w| w.stream),
                Said::Nothing => true,
                Said::Part => w.half_since.get_or_insert_with(Instant::now).elapsed() < PATIENCE,
                Said::End => false,
            };
            if keep {
                i += 1;
            } else {
                self.silent.remove(i);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn said(bytes: &[u8]) -> Said {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(bytes).unwrap();
        listen_to(&ours)
    }

    fn message(flags: u32, size: u32, body: usize) -> Vec<u8> {
        let mut m: Vec<u8> = [1, flags, size].iter().flat_map(|w: &u32| w.to_le_bytes()).collect();
        m.resize(HEADER + body, 0);
        m
    }

    #[test]
    fn a_message_is_one_when_all_of_it_is_there() {
        assert_eq!(said(b""), Said::Nothing);
        assert_eq!(said(&message(1, 8, 8)[..11]), Said::Part);
        assert_eq!(said(&message(1, 8, 7)), Said::Part);
        assert_eq!(said(&message(1, 8, 8)), Said::Message { wants_reply: false });
        assert_eq!(said(&message(9, 0, 0)), Said::Message { wants_reply: true });
        assert_eq!(said(&message(1, u32::MAX, 0)), Said::Message { wants_reply: false });
    }

    #[test]
    fn the_end_is_told_only_after_what_was_said() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&message(1, 0, 0)).unwrap();
        drop(theirs);
        assert_eq!(listen_to(&ours), Said::Message { wants_reply: false });
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(listen_to(&ours), Said::End);
    }

    #[test]
    fn half_a_message_of_one_who_is_gone_is_the_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&message(1, 8, 7)).unwrap();
        assert_eq!(listen_to(&ours), Said::Part);
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(listen_to(&ours), Said::End);
    }
}
