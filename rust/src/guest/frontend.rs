//! The front end's half of the vhost-user protocol: messages over the socket, each reply with a time limit.
//!
//! Written on the socket rather than on vhost's `Frontend`, because that one waits for ever for a reply, refuses what it
//! thinks wrong, and cannot speak for a front end that misbehaves. The numbers are vhost's.

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use vhost::vhost_user::message::{FrontendReq as Req, VhostUserProtocolFeatures};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::error::{GuestError, Result};
use super::memory::Region;
use super::poll::wait_readable;

const VERSION: u32 = 1;
const REPLY: u32 = 4;
const NEED_REPLY: u32 = 8;
const HEADER: usize = 12;
const MAX_BODY: usize = 1 << 16;
/// Bits of the protocol that this side uses of its own accord.
pub const WANTED: u64 = VhostUserProtocolFeatures::MQ.bits()
    | VhostUserProtocolFeatures::CONFIG.bits()
    | VhostUserProtocolFeatures::REPLY_ACK.bits()
    | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS.bits()
    | VhostUserProtocolFeatures::RESET_DEVICE.bits()
    | VhostUserProtocolFeatures::STATUS.bits();

/// A message as it came from the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub code: u32,
    pub flags: u32,
    pub body: Vec<u8>,
}

/// Where the parts of a ring lie, as guest addresses in this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingAddr {
    pub desc: u64,
    pub used: u64,
    pub avail: u64,
}

/// The connection to a device. One thread at a time.
pub struct Frontend {
    sock: UnixStream,
    timeout: Duration,
    protocol: u64,
    need_reply: bool,
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

impl Frontend {
    /// Connect to a path; tries again until somebody listens there or `timeout` is over.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self> {
        let end = Instant::now() + timeout;
        loop {
            match UnixStream::connect(path) {
                Ok(sock) => return Ok(Self::new(sock, timeout)),
                Err(source) if Instant::now() >= end => {
                    return Err(GuestError::Connect { socket: path.display().to_string(), source });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Use a connected socket.
    pub fn from_fd(fd: OwnedFd, timeout: Duration) -> Self {
        Self::new(UnixStream::from(fd), timeout)
    }

    fn new(sock: UnixStream, timeout: Duration) -> Self {
        Frontend { sock, timeout: timeout.max(Duration::from_secs(1)), protocol: 0, need_reply: false }
    }

    /// Protocol features agreed on.
    pub fn protocol_features(&self) -> u64 {
        self.protocol
    }

    /// Ask for an answer to every message (as cloud-hypervisor does), if REPLY_ACK was agreed on.
    pub fn set_need_reply(&mut self, on: bool) {
        self.need_reply = on;
    }

    fn has(&self, bit: VhostUserProtocolFeatures) -> bool {
        self.protocol & bit.bits() != 0
    }

    /// Send any message: `flags` without the version, which is added.
    pub fn send_raw(&self, code: u32, flags: u32, body: &[u8], fds: &[RawFd]) -> Result<()> {
        let head = [code, flags | VERSION, body.len() as u32];
        let mut bytes: Vec<u8> = head.iter().flat_map(|v| v.to_le_bytes()).collect();
        bytes.extend_from_slice(body);
        self.send_bytes(&bytes, fds)
    }

    /// Send bytes that need not be a message.
    pub fn send_bytes(&self, bytes: &[u8], fds: &[RawFd]) -> Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            let fds = if sent == 0 { fds } else { &[] };
            match self.sock.send_with_fds(&[&bytes[sent..]], fds) {
                Ok(n) => sent += n,
                Err(e) if e.errno() == libc::EINTR => (),
                Err(e) => return Err(GuestError::Disconnected(format!("sending: {e}"))),
            }
        }
        Ok(())
    }

    fn read(&self, buf: &mut [u8], end: Instant, what: &str) -> Result<()> {
        let mut got = 0;
        while got < buf.len() {
            if !wait_readable(&[self.sock.as_raw_fd()], Some(end))?[0] {
                return Err(GuestError::Timeout { what: what.into(), seconds: self.timeout.as_secs_f64() });
            }
            match (&self.sock).read(&mut buf[got..]) {
                Ok(0) => return Err(GuestError::Disconnected(format!("in answer to {what}"))),
                Ok(n) => got += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => (),
                Err(e) => {
                    return Err(GuestError::Disconnected(format!("in answer to {what}: {e}")));
                }
            }
        }
        Ok(())
    }

    /// The next message from the device. `what` is named in the error.
    pub fn recv_raw(&self, what: &str) -> Result<Message> {
        let end = Instant::now() + self.timeout;
        let mut head = [0u8; HEADER];
        self.read(&mut head, end, what)?;
        let word = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        let (code, flags, size) = (word(0), word(4), word(8) as usize);
        if size > MAX_BODY {
            return Err(GuestError::Protocol(format!("a message of {size} bytes in answer to {what}")));
        }
        let mut body = vec![0; size];
        self.read(&mut body, end, what)?;
        Ok(Message { code, flags, body })
    }

    /// Send a request that has no reply of its own.
    pub fn send(&self, req: Req, body: &[u8], fds: &[RawFd]) -> Result<()> {
        let ack = self.need_reply && self.has(VhostUserProtocolFeatures::REPLY_ACK);
        self.send_raw(req as u32, if ack { NEED_REPLY } else { 0 }, body, fds)?;
        if ack {
            match self.reply(req)?.as_slice() {
                [0, 0, 0, 0, 0, 0, 0, 0] => (),
                other => {
                    return Err(GuestError::Protocol(format!("the device refused {req:?}: {other:?}")));
                }
            }
        }
        Ok(())
    }

    fn reply(&self, req: Req) -> Result<Vec<u8>> {
        let m = self.recv_raw(&format!("{req:?}"))?;
        if m.code != req as u32 || m.flags & REPLY == 0 {
            let text = format!("message {} with flags {:#x} in answer to {req:?}", m.code, m.flags);
            return Err(GuestError::Protocol(text));
        }
        Ok(m.body)
    }

    /// Send a request and return the body of its reply.
    pub fn call(&self, req: Req, body: &[u8]) -> Result<Vec<u8>> {
        let ack = self.need_reply && self.has(VhostUserProtocolFeatures::REPLY_ACK);
        self.send_raw(req as u32, if ack { NEED_REPLY } else { 0 }, body, &[])?;
        self.reply(req)
    }

    fn get_u64(&self, req: Req) -> Result<u64> {
        let body = self.call(req, &[])?;
        let bytes = body.try_into();
        let bytes = bytes.map_err(|b: Vec<u8>| GuestError::Protocol(format!("{} bytes as {req:?}", b.len())))?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn get_features(&self) -> Result<u64> {
        self.get_u64(Req::GET_FEATURES)
    }

    pub fn set_features(&self, features: u64) -> Result<()> {
        self.send(Req::SET_FEATURES, &words(&[features]), &[])
    }

    pub fn get_protocol_features(&self) -> Result<u64> {
        self.get_u64(Req::GET_PROTOCOL_FEATURES)
    }

    /// Never asks for an acknowledgement: whether there is one is being agreed on just now.
    pub fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        self.send_raw(Req::SET_PROTOCOL_FEATURES as u32, 0, &words(&[features]), &[])?;
        self.protocol = features;
        Ok(())
    }

    pub fn set_owner(&self) -> Result<()> {
        self.send(Req::SET_OWNER, &[], &[])
    }

    pub fn reset_device(&self) -> Result<()> {
        self.send(Req::RESET_DEVICE, &[], &[])
    }

    pub fn get_queue_num(&self) -> Result<u64> {
        self.get_u64(Req::GET_QUEUE_NUM)
    }

    /// Read `len` bytes of the configuration space from `offset` on.
    pub fn get_config(&self, offset: u32, len: u32) -> Result<Vec<u8>> {
        let mut body: Vec<u8> = [offset, len, 0].iter().flat_map(|v| v.to_le_bytes()).collect();
        body.resize(12 + len as usize, 0);
        let reply = self.call(Req::GET_CONFIG, &body)?;
        match reply.get(12..) {
            Some(config) if config.len() == len as usize => Ok(config.to_vec()),
            _ => Err(GuestError::Protocol(format!("GET_CONFIG of {len} bytes answered with {}", reply.len()))),
        }
    }

    pub fn set_config(&self, offset: u32, data: &[u8]) -> Result<()> {
        let mut body: Vec<u8> = [offset, data.len() as u32, 0].iter().flat_map(|v| v.to_le_bytes()).collect();
        body.extend_from_slice(data);
        self.send(Req::SET_CONFIG, &body, &[])
    }

    pub fn set_mem_table(&self, regions: &[Region]) -> Result<()> {
        let mut body = words(&[regions.len() as u64]);
        let mut fds = Vec::new();
        for r in regions {
            body.extend(words(&[r.addr, r.size, r.user_addr, 0]));
            fds.push(r.fd);
        }
        self.send(Req::SET_MEM_TABLE, &body, &fds)
    }

    pub fn get_max_mem_slots(&self) -> Result<u64> {
        self.get_u64(Req::GET_MAX_MEM_SLOTS)
    }

    pub fn add_mem_region(&self, r: &Region) -> Result<()> {
        self.send(Req::ADD_MEM_REG, &words(&[0, r.addr, r.size, r.user_addr, 0]), &[r.fd])
    }

    pub fn remove_mem_region(&self, r: &Region) -> Result<()> {
        self.send(Req::REM_MEM_REG, &words(&[0, r.addr, r.size, r.user_addr, 0]), &[])
    }

    fn vring_state(&self, req: Req, ring: usize, value: u32) -> Result<()> {
        self.send(req, &words(&[ring as u64 | u64::from(value) << 32]), &[])
    }

    pub fn set_vring_num(&self, ring: usize, size: u32) -> Result<()> {
        self.vring_state(Req::SET_VRING_NUM, ring, size)
    }

    pub fn set_vring_base(&self, ring: usize, base: u16) -> Result<()> {
        self.vring_state(Req::SET_VRING_BASE, ring, base.into())
    }

    pub fn set_vring_enable(&self, ring: usize, on: bool) -> Result<()> {
        self.vring_state(Req::SET_VRING_ENABLE, ring, on.into())
    }

    /// Stop a ring; returns the available index at which the device would go on.
    pub fn get_vring_base(&self, ring: usize) -> Result<u16> {
        let body = self.call(Req::GET_VRING_BASE, &words(&[ring as u64]))?;
        match body.as_slice() {
            [a, b, c, d, lo, hi, _, _] if u32::from_le_bytes([*a, *b, *c, *d]) == ring as u32 => {
                Ok(u16::from_le_bytes([*lo, *hi]))
            }
            other => Err(GuestError::Protocol(format!("GET_VRING_BASE of ring {ring} answered with {other:?}"))),
        }
    }

    pub fn set_vring_addr(&self, ring: usize, at: RingAddr) -> Result<()> {
        // index, flags; then descriptors, used, available, log
        self.send(Req::SET_VRING_ADDR, &words(&[ring as u64, at.desc, at.used, at.avail, 0]), &[])
    }

    pub fn set_vring_kick(&self, ring: usize, fd: &EventFd) -> Result<()> {
        self.send(Req::SET_VRING_KICK, &words(&[ring as u64]), &[fd.as_raw_fd()])
    }

    pub fn set_vring_call(&self, ring: usize, fd: &EventFd) -> Result<()> {
        self.send(Req::SET_VRING_CALL, &words(&[ring as u64]), &[fd.as_raw_fd()])
    }

    pub fn set_vring_err(&self, ring: usize, fd: &EventFd) -> Result<()> {
        self.send(Req::SET_VRING_ERR, &words(&[ring as u64]), &[fd.as_raw_fd()])
    }

    /// Cut the connection without a word.
    pub fn kill(&self) {
        // It may be gone already.
        let _ = self.sock.shutdown(std::net::Shutdown::Both);
    }

    /// A message that waits to be read is none of ours unless the device closed the socket.
    pub(crate) fn watch(&self) -> Result<UnixStream> {
        self.sock.try_clone().map_err(GuestError::system("socket"))
    }
}
