//! A split ring in guest memory (virtio 1.3, 2.7): its fields, and nothing of who uses which descriptor.
//!
//! Another process reads and writes here: indices are stored with Release after what they publish, and loaded with Acquire.

use std::sync::Arc;

use super::error::{GuestError, Result};
use super::frontend::RingAddr;
use super::memory::GuestRam;

/// Descriptor flags.
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;
/// Bytes of a descriptor.
pub(crate) const DESC: u64 = 16;
/// The flag of either ring: no interrupts, no notifications.
const SUPPRESS: u16 = 1;

/// A descriptor as it stands in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    pub addr: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

/// The three parts of a ring of `size` entries.
#[derive(Clone)]
pub struct Ring {
    pub(crate) ram: Arc<GuestRam>,
    pub(crate) size: u16,
    desc: u64,
    avail: u64,
    used: u64,
}

impl Ring {
    /// A zeroed ring in freshly allocated memory.
    pub fn new(ram: Arc<GuestRam>, size: u16) -> Result<Self> {
        let n = u64::from(size);
        let parts = [DESC * n, 6 + 2 * n, 6 + 8 * n];
        let mut at = [0; 3];
        for (at, len) in at.iter_mut().zip(parts) {
            *at = ram.alloc_ring(len, 4096)?;
            ram.write(*at, &vec![0; len as usize])?;
        }
        let [desc, avail, used] = at;
        Ok(Ring { ram, size, desc, avail, used })
    }

    /// As addresses in this process, for SET_VRING_ADDR.
    pub fn user_addr(&self) -> RingAddr {
        let user = |addr| self.ram.user_addr(addr);
        RingAddr { desc: user(self.desc), used: user(self.used), avail: user(self.avail) }
    }

    /// Guest-physical addresses of descriptor table, available ring and used ring.
    pub fn parts(&self) -> (u64, u64, u64) {
        (self.desc, self.avail, self.used)
    }

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

    fn load(&self, at: u64) -> u16 {
        u16::from_le(self.ram.load(at))
    }

    fn store(&self, at: u64, value: u16) {
        self.ram.store(at, value.to_le());
    }

    /// Write an entry of the available ring; `index` modulo the size.
    pub fn set_available(&self, index: u16, head: u16) {
        self.store(self.avail + 4 + 2 * u64::from(index % self.size), head);
    }

    /// The available index that the device sees.
    pub fn avail_index(&self) -> u16 {
        self.load(self.avail + 2)
    }

    /// Publish an available index.
    pub fn set_avail_index(&self, index: u16) {
        self.store(self.avail + 2, index);
    }

    /// The used index that the device published.
    pub fn used_index(&self) -> u16 {
        self.load(self.used + 2)
    }

    /// Head and length of an entry of the used ring.
    pub fn used(&self, index: u16) -> (u32, u32) {
        let at = self.used + 4 + 8 * u64::from(index % self.size);
        (u32::from_le(self.ram.load(at)), u32::from_le(self.ram.load(at + 4)))
    }

    /// The device asks not to be kicked by the used ring's flags.
    pub fn kicks_off(&self) -> bool {
        self.load(self.used) & SUPPRESS != 0
    }

    /// Ask not to be interrupted, by the available ring's flags.
    pub fn set_interrupts(&self, on: bool) {
        self.store(self.avail, if on { 0 } else { SUPPRESS });
    }

    /// EVENT_IDX: the available index at which the device wants a kick.
    pub fn avail_event(&self) -> u16 {
        self.load(self.used + 4 + 8 * u64::from(self.size))
    }

    /// EVENT_IDX: the used index at which the driver wants an interrupt.
    pub fn set_used_event(&self, index: u16) {
        self.store(self.avail + 4 + 2 * u64::from(self.size), index);
    }
}
