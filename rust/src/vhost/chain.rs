//! A chain's descriptors, read from guest memory once, with cursor-free copies.
//!
//! Only guest addresses are kept, never host pointers or a memory guard, so a replaced memory table is honoured
//! and old mappings are not pinned.

use smallvec::SmallVec;
use virtio_queue::DescriptorChain;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use super::{Caller, Mem};

/// A longer chain is malformed.
const MAX_DESCRIPTORS: usize = 1024;
/// Pieces of one direction kept without allocating: a header and 64 KiB of 4-KiB pages.
const INLINE: usize = 18;

/// The driver gave an address outside of its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadAddress;

/// One direction of a chain as (address, length) pairs.
#[derive(Debug, Default, Clone)]
pub struct Segments {
    list: SmallVec<[(u64, u32); INLINE]>,
    len: usize,
}

impl Segments {
    /// Add one piece at the end.
    pub fn push(&mut self, addr: u64, len: u32) {
        if len > 0 {
            self.list.push((addr, len));
            self.len += len as usize;
        }
    }

    fn is_full(&self) -> bool {
        self.list.len() == INLINE
    }

    /// Total bytes. Cannot overflow: `MAX_DESCRIPTORS` pieces of 32 bits.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces.
    pub fn pieces(&self) -> &[(u64, u32)] {
        &self.list
    }

    /// Call `f(address, range of the caller's buffer)` for each piece of `offset..offset + n`.
    fn each(
        &self,
        offset: usize,
        n: usize,
        mut f: impl FnMut(GuestAddress, std::ops::Range<usize>) -> Result<(), BadAddress>,
    ) -> Result<(), BadAddress> {
        let (mut skip, mut done) = (offset, 0);
        for &(addr, len) in &self.list {
            let len = len as usize;
            if skip >= len {
                skip -= len;
                continue;
            }
            let take = (len - skip).min(n - done);
            if take == 0 {
                break;
            }
            let at = addr.checked_add(skip as u64).ok_or(BadAddress)?;
            f(GuestAddress(at), done..done + take)?;
            done += take;
            skip = 0;
        }
        if done == n { Ok(()) } else { Err(BadAddress) }
    }

    /// Fill `dst` from byte `offset` on.
    pub fn read(&self, mem: &Mem, offset: usize, dst: &mut [u8]) -> Result<(), BadAddress> {
        let n = dst.len();
        self.each(offset, n, |a, r| mem.read_slice(&mut dst[r], a).map_err(|_| BadAddress))
    }

    /// Write all of `src` at byte `offset`.
    pub fn write(&self, mem: &Mem, offset: usize, src: &[u8]) -> Result<(), BadAddress> {
        self.each(offset, src.len(), |a, r| mem.write_slice(&src[r], a).map_err(|_| BadAddress))
    }

    /// Write `n` times `byte` at byte `offset`.
    pub fn fill(&self, mem: &Mem, offset: usize, n: usize, byte: u8) -> Result<(), BadAddress> {
        let block = [byte; 512];
        let mut at = 0;
        while at < n {
            let take = (n - at).min(block.len());
            self.write(mem, offset + at, &block[..take])?;
            at += take;
        }
        Ok(())
    }
}

/// What the device keeps of a popped chain.
#[derive(Debug)]
pub struct Chain {
    /// Descriptor index to give back.
    pub head: u16,
    /// The ring's generation that it belongs to.
    pub generation: u32,
    /// Device-readable part.
    pub readable: Segments,
    /// Device-writable part.
    pub writable: Segments,
    /// The table was cut short, looped, or mixed directions.
    pub malformed: bool,
}

impl Chain {
    /// Whether dropping it frees memory.
    pub fn owns_memory(&self) -> bool {
        self.readable.list.spilled() || self.writable.list.spilled()
    }

    /// Walk a chain. `DescriptorChain` ends silently on any fault, hence the check of NEXT.
    /// None: it has too many pieces for a caller that must not allocate.
    pub fn walk(chain: DescriptorChain<&Mem>, generation: u32, who: Caller) -> Option<Self> {
        let head = chain.head_index();
        let (mut readable, mut writable) = (Segments::default(), Segments::default());
        let (mut open, mut malformed) = (true, false);
        // An indirect table may have 65535 entries; the time spent under locks is bounded.
        for (n, d) in chain.enumerate() {
            open = d.has_next() || n == MAX_DESCRIPTORS;
            if n == MAX_DESCRIPTORS {
                break;
            }
            let write = d.is_write_only();
            malformed |= !write && !writable.is_empty();
            let part = if write { &mut writable } else { &mut readable };
            if who == Caller::RealTime && part.is_full() {
                return None;
            }
            part.push(d.addr().0, d.len());
        }
        Some(Chain { head, generation, readable, writable, malformed: malformed | open })
    }
}

impl Chain {
    /// Walk a chain by its head, as `walk` does one that stands in the available ring. Not for real-time callers.
    pub fn walk_from(mem: &Mem, table: u64, size: u16, head: u16, generation: u32) -> Self {
        let (readable, writable) = (Segments::default(), Segments::default());
        let mut chain = Chain { head, generation, readable, writable, malformed: true };
        let (mut table, mut entries, mut indirect, mut i) = (table, u32::from(size), false, u32::from(head));
        for _ in 0..MAX_DESCRIPTORS {
            let at = table.checked_add(u64::from(i) * 16).map(GuestAddress);
            let read = |at| mem.read_obj::<RawDescriptor>(at).ok();
            let Some(d) = at.filter(|_| i < entries).and_then(read).map(Descriptor::from) else { break };
            if d.refers_to_indirect_table() {
                if indirect || d.len() == 0 || d.len() % 16 != 0 {
                    break;
                }
                (table, entries, indirect, i) = (d.addr().0, d.len() / 16, true, 0);
                continue;
            }
            if !d.is_write_only() && !chain.writable.is_empty() {
                break;
            }
            let part = if d.is_write_only() { &mut chain.writable } else { &mut chain.readable };
            part.push(d.addr().0, d.len());
            if !d.has_next() {
                chain.malformed = false;
                break;
            }
            i = u32::from(d.next());
        }
        chain
    }
}

/// A chain to give back.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Its head.
    pub head: u16,
    /// Its ring's generation.
    pub generation: u32,
    /// Bytes written.
    pub len: u32,
    /// Bytes of payload it carried, for callers that pace completions.
    pub payload: u32,
}

impl Chain {
    /// To give this chain back with `len` bytes written.
    pub fn done(&self, len: usize, payload: usize) -> Done {
        Done { head: self.head, generation: self.generation, len: len as u32, payload: payload as u32 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vm_memory::{Bytes, GuestAddress};

    use super::*;

    const SIZE: usize = 4096;

    fn memory() -> Mem {
        let mem = Mem::from_ranges(&[(GuestAddress(0), SIZE / 2), (GuestAddress(SIZE as u64 / 2), SIZE / 2)]).unwrap();
        let bytes: Vec<u8> = (0..SIZE).map(|i| (i * 7 + i / 256) as u8).collect();
        mem.write_slice(&bytes, GuestAddress(0)).unwrap();
        mem
    }

    /// Pieces that lie in memory, and the bytes that they stand for.
    fn pieces() -> impl Strategy<Value = (Segments, Vec<usize>)> {
        prop::collection::vec((0..SIZE as u64, 0..200u32), 0..30).prop_map(|list| {
            let (mut segments, mut places) = (Segments::default(), Vec::new());
            for (addr, len) in list {
                let len = len.min(SIZE as u32 - addr as u32);
                segments.push(addr, len);
                places.extend(addr as usize..addr as usize + len as usize);
            }
            (segments, places)
        })
    }

    proptest! {
        /// Any part of a chain reads as the same part of its pieces, put behind each other.
        #[test]
        fn a_part_reads_as_of_the_whole((segments, places) in pieces(), offset in 0..3000usize, n in 0..3000usize) {
            let mem = memory();
            let mut got = vec![0; n];
            let read = segments.read(&mem, offset, &mut got);
            prop_assert_eq!(segments.len(), places.len());
            if n > 0 && offset + n > places.len() {
                prop_assert_eq!(read, Err(BadAddress));
            } else {
                prop_assert_eq!(read, Ok(()));
                let want: Vec<u8> = places.iter().skip(offset).take(n).map(|&i| (i * 7 + i / 256) as u8).collect();
                prop_assert_eq!(got, want);
            }
        }

        /// What is written is written there and nowhere else.
        #[test]
        fn a_write_touches_its_part_only((segments, places) in pieces(), offset in 0..3000usize, byte: u8) {
            let mem = memory();
            let n = places.len().saturating_sub(offset).min(500);
            prop_assert_eq!(segments.fill(&mem, offset, n, byte), Ok(()));
            let mut after = vec![0; SIZE];
            mem.read_slice(&mut after, GuestAddress(0)).unwrap();
            for (i, b) in after.iter().enumerate() {
                let written = places.iter().skip(offset).take(n).any(|&p| p == i);
                prop_assert_eq!(*b, if written { byte } else { (i * 7 + i / 256) as u8 });
            }
        }

        /// Addresses outside of memory, also such that wrap, are an error and no crash.
        #[test]
        fn addresses_outside_are_refused(addr in SIZE as u64.., len in 1u32.., offset in 0..10usize) {
            let mut segments = Segments::default();
            segments.push(addr, len);
            let n = (segments.len() - offset.min(segments.len())).clamp(1, 64);
            prop_assert_eq!(segments.read(&memory(), offset, &mut vec![0; n]), Err(BadAddress));
        }
    }
}
