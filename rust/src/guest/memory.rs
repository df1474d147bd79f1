//! Guest memory: memfd regions at guest-physical addresses, and an allocator for buffers in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use vm_memory::{
    AtomicAccess, Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
};

use super::error::{GuestError, Result};

/// One memory region as the front end describes it to the device.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Guest-physical address.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// Where it is mapped in this process, for the addresses of rings (SET_VRING_ADDR).
    pub user_addr: u64,
    /// The memfd, mapped from offset 0.
    pub fd: RawFd,
}

/// The guest's RAM. All regions are mapped here from the start; which of them the device is told of is the front end's matter.
pub struct GuestRam {
    mem: GuestMemoryMmap<()>,
    regions: Vec<Region>,
    files: Vec<File>,
    // address -> length of what is free
    free: Mutex<BTreeMap<u64, u64>>,
    // the regions that rings and buffers are put into; ANYWHERE: the lowest, the highest free place
    rings_in: AtomicUsize,
    buffers_in: AtomicUsize,
}

const ANYWHERE: usize = usize::MAX;

impl GuestRam {
    /// Regions of `(guest-physical address, bytes)`, ascending, not overlapping, whole pages.
    pub fn new(ranges: &[(u64, u64)]) -> Result<Self> {
        let mut files = Vec::new();
        let mut maps = Vec::new();
        for &(addr, size) in ranges {
            // SAFETY: the name is a C string; the new descriptor is owned by nobody else.
            let file = unsafe {
                let fd = libc::memfd_create(c"vsnd-guest".as_ptr(), libc::MFD_CLOEXEC);
                if fd < 0 {
                    return Err(GuestError::system("memfd_create")(std::io::Error::last_os_error()));
                }
                File::from_raw_fd(fd)
            };
            file.set_len(size).map_err(GuestError::system("memfd"))?;
            let second = file.try_clone().map_err(GuestError::system("memfd"))?;
            maps.push((GuestAddress(addr), size as usize, Some(FileOffset::new(second, 0))));
            files.push(file);
        }
        let mem = GuestMemoryMmap::from_ranges_with_files(maps)
            .map_err(|e| GuestError::Invalid(format!("memory regions: {e}")))?;
        let mut regions = Vec::new();
        for (region, file) in mem.iter().zip(&files) {
            let user = mem.get_host_address(region.start_addr()).map_err(|_| GuestError::NoMemory(region.len()))?;
            regions.push(Region {
                addr: region.start_addr().0,
                size: region.len(),
                user_addr: user as u64,
                fd: file.as_raw_fd(),
            });
        }
        let anywhere = || AtomicUsize::new(ANYWHERE);
        let (rings_in, buffers_in) = (anywhere(), anywhere());
        let ram = GuestRam { mem, regions, files, free: Mutex::default(), rings_in, buffers_in };
        ram.free_all();
        Ok(ram)
    }

    /// Put what is allocated for rings from now on into one region; None: anywhere.
    pub fn place_rings(&self, region: Option<usize>) {
        self.rings_in.store(region.unwrap_or(ANYWHERE), Ordering::Relaxed);
    }

    /// Put buffers that are allocated from now on into one region; None: anywhere.
    pub fn place_buffers(&self, region: Option<usize>) {
        self.buffers_in.store(region.unwrap_or(ANYWHERE), Ordering::Relaxed);
    }

    /// The regions, ascending.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The memfd of a region, for those who want to truncate it under the device.
    pub fn file(&self, region: usize) -> &File {
        &self.files[region]
    }

    /// The address in this process of a guest-physical one; 0 if it is in no region.
    pub fn user_addr(&self, addr: u64) -> u64 {
        let of = |r: &&Region| (r.addr..r.addr + r.size).contains(&addr);
        self.regions.iter().find(of).map_or(0, |r| r.user_addr + (addr - r.addr))
    }

    fn ranges(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.free.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Take `len` bytes, aligned to `align` (a power of two). Rings take the lowest free place, buffers the highest: with
    /// several regions they come to lie in different ones.
    fn take(&self, len: u64, align: u64, high: bool) -> Result<u64> {
        let len = len.max(1).next_multiple_of(16);
        let align = align.max(16);
        let mut free = self.ranges();
        let place = if high { &self.buffers_in } else { &self.rings_in }.load(Ordering::Relaxed);
        let allowed = match self.regions.get(place) {
            Some(r) => r.addr..r.addr + r.size,
            None => 0..u64::MAX,
        };
        let fit = |(&start, &room): (&u64, &u64)| {
            // A free range never crosses a region's border.
            if !allowed.contains(&start) {
                return None;
            }
            let last = (start + room).checked_sub(len)?;
            let at = if high { last / align * align } else { start.next_multiple_of(align) };
            (at >= start && at <= last).then_some((start, room, at))
        };
        let found = if high { free.iter().rev().find_map(fit) } else { free.iter().find_map(fit) };
        let (start, room, at) = found.ok_or(GuestError::NoMemory(len))?;
        free.remove(&start);
        if at > start {
            free.insert(start, at - start);
        }
        if start + room > at + len {
            free.insert(at + len, start + room - at - len);
        }
        Ok(at)
    }

    /// Allocate a buffer: `len` bytes, aligned to `align` (a power of two).
    pub fn alloc(&self, len: u64, align: u64) -> Result<u64> {
        self.take(len, align, true)
    }

    /// Allocate for a ring.
    pub fn alloc_ring(&self, len: u64, align: u64) -> Result<u64> {
        self.take(len, align, false)
    }

    /// Give back what `alloc` took, with the same `len`.
    pub fn free(&self, addr: u64, len: u64) {
        let (mut addr, mut len) = (addr, len.max(1).next_multiple_of(16));
        let mut free = self.ranges();
        // Regions may touch each other: a range never grows over a border.
        let border = |at: u64| self.regions.iter().any(|r| r.addr == at);
        if let Some((&before, &room)) = free.range(..addr).next_back()
            && before + room == addr
            && !border(addr)
        {
            free.remove(&before);
            (addr, len) = (before, room + len);
        }
        if !border(addr + len)
            && let Some(room) = free.remove(&(addr + len))
        {
            len += room;
        }
        free.insert(addr, len);
    }

    /// Forget every allocation (the guest was reset).
    pub fn free_all(&self) {
        *self.ranges() = self.regions.iter().map(|r| (r.addr, r.size)).collect();
    }

    /// Set all of the memory to zero, as a reset machine's driver finds its rings.
    pub fn zero(&self) -> Result<()> {
        for (r, file) in self.regions.iter().zip(&self.files) {
            let how = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            // SAFETY: a call on a descriptor that we own; the mappings stay and read as zero.
            if unsafe { libc::fallocate(file.as_raw_fd(), how, 0, r.size as i64) } < 0 {
                return Err(GuestError::system("fallocate")(std::io::Error::last_os_error()));
            }
        }
        Ok(())
    }

    /// Copy into guest memory.
    pub fn write(&self, addr: u64, data: &[u8]) -> Result<()> {
        let bad = |_| GuestError::BadAddress { addr, len: data.len() as u64 };
        self.mem.write_slice(data, GuestAddress(addr)).map_err(bad)
    }

    /// Copy out of guest memory.
    pub fn read_into(&self, addr: u64, data: &mut [u8]) -> Result<()> {
        let len = data.len() as u64;
        self.mem.read_slice(data, GuestAddress(addr)).map_err(|_| GuestError::BadAddress { addr, len })
    }

    /// A copy of `len` bytes.
    pub fn read(&self, addr: u64, len: usize) -> Result<Vec<u8>> {
        if !self.mem.check_range(GuestAddress(addr), len) {
            return Err(GuestError::BadAddress { addr, len: len as u64 });
        }
        let mut data = vec![0; len];
        self.read_into(addr, &mut data)?;
        Ok(data)
    }

    /// Load one aligned little-endian field of a ring (Acquire).
    pub(crate) fn load<T: AtomicAccess + Default>(&self, addr: u64) -> T {
        // Rings were allocated here: the address is in memory and aligned.
        self.mem.load(GuestAddress(addr), Ordering::Acquire).unwrap_or_default()
    }

    /// Store one aligned little-endian field of a ring (Release).
    pub(crate) fn store<T: AtomicAccess>(&self, addr: u64, value: T) {
        // As for `load`, this cannot fail.
        let _ = self.mem.store(value, GuestAddress(addr), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_do_not_overlap_and_come_back() {
        let ram = GuestRam::new(&[(0, 1 << 16), (1 << 32, 1 << 16)]).expect("memory");
        let ring = ram.alloc_ring(100, 4096).expect("ring");
        let a = ram.alloc(5000, 4096).expect("a");
        let b = ram.alloc(5000, 4096).expect("b");
        assert_eq!(ring, 0);
        assert!(a >= 1 << 32 && b >= 1 << 32 && a.abs_diff(b) >= 5000 && a.is_multiple_of(4096));
        ram.free(a, 5000);
        ram.free(b, 5000);
        ram.free(ring, 100);
        assert_eq!(*ram.ranges(), BTreeMap::from([(0, 1 << 16), (1 << 32, 1 << 16)]));
        assert!(matches!(ram.alloc(1 << 17, 16), Err(GuestError::NoMemory(_))));
    }

    #[test]
    fn memory_outside_of_the_regions_is_refused() {
        let ram = GuestRam::new(&[(0x1000, 0x1000)]).expect("memory");
        ram.write(0x1ffc, b"abcd").expect("inside");
        assert_eq!(ram.read(0x1ffc, 4).expect("inside"), b"abcd");
        assert!(ram.write(0x1ffd, b"abcd").is_err());
        assert!(ram.read(0, 1).is_err());
        assert!(ram.read(0x1000, usize::MAX).is_err());
        assert_eq!(ram.user_addr(0x1004), ram.regions()[0].user_addr + 4);
        assert_eq!(ram.user_addr(0x2000), 0);
    }
}
