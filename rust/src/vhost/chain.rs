//! A chain's descriptors, read from guest memory once, with cursor-free copies.
//!
//! Only guest addresses are kept, never host pointers or a memory guard, so a replaced memory table is honoured
//! and old mappings are not pinned.

use smallvec::SmallVec;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use super::{Caller, Mem};

/// Bytes of a descriptor in memory (2.7.5).
const DESCRIPTOR: usize = 16;
/// A longer chain is malformed.
const MAX_DESCRIPTORS: usize = 1024;
/// Pieces of a chain that are kept without allocating: a header, 72 KiB in 4-KiB pages and a status.
pub const INLINE: usize = 20;
/// Descriptors that are read at a time.
const AT_ONCE: usize = 4;

/// The driver gave an address outside of its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadAddress;

/// What one descriptor points to. Packed: chains are moved from list to list on the way of every message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, packed(4))]
pub struct Piece {
    pub addr: u64,
    pub len: u32,
}

/// One direction of a chain.
#[derive(Debug, Clone, Copy)]
pub struct Segments<'a> {
    pieces: &'a [Piece],
    len: usize,
}

impl<'a> Segments<'a> {
    /// These pieces behind each other.
    pub fn new(pieces: &'a [Piece]) -> Self {
        Segments { pieces, len: pieces.iter().map(|p| p.len as usize).sum() }
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
    pub fn pieces(&self) -> &'a [Piece] {
        self.pieces
    }

    /// Call `f(address, range of the caller's buffer)` for each piece of `offset..offset + n`.
    fn each(
        &self,
        offset: usize,
        n: usize,
        mut f: impl FnMut(GuestAddress, std::ops::Range<usize>) -> Result<(), BadAddress>,
    ) -> Result<(), BadAddress> {
        let (mut skip, mut done) = (offset, 0);
        for &Piece { addr, len } in self.pieces {
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

/// A table of descriptors, read a few at a time: finding a region of guest memory costs more than copying out of it.
struct Table<'a> {
    mem: &'a Mem,
    at: u64,
    entries: u32,
    read: [[u8; DESCRIPTOR]; AT_ONCE],
    /// Which of them are in `read`.
    have: std::ops::Range<u32>,
}

impl<'a> Table<'a> {
    fn new(mem: &'a Mem, at: u64, entries: u32) -> Self {
        Table { mem, at, entries, read: Default::default(), have: 0..0 }
    }

    fn get(&mut self, i: u32) -> Option<Descriptor> {
        if i >= self.entries {
            return None;
        }
        if !self.have.contains(&i) {
            let at = GuestAddress(self.at.checked_add(u64::from(i) * DESCRIPTOR as u64)?);
            let n = (self.entries - i).min(AT_ONCE as u32);
            let all = self.read[..n as usize].as_flattened_mut();
            self.have = match self.mem.read_slice(all, at) {
                Ok(()) => i..i + n,
                // Perhaps only the later ones lie outside.
                Err(_) => {
                    self.mem.read_slice(&mut self.read[0], at).ok()?;
                    i..i + 1
                }
            };
        }
        let d = &self.read[(i - self.have.start) as usize];
        let field = |at: usize, n: usize| d[at..at + n].iter().rev().fold(0, |v, &b| v << 8 | u64::from(b));
        Some(Descriptor::new(field(0, 8), field(8, 4) as u32, field(12, 2) as u16, field(14, 2) as u16))
    }
}

/// What the device keeps of a popped chain.
#[derive(Debug)]
pub struct Chain {
    /// Descriptor index to give back.
    pub head: u16,
    /// The table was cut short, looped, or mixed directions; the parts are what came before.
    pub malformed: bool,
    /// The ring's generation that it belongs to.
    pub generation: u32,
    /// So many pieces are device-readable; the others are device-writable.
    split: u16,
    readable_bytes: usize,
    writable_bytes: usize,
    pieces: SmallVec<[Piece; INLINE]>,
}

impl Chain {
    /// Walk the chain that begins at descriptor `head` of a table of `size`. Each of its descriptors is read once (2.7.5).
    /// None: it has too many pieces for a caller that must not allocate.
    pub fn walk(mem: &Mem, table: u64, size: u16, head: u16, generation: u32, who: Caller) -> Option<Self> {
        let mut chain = Chain {
            head,
            malformed: true,
            generation,
            split: 0,
            readable_bytes: 0,
            writable_bytes: 0,
            pieces: SmallVec::new(),
        };
        let mut table = Table::new(mem, table, size.into());
        let (mut i, mut indirect, mut total) = (u32::from(head), false, 0u32);
        // An indirect table may have 65535 entries; the time spent under locks is bounded.
        let most = |entries: u32| entries.min(MAX_DESCRIPTORS as u32);
        let (mut left, mut walked) = (most(table.entries), 0);
        while left > walked {
            let Some(d) = table.get(i) else { break };
            if d.refers_to_indirect_table() {
                let entries = d.len() / DESCRIPTOR as u32;
                if indirect || d.len() % DESCRIPTOR as u32 != 0 || entries > u16::MAX.into() {
                    break;
                }
                table = Table::new(mem, d.addr().0, entries);
                (i, indirect, left) = (0, true, most(walked + entries));
                continue;
            }
            // A chain is no longer than 2^32 bytes (2.7.5.2), and its readable part comes first (2.7.4.2).
            let Some(sum) = total.checked_add(d.len()) else { break };
            let write = d.is_write_only();
            if !write && chain.writable_bytes > 0 {
                break;
            }
            if d.len() > 0 {
                if chain.pieces.len() == INLINE && who == Caller::RealTime {
                    return None;
                }
                chain.pieces.push(Piece { addr: d.addr().0, len: d.len() });
                if write {
                    chain.writable_bytes += d.len() as usize;
                } else {
                    chain.readable_bytes += d.len() as usize;
                    chain.split += 1;
                }
            }
            if !d.has_next() {
                chain.malformed = false;
                break;
            }
            (total, i, walked) = (sum, u32::from(d.next()), walked + 1);
        }
        Some(chain)
    }

    /// The device-readable part.
    pub fn readable(&self) -> Segments<'_> {
        Segments { pieces: &self.pieces[..self.split.into()], len: self.readable_bytes }
    }

    /// The device-writable part.
    pub fn writable(&self) -> Segments<'_> {
        Segments { pieces: &self.pieces[self.split.into()..], len: self.writable_bytes }
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
    fn pieces() -> impl Strategy<Value = (Vec<Piece>, Vec<usize>)> {
        prop::collection::vec((0..SIZE as u64, 0..200u32), 0..30).prop_map(|list| {
            let (mut pieces, mut places) = (Vec::new(), Vec::new());
            for (addr, len) in list {
                let len = len.min(SIZE as u32 - addr as u32);
                pieces.push(Piece { addr, len });
                places.extend(addr as usize..addr as usize + len as usize);
            }
            (pieces, places)
        })
    }

    proptest! {
        /// Any part of a chain reads as the same part of its pieces, put behind each other.
        #[test]
        fn a_part_reads_as_of_the_whole((pieces, places) in pieces(), offset in 0..3000usize, n in 0..3000usize) {
            let segments = Segments::new(&pieces);
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
        fn a_write_touches_its_part_only((pieces, places) in pieces(), offset in 0..3000usize, byte: u8) {
            let segments = Segments::new(&pieces);
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
            let pieces = [Piece { addr, len }];
            let segments = Segments::new(&pieces);
            let n = (segments.len() - offset.min(segments.len())).clamp(1, 64);
            prop_assert_eq!(segments.read(&memory(), offset, &mut vec![0; n]), Err(BadAddress));
        }
    }
}
