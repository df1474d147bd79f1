//! The driver's side of a split virtqueue (virtio 1.3, 2.7): chains of any shape, kicks and interrupts by the rules, and
//! the raw ring for those who break them.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use smallvec::SmallVec;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::error::{GuestError, Result};
use super::layout::Piece;
use super::memory::GuestRam;
use super::ring::{DESC, Descriptor, INDIRECT, NEXT, Ring, WRITE};

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
    ring: Ring,
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
            let text = format!("queue size {size}: expected a power of two up to 32768");
            return Err(GuestError::Invalid(text));
        }
        Ok(Queue {
            index,
            ring: Ring::new(ram, size)?,
            kick: eventfd()?,
            call: eventfd()?,
            event_idx,
            next_avail: 0,
            published: 0,
            next_used: 0,
            free: (0..size).rev().collect(),
            chains: (0..size).map(|_| None).collect(),
            tables: vec![(0, 0); size.into()],
            kicks: 0,
            signals: 0,
        })
    }

    /// Begin anew in freshly allocated memory, as the driver of a reset machine. Eventfds and counters stay.
    pub fn renew(&mut self) -> Result<()> {
        let size = self.size();
        self.ring = Ring::new(self.ring.ram.clone(), size)?;
        (self.next_avail, self.published, self.next_used) = (0, 0, 0);
        self.free = (0..size).rev().collect();
        self.chains = (0..size).map(|_| None).collect();
        self.tables = vec![(0, 0); size.into()];
        Ok(())
    }

    pub fn index(&self) -> usize {
        self.index
    }

    pub fn size(&self) -> u16 {
        self.ring.size
    }

    pub fn event_idx(&self) -> bool {
        self.event_idx
    }

    /// The ring in memory, for those who read or write it as it is.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Descriptors that are free.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Notifications that were sent.
    pub fn kicks(&self) -> u64 {
        self.kicks
    }

    /// Interrupts that came (each write of the call eventfd counts), as far as somebody waited or looked for them.
    pub fn signals(&self) -> u64 {
        self.signals
    }

    /// Clear the call eventfd. Whoever does must look at the ring: another one's wake-up may be taken away.
    pub(crate) fn take_signals(&mut self) {
        self.signals += self.call.read().unwrap_or(0);
    }

    pub fn kick_fd(&self) -> &EventFd {
        &self.kick
    }

    pub fn call_fd(&self) -> &EventFd {
        &self.call
    }

    /// The call eventfd, kept open for one who waits on it.
    pub(crate) fn call(&self) -> Arc<EventFd> {
        self.call.clone()
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

    fn take(&mut self, n: usize) -> Result<SmallVec<[u16; 4]>> {
        let (free, size) = (self.free.len(), self.size());
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
        let ram = &self.ring.ram;
        let new_at = ram.alloc(DESC * new as u64, 16)?;
        if room > 0 {
            ram.free(at, DESC * room as u64);
        }
        self.tables[usize::from(head)] = (new_at, new);
        Ok(new_at)
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
            self.ring.write_table(at, &links)?;
            let len = (DESC as u32) * links.len() as u32;
            self.ring.write_descriptor(head, Descriptor { addr: at, len, flags: INDIRECT, next: 0 })?;
        } else {
            for (&i, &d) in descriptors.iter().zip(&links) {
                self.ring.write_descriptor(i, d)?;
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
            self.ring.write_descriptor(i, Descriptor { next, ..*d })?;
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
        self.ring.set_available(self.next_avail, head);
        self.next_avail = self.next_avail.wrapping_add(1);
    }

    /// Let the device see what was offered; returns true if it was kicked.
    pub fn publish(&mut self, kick: Kick) -> bool {
        let old = self.published;
        self.ring.set_avail_index(self.next_avail);
        self.published = self.next_avail;
        let wanted = match kick {
            Kick::Never => false,
            Kick::Always => true,
            Kick::Asked => {
                // The index must be seen before what the device wishes is read.
                fence(Ordering::SeqCst);
                if self.event_idx {
                    self.next_avail.wrapping_sub(self.ring.avail_event()).wrapping_sub(1)
                        < self.next_avail.wrapping_sub(old)
                } else {
                    !self.ring.kicks_off()
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
        self.ring.set_avail_index(index);
    }

    /// The available index that the device sees.
    pub fn avail_index(&self) -> u16 {
        self.ring.avail_index()
    }

    /// The used index that the device published.
    pub fn used_index(&self) -> u16 {
        self.ring.used_index()
    }

    /// The used index up to which completions were taken (`reap`).
    pub fn reaped_index(&self) -> u16 {
        self.next_used
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
        let (head, len) = self.ring.used(self.next_used);
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
            self.ring.set_used_event(event);
        } else {
            self.ring.set_interrupts(true);
        }
        fence(Ordering::SeqCst);
    }

    /// Ask for no interrupts while completions are taken; with EVENT_IDX the event that has passed does that.
    pub fn disarm(&mut self) {
        if !self.event_idx {
            self.ring.set_interrupts(false);
        }
    }
}
