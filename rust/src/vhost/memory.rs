//! The map from the front end's addresses to guest-physical ones, and the regions behind it.

use std::fs::File;
use std::sync::Arc;

use vhost::vhost_user::message::{VhostUserMemoryRegion, VhostUserSingleMemoryRegion};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionCollection, GuestRegionMmap, MmapRegion,
};

use vmm_sys_util::eventfd::EventFd;

use super::Mem;
use super::sigbus::Watch;
use crate::error::{Error, Result};

/// As many as the largest front end asks for (QEMU with 509 slots).
pub const MAX_SLOTS: u64 = 509;

/// One region as the front end names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Guest-physical address.
    pub guest: u64,
    /// Bytes.
    pub size: u64,
    /// The same memory's address in the front end, which ring addresses are given in.
    pub user: u64,
    /// Offset in the file.
    pub offset: u64,
}

impl From<&VhostUserMemoryRegion> for Slot {
    fn from(r: &VhostUserMemoryRegion) -> Self {
        Slot { guest: r.guest_phys_addr, size: r.memory_size, user: r.user_addr, offset: r.mmap_offset }
    }
}

impl From<&VhostUserSingleMemoryRegion> for Slot {
    fn from(r: &VhostUserSingleMemoryRegion) -> Self {
        Slot { guest: r.guest_phys_addr, size: r.memory_size, user: r.user_addr, offset: r.mmap_offset }
    }
}

/// What the front end shares now: slots beside the mapped regions, in the same order of guest addresses.
#[derive(Default)]
pub struct MemoryMap {
    slots: Vec<Slot>,
    regions: Vec<Region>,
    /// Not in the map any more, but perhaps in use until the new one is in place.
    retired: Vec<Region>,
}

#[derive(Clone)]
struct Region {
    /// Before the mapping that it watches.
    _watch: Arc<Watch>,
    mapping: Arc<GuestRegionMmap>,
}

fn map(slot: &Slot, file: File, alarm: &EventFd) -> Result<Region> {
    let size = usize::try_from(slot.size).ok().filter(|&n| n > 0);
    let size = size.ok_or_else(|| Error::Invalid("a memory region of no size".into()))?;
    // A file shorter than the region would kill us by SIGBUS at the first access.
    let end = slot.offset.checked_add(slot.size);
    if end.is_none_or(|end| file.metadata().is_ok_and(|m| m.is_file() && m.len() < end)) {
        return Err(Error::Invalid(format!(
            "the file of the memory region at {:#x} is shorter than the region",
            slot.guest
        )));
    }
    let mapping = MmapRegion::from_file(FileOffset::new(file, slot.offset), size)
        .map_err(|e| Error::Invalid(format!("cannot map guest memory: {e}")))?;
    let watch = Arc::new(Watch::new(mapping.as_ptr(), size, alarm));
    let mapping = GuestRegionMmap::new(mapping, GuestAddress(slot.guest))
        .ok_or_else(|| Error::Invalid("a memory region beyond the address space".into()))?;
    Ok(Region { _watch: watch, mapping: Arc::new(mapping) })
}

impl MemoryMap {
    /// A whole new map (SET_MEM_TABLE). `alarm` is told of memory that is cut short. Call `settle` when it is in place.
    pub fn replace(&mut self, slots: Vec<Slot>, files: Vec<File>, alarm: &EventFd) -> Result<Mem> {
        let mut new = MemoryMap::default();
        for (slot, file) in slots.into_iter().zip(files) {
            new.insert(slot, map(&slot, file, alarm)?);
        }
        let mem = new.build()?;
        new.retired = std::mem::take(&mut self.regions);
        *self = new;
        Ok(mem)
    }

    /// What `replace` or `remove` returned is in place, and nobody uses the map before.
    pub fn settle(&mut self) {
        self.retired.clear();
    }

    /// One more region (ADD_MEM_REG).
    pub fn add(&mut self, slot: Slot, file: File, alarm: &EventFd) -> Result<Mem> {
        if self.slots.len() as u64 >= MAX_SLOTS {
            return Err(Error::Invalid(format!("more than {MAX_SLOTS} memory regions")));
        }
        let mut new = MemoryMap { slots: self.slots.clone(), regions: self.regions.clone(), retired: Vec::new() };
        new.insert(slot, map(&slot, file, alarm)?);
        let mem = new.build()?;
        *self = new;
        Ok(mem)
    }

    /// One region less (REM_MEM_REG). The specification compares addresses and size, not the offset.
    pub fn remove(&mut self, slot: &Slot) -> Result<Mem> {
        let same = |s: &Slot| s.guest == slot.guest && s.size == slot.size && s.user == slot.user;
        let i = self.slots.iter().position(same);
        let i = i.ok_or_else(|| Error::Invalid("removal of a memory region that is not there".into()))?;
        self.slots.remove(i);
        self.retired.push(self.regions.remove(i));
        self.build()
    }

    fn insert(&mut self, slot: Slot, region: Region) {
        let i = self.slots.partition_point(|s| s.guest < slot.guest);
        self.slots.insert(i, slot);
        self.regions.insert(i, region);
    }

    fn build(&self) -> Result<Mem> {
        if self.regions.is_empty() {
            return Ok(Mem::new());
        }
        GuestRegionCollection::from_arc_regions(self.regions.iter().map(|r| r.mapping.clone()).collect())
            .map_err(|e| Error::Invalid(format!("the guest's memory regions are impossible: {e}")))
    }

    /// The guest-physical address of one of the front end's.
    pub fn guest_address(&self, user: u64) -> Option<u64> {
        self.slots
            .iter()
            .find(|s| user.checked_sub(s.user).is_some_and(|off| off < s.size))
            .map(|s| user - s.user + s.guest)
    }
}

/// (address, size) of each region.
pub fn regions(mem: &Mem) -> Vec<(u64, u64)> {
    mem.iter().map(|r| (r.start_addr().0, r.len())).collect()
}
