//! What is in flight, in memory that outlives us: a device that was killed and started again finds there which chains it had
//! popped and not given back (vhost-user, "Inflight I/O tracking", split virtqueues), and a copy of the device's own state.
//!
//! The area belongs to the front end, which gives it to the next back end without looking into it.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};
use vmm_sys_util::eventfd::EventFd;

use super::ring::MAX_SIZE;
use super::sigbus::Watch;
use crate::error::{Error, Result};

const ALIGN: usize = 64;
const VERSION: u16 = 1;
// struct inflight_region_split: features u64, version u16, desc_num u16, last_batch_head u16, used_idx u16, then the entries.
const AT_VERSION: usize = 8;
const AT_SIZE: usize = 10;
const AT_LAST: usize = 12;
const AT_USED: usize = 14;
const HEADER: usize = 16;
// struct desc_state_split: inflight u8, padding, next u16 at 6, counter u64 at 8.
const ENTRY: usize = 16;
const ENTRY_NEXT: usize = 6;
const ENTRY_COUNTER: usize = 8;
/// Behind the queues: which of two copies of the state counts, their lengths, and they.
const STATE_MAX: usize = 32 << 10;
const STATE: usize = ALIGN + 2 * STATE_MAX;

/// The whole area.
pub struct Area {
    _watch: Watch,
    memory: MmapRegion<()>,
    queues: usize,
    queue_size: u16,
}

fn stride(queue_size: u16) -> usize {
    (HEADER + ENTRY * usize::from(queue_size)).next_multiple_of(ALIGN)
}

/// Bytes of an area.
pub fn size(queues: usize, queue_size: u16) -> usize {
    queues * stride(queue_size) + STATE
}

/// A new, empty area.
pub fn create(queues: usize, queue_size: u16) -> Result<File> {
    // SAFETY: a fresh descriptor, owned from here on.
    let file = unsafe {
        let fd = libc::memfd_create(c"vsnd-inflight".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        File::from_raw_fd(fd)
    };
    file.set_len(size(queues, queue_size) as u64)?;
    Ok(file)
}

impl Area {
    /// Map an area that `create` made, in this process or an earlier one.
    pub fn open(
        file: File,
        offset: u64,
        len: u64,
        queues: usize,
        queue_size: u16,
        alarm: &EventFd,
    ) -> Result<Arc<Area>> {
        let want = size(queues, queue_size);
        let short = file.metadata().is_ok_and(|m| m.len() < offset.saturating_add(len));
        if len < want as u64 || short || !queue_size.is_power_of_two() || queue_size > MAX_SIZE {
            return Err(Error::Invalid(format!(
                "an in-flight area of {len} bytes for {queues} queues of {queue_size}; expected {want}"
            )));
        }
        let memory = MmapRegion::from_file(FileOffset::new(file, offset), want)
            .map_err(|e| Error::Invalid(format!("cannot map the in-flight area: {e}")))?;
        let _watch = Watch::new(memory.as_ptr(), want, alarm);
        Ok(Arc::new(Area { _watch, memory, queues, queue_size }))
    }

    /// The log of a queue; None if the area has no room for it.
    pub fn log(self: &Arc<Self>, queue: usize, size: u16) -> Option<Log> {
        (queue < self.queues && size <= self.queue_size).then(|| Log {
            area: self.clone(),
            at: queue * stride(self.queue_size),
            size,
            counter: AtomicU64::new(0),
        })
    }

    // Addresses are inside of the mapping by construction, so the accesses cannot fail.
    fn load<T: vm_memory::AtomicAccess + Default>(&self, at: usize) -> T {
        self.memory.as_volatile_slice().load(at, Acquire).unwrap_or_default()
    }

    fn store<T: vm_memory::AtomicAccess>(&self, at: usize, v: T) {
        let _ = self.memory.as_volatile_slice().store(v, at, Release);
    }

    fn state_at(&self) -> usize {
        self.queues * stride(self.queue_size)
    }

    /// Keep the device's state. A reader after a crash finds this or the one before, never half of it. False if it is too long.
    pub fn keep_state(&self, state: &[u8]) -> bool {
        if state.len() > STATE_MAX {
            return false;
        }
        let at = self.state_at();
        let turn = self.load::<u32>(at).wrapping_add(1);
        let slot = turn as usize % 2;
        let _ = self.memory.as_volatile_slice().write_slice(state, at + ALIGN + slot * STATE_MAX);
        self.store(at + 4 + 4 * slot, state.len() as u32);
        fence(Release);
        self.store(at, turn);
        true
    }

    /// The state that was kept; empty if there is none.
    pub fn state(&self) -> Vec<u8> {
        let at = self.state_at();
        let turn = self.load::<u32>(at);
        let slot = turn as usize % 2;
        let len = (self.load::<u32>(at + 4 + 4 * slot) as usize).min(STATE_MAX);
        let mut state = vec![0; if turn == 0 { 0 } else { len }];
        let _ = self.memory.as_volatile_slice().read_slice(&mut state, at + ALIGN + slot * STATE_MAX);
        state
    }
}

impl std::fmt::Debug for Area {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Area({} queues of {})", self.queues, self.queue_size)
    }
}

/// The log of one queue. Its ring's lock is held by whoever calls.
#[derive(Debug)]
pub struct Log {
    area: Arc<Area>,
    at: usize,
    size: u16,
    counter: AtomicU64,
}

impl Log {
    fn entry(&self, head: u16) -> usize {
        self.at + HEADER + ENTRY * usize::from(head % self.size)
    }

    /// A chain was popped.
    pub fn popped(&self, head: u16) {
        let e = self.entry(head);
        self.area.store(e + ENTRY_COUNTER, self.counter.fetch_add(1, Relaxed));
        self.area.store(e, 1u8);
    }

    /// A chain is about to be written to the used ring.
    pub fn completing(&self, head: u16) {
        self.area.store(self.entry(head) + ENTRY_NEXT, self.area.load::<u16>(self.at + AT_LAST));
        self.area.store(self.at + AT_LAST, head);
    }

    /// It was, and the used index is this now.
    pub fn completed(&self, head: u16, used: u16) {
        self.area.store(self.entry(head), 0u8);
        self.area.store(self.at + AT_USED, used);
    }

    /// It is the guest's again.
    pub fn forget(&self, head: u16) {
        self.area.store(self.entry(head), 0u8);
    }

    /// A new driver: nothing is in flight.
    pub fn clear(&self) {
        self.adopt(&[], 0);
    }

    /// An owner goes on with these heads, oldest first: they are what is in flight, whatever stood here.
    pub fn adopt(&self, heads: &[u16], used: u16) {
        heads.iter().for_each(|&head| self.popped(head));
        (0..self.size).filter(|head| !heads.contains(head)).for_each(|head| self.forget(head));
        self.store_header(used);
    }

    fn store_header(&self, used: u16) {
        self.area.store(self.at + AT_USED, used);
        self.area.store(self.at + AT_VERSION, VERSION);
        self.area.store(self.at + AT_SIZE, self.size);
    }

    /// The heads in flight, given the used index that the guest sees.
    pub fn recover(&self, used: u16) -> Vec<u16> {
        if self.area.load::<u16>(self.at + AT_USED) != used {
            // We died between the used ring and the log: the last one was given back.
            self.forget(self.area.load::<u16>(self.at + AT_LAST));
        }
        let mut heads: Vec<(u64, u16)> = (0..self.size)
            .filter(|&h| self.area.load::<u8>(self.entry(h)) != 0)
            .map(|h| (self.area.load(self.entry(h) + ENTRY_COUNTER), h))
            .collect();
        heads.sort_unstable();
        self.counter.store(heads.last().map_or(0, |h| h.0 + 1), Relaxed);
        self.store_header(used);
        heads.into_iter().map(|h| h.1).collect()
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    fn area(file: &File) -> Arc<Area> {
        // The watch needs it as long as the area lives.
        let alarm = Box::leak(Box::new(EventFd::new(EFD_NONBLOCK).unwrap()));
        Area::open(file.try_clone().unwrap(), 0, size(4, 64) as u64, 4, 64, alarm).unwrap()
    }

    #[test]
    fn another_process_finds_what_was_in_flight_in_order() {
        let file = create(4, 64).unwrap();
        let log = area(&file).log(2, 64).unwrap();
        [7, 3, 63, 0].into_iter().for_each(|h| log.popped(h));
        log.completing(3);
        log.completed(3, 1);
        assert_eq!(area(&file).log(2, 64).unwrap().recover(1), [7, 63, 0]);
        assert!(area(&file).log(1, 64).unwrap().recover(0).is_empty());
    }

    #[test]
    fn a_death_between_the_used_ring_and_the_log_gives_nothing_back_twice() {
        let file = create(4, 64).unwrap();
        let log = area(&file).log(0, 64).unwrap();
        [1, 2].into_iter().for_each(|h| log.popped(h));
        log.completing(1);
        assert_eq!(area(&file).log(0, 64).unwrap().recover(1), [2]);
    }

    #[test]
    fn what_an_owner_goes_on_with_is_older_than_what_comes() {
        let file = create(4, 64).unwrap();
        let log = area(&file).log(2, 64).unwrap();
        [5, 9, 1].into_iter().for_each(|h| log.popped(h));
        // The ring stopped and starts again; 9 was forgotten meanwhile.
        let log = area(&file).log(2, 64).unwrap();
        log.adopt(&[5, 1], 40);
        log.popped(0);
        assert_eq!(area(&file).log(2, 64).unwrap().recover(40), [5, 1, 0]);
    }

    #[test]
    fn the_state_that_counts_is_always_whole() {
        let file = create(1, 64).unwrap();
        let area = Area::open(file, 0, size(1, 64) as u64, 1, 64, &EventFd::new(EFD_NONBLOCK).unwrap()).unwrap();
        assert_eq!(area.state(), b"");
        for state in [&b"first"[..], b"second, longer", b"", &[9; STATE_MAX]] {
            assert!(area.keep_state(state));
            assert_eq!(area.state(), state);
        }
        assert!(!area.keep_state(&[0; STATE_MAX + 1]));
        assert_eq!(area.state(), [9; STATE_MAX]);
    }

    #[test]
    fn an_area_of_the_wrong_size_is_refused() {
        let file = create(4, 64).unwrap();
        let alarm = EventFd::new(EFD_NONBLOCK).unwrap();
        let open = |len, queues, queue_size| Area::open(file.try_clone().unwrap(), 0, len, queues, queue_size, &alarm);
        let len = size(4, 64) as u64;
        assert!(open(len - 1, 4, 64).is_err() && open(len, 5, 64).is_err() && open(len, 4, 63).is_err());
        assert!(open(u64::MAX, 4, 64).is_err() && open(len, 4, 64).is_ok());
    }
}
