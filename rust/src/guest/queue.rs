//! The driver's side of a split virtqueue (virtio 1.3, 2.7): chains of any shape, kicks and interrupts by the rules, and
//! the raw ring for those who break them.

use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::error::{GuestError, Result};
use super::frontend::RingAddr;
use super::memory::GuestRam;
use super::poll::wait_or_hangup;

/// Descriptor flags.
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;
const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;
const DESC: u64 = 16;

/// A part of a chain: memory that the device reads, or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub addr: u64,
    pub len: u32,
    pub writable: bool,
}

/// A descriptor as it stands in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    pub addr: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

/// Whether to notify the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// If the device wants it (EVENT_IDX or the used ring's flags).
    Asked,
    /// Never (a stream with MSG_POLLING).
    Never,
    /// In any case.
    Always,
}

/// An entry of the used ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    pub head: u32,
    pub len: u32,
    /// This head was with the device. If not, the device gave back something that it did not have.
    pub known: bool,
}

struct Chain {
    descriptors: SmallVec<[u16; 4]>,
    // stays allocated when it comes back
    reserved: bool,
    with_device: bool,
}

/// One ring, as its driver sees it.
pub struct Queue {
    index: usize,
    size: u16,
    ram: Arc<GuestRam>,
    desc: u64,
    avail: u64,
    used: u64,
    kick: Arc<EventFd>,
    call: Arc<EventFd>,
    event_idx: bool,
    next_avail: u16,
    published: u16,
    next_used: u16,
    free: Vec<u16>,
    chains: Vec<Option<Chain>>,
    // one indirect table a head, kept: (address, entries)
    tables: Vec<(u64, usize)>,
    kicks: u64,
    signals: u64,
}

fn eventfd() -> Result<Arc<EventFd>> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Arc::new).map_err(GuestError::system("eventfd"))
}

impl Queue {
    /// A ring of `size` entries (a power of two up to 32768) in freshly allocated memory.
    pub fn new(index: usize, size: u16, event_idx: bool, ram: Arc<GuestRam>) -> Result<Self> {
        if !size.is_power_of_two() {
            return Err(GuestError::Invalid(format!("queue size {size}: expected a power of two up to 32768")));
        }
        let (kick, call) = (eventfd()?, eventfd()?);
        let (desc, avail, used) = (0, 0, 0);
        let mut queue = Queue {
            index,
            size,
            ram,
            desc,
            avail,
            used,
            kick,
            call,
            event_idx,
            next_avail: 0,
            published: 0,
            next_used: 0,
            free: Vec::new(),
            chains: Vec::new(),
            tables: Vec::new(),
            kicks: 0,
            signals: 0,
        };
        queue.renew()?;
        Ok(queue)
    }

    /// Begin anew in freshly allocated, zeroed memory, as the driver of a reset machine. Counters stay.
    pub fn renew(&mut self) -> Result<()> {
        let n = u64::from(self.size);
        let parts = [DESC * n, 6 + 2 * n, 6 + 8 * n];
        let mut at = [0; 3];
        for (at, len) in at.iter_mut().zip(parts) {
            *at = self.ram.alloc_ring(len, 4096)?;
            self.ram.write(*at, &vec![0; len as usize])?;
        }
        [self.desc, self.avail, self.used] = at;
        (self.next_avail, self.published, self.next_used) = (0, 0, 0);
        self.free = (0..self.size).rev().collect();
        self.chains = (0..self.size).map(|_| None).collect();
        self.tables = vec![(0, 0); self.size.into()];
        Ok(())
    }

    pub fn index(&self) -> usize {
        self.index
    }

    pub fn size(&self) -> u16 {
        self.size
    }

    pub fn event_idx(&self) -> bool {
        self.event_idx
    }

    /// The parts of the ring as addresses in this process, for SET_VRING_ADDR.
    pub fn ring_addr(&self) -> RingAddr {
        let user = |addr| self.ram.user_addr(addr);
        RingAddr { desc: user(self.desc), used: user(self.used), avail: user(self.avail) }
    }

    /// Guest-physical addresses of descriptor table, available ring and used ring.
    pub fn parts(&self) -> (u64, u64, u64) {
        (self.desc, self.avail, self.used)
    }

    /// Descriptors that are free.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Notifications that were sent.
    pub fn kicks(&self) -> u64 {
        self.kicks
    }

    /// Interrupts that came (each write of the call eventfd counts).
    pub fn signals(&mut self) -> u64 {
        self.take_signals();
        self.signals
    }

    /// Clear the call eventfd.
    pub(crate) fn take_signals(&mut self) {
        self.signals += self.call.read().unwrap_or(0);
    }

    pub fn kick_fd(&self) -> &EventFd {
        &self.kick
    }

    pub fn call_fd(&self) -> &EventFd {
        &self.call
    }

    /// A new kick eventfd; the front end must tell the device.
    pub fn replace_kick(&mut self) -> Result<()> {
        self.kick = eventfd()?;
        Ok(())
    }

    /// A new call eventfd; the front end must tell the device. Returns the old one: write to it when the device has the
    /// new one, so that who waits on it looks at the ring.
    pub fn replace_call(&mut self) -> Result<Arc<EventFd>> {
        self.take_signals();
        Ok(std::mem::replace(&mut self.call, eventfd()?))
    }

    // ------------------------------------------------------------ chains

    /// Write one descriptor of the table, as it is.
    pub fn write_descriptor(&self, i: u16, d: Descriptor) -> Result<()> {
        if i >= self.size {
            return Err(GuestError::Invalid(format!("descriptor {i}: the queue has {}", self.size)));
        }
        self.write_table(self.desc + DESC * u64::from(i), &[d])
    }

    /// Write descriptors somewhere in memory (an indirect table).
    pub fn write_table(&self, at: u64, descriptors: &[Descriptor]) -> Result<()> {
        for (i, d) in descriptors.iter().enumerate() {
            let v =
                u128::from(d.addr) | u128::from(d.len) << 64 | u128::from(d.flags) << 96 | u128::from(d.next) << 112;
            self.ram.write(at + DESC * i as u64, &v.to_le_bytes())?;
        }
        Ok(())
    }

    fn take(&mut self, n: usize) -> Result<SmallVec<[u16; 4]>> {
        let (free, size) = (self.free.len(), self.size);
        if n == 0 {
            return Err(GuestError::Invalid("a chain without descriptors".into()));
        }
        if n > free {
            return Err(GuestError::QueueFull { queue: self.index, wanted: n, free, size });
        }
        Ok((0..n).filter_map(|_| self.free.pop()).collect())
    }

    fn table(&mut self, head: u16, entries: usize) -> Result<u64> {
        let (at, room) = self.tables[usize::from(head)];
        if room >= entries {
            return Ok(at);
        }
        let new = entries.next_power_of_two();
        let at = self.ram.alloc(DESC * new as u64, 16)?;
        if room > 0 {
            self.ram.free(self.tables[usize::from(head)].0, DESC * room as u64);
        }
        self.tables[usize::from(head)] = (at, new);
        Ok(at)
    }

    /// Write a chain without offering it; it stays allocated when it comes back, until `release`.
    pub fn reserve(&mut self, pieces: &[Piece], indirect: bool) -> Result<u16> {
        let descriptors = self.take(if indirect { pieces.len().min(1) } else { pieces.len() })?;
        let head = descriptors[0];
        let links: SmallVec<[Descriptor; 18]> = pieces
            .iter()
            .enumerate()
            .map(|(i, p)| {
                let last = i + 1 == pieces.len();
                let next = if indirect { i as u16 + 1 } else { descriptors.get(i + 1).copied().unwrap_or(0) };
                Descriptor {
                    addr: p.addr,
                    len: p.len,
                    flags: if p.writable { WRITE } else { 0 } | if last { 0 } else { NEXT },
                    next: if last { 0 } else { next },
                }
            })
            .collect();
        if indirect {
            let at = match self.table(head, links.len()) {
                Ok(at) => at,
                Err(e) => {
                    self.free.extend(descriptors);
                    return Err(e);
                }
            };
            self.write_table(at, &links)?;
            let len = (DESC as u32) * links.len() as u32;
            self.write_descriptor(head, Descriptor { addr: at, len, flags: INDIRECT, next: 0 })?;
        } else {
            for (&i, &d) in descriptors.iter().zip(&links) {
                self.write_descriptor(i, d)?;
            }
        }
        self.chains[usize::from(head)] = Some(Chain { descriptors, reserved: true, with_device: false });
        Ok(head)
    }

    /// Free a reserved chain (at once, or when it comes back).
    pub fn release(&mut self, head: u16) {
        if let Some(chain) = self.chains.get_mut(usize::from(head)).and_then(Option::as_mut) {
            chain.reserved = false;
            if !chain.with_device {
                self.drop_chain(head);
            }
        }
    }

    fn drop_chain(&mut self, head: u16) {
        if let Some(chain) = self.chains[usize::from(head)].take() {
            self.free.extend(chain.descriptors.into_iter().rev());
        }
    }

    /// Write a chain and put it into the available ring; not seen by the device before `publish`.
    pub fn push(&mut self, pieces: &[Piece], indirect: bool) -> Result<u16> {
        let head = self.reserve(pieces, indirect)?;
        self.release_later(head);
        self.offer(head);
        Ok(head)
    }

    fn release_later(&mut self, head: u16) {
        if let Some(chain) = &mut self.chains[usize::from(head)] {
            chain.reserved = false;
        }
    }

    /// Write raw descriptors and offer the first. `next` is a position in the list; one beyond its end is written as it is.
    pub fn push_raw(&mut self, raw: &[Descriptor]) -> Result<u16> {
        let descriptors = self.take(raw.len())?;
        for (&i, d) in descriptors.iter().zip(raw) {
            let next = descriptors.get(usize::from(d.next)).copied().unwrap_or(d.next);
            self.write_descriptor(i, Descriptor { next, ..*d })?;
        }
        let head = descriptors[0];
        self.chains[usize::from(head)] = Some(Chain { descriptors, reserved: false, with_device: false });
        self.offer(head);
        Ok(head)
    }

    /// Put any head into the available ring.
    pub fn offer(&mut self, head: u16) {
        if let Some(chain) = self.chains.get_mut(usize::from(head)).and_then(Option::as_mut) {
            chain.with_device = true;
        }
        self.ram.store(self.avail + 4 + 2 * u64::from(self.next_avail % self.size), head.to_le());
        self.next_avail = self.next_avail.wrapping_add(1);
    }

    /// Let the device see what was offered; returns true if it was kicked.
    pub fn publish(&mut self, kick: Kick) -> bool {
        let old = self.published;
        self.ram.store(self.avail + 2, self.next_avail.to_le());
        self.published = self.next_avail;
        let wanted = match kick {
            Kick::Never => false,
            Kick::Always => true,
            Kick::Asked => {
                // The index must be seen before what the device wishes is read.
                fence(Ordering::SeqCst);
                if self.event_idx {
                    self.next_avail.wrapping_sub(self.avail_event()).wrapping_sub(1) < self.next_avail.wrapping_sub(old)
                } else {
                    !self.kicks_off()
                }
            }
        };
        if wanted {
            self.kick();
        }
        wanted
    }

    /// Notify the device.
    pub fn kick(&mut self) {
        // Only a counter at its limit could refuse: then a notification is pending anyway.
        let _ = self.kick.write(1);
        self.kicks += 1;
    }

    /// Publish any available index, also one that jumps; the driver goes on from there.
    pub fn set_avail_index(&mut self, index: u16) {
        (self.next_avail, self.published) = (index, index);
        self.ram.store(self.avail + 2, index.to_le());
    }

    /// The available index that the device sees.
    pub fn avail_index(&self) -> u16 {
        u16::from_le(self.ram.load(self.avail + 2))
    }

    /// The used index that the device published.
    pub fn used_index(&self) -> u16 {
        u16::from_le(self.ram.load(self.used + 2))
    }

    /// The used index up to which completions were taken (`reap`).
    pub fn reaped_index(&self) -> u16 {
        self.next_used
    }

    /// The available index at which the device wants to be kicked (EVENT_IDX).
    pub fn avail_event(&self) -> u16 {
        u16::from_le(self.ram.load(self.used + 4 + 8 * u64::from(self.size)))
    }

    /// The device asks not to be kicked by the used ring's flags.
    pub fn kicks_off(&self) -> bool {
        u16::from_le(self.ram.load(self.used)) & NO_NOTIFY != 0
    }

    /// Completions not yet taken.
    pub fn pending(&self) -> u16 {
        self.used_index().wrapping_sub(self.next_used)
    }

    /// Take the oldest completion.
    pub fn reap(&mut self) -> Option<Used> {
        if self.pending() == 0 {
            return None;
        }
        let at = self.used + 4 + 8 * u64::from(self.next_used % self.size);
        let head = u32::from_le(self.ram.load(at));
        let len = u32::from_le(self.ram.load(at + 4));
        self.next_used = self.next_used.wrapping_add(1);
        let chain = self.chains.get_mut(head as usize).and_then(Option::as_mut);
        let (known, drop) = match chain {
            Some(c) => (std::mem::take(&mut c.with_device), !c.reserved),
            None => (false, false),
        };
        if known && drop {
            self.drop_chain(head as u16);
        }
        Some(Used { head, len, known })
    }

    /// Ask for an interrupt when `n` more chains have been used. Look at `pending` again afterwards.
    pub fn arm(&mut self, n: u16) {
        if self.event_idx {
            let event = self.next_used.wrapping_add(n.max(1) - 1);
            self.ram.store(self.avail + 4 + 2 * u64::from(self.size), event.to_le());
        } else {
            self.ram.store(self.avail, 0u16);
        }
        fence(Ordering::SeqCst);
    }

    /// Ask for no interrupts while completions are taken; with EVENT_IDX the event that has passed does that.
    pub fn disarm(&mut self) {
        if !self.event_idx {
            self.ram.store(self.avail, NO_INTERRUPT.to_le());
        }
    }
}

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
        self.lock().call.clone()
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
                q.call.clone()
            };
            let (_, gone) = wait_or_hangup(&[call.as_raw_fd()], self.socket_fd(), end)?;
            let mut q = self.lock();
            q.take_signals();
            if q.pending() >= n {
                return Ok(true);
            }
            if gone {
                return Err(GuestError::Disconnected(format!("while queue {} waited", q.index)));
            }
            if end.is_some_and(|e| Instant::now() >= e) {
                return Ok(false);
            }
        }
    }
}
