//! Chain walking: guest memory made from the input, popped by a real `virtio_queue::Queue`, and compared with a second reading
//! of the specification (virtio 1.3, 2.7.5) that shares no code with the first.

use _core::vhost::chain::{BadAddress, Chain, INLINE, Piece, Segments};
use _core::vhost::{Caller, Mem};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::input::Input;

/// Two regions with a hole between them.
const REGIONS: [(u64, usize); 2] = [(0, 0x2000), (0x3000, 0x1000)];
const TABLE: u64 = 0;
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x1800;
/// Descriptors of a chain, as the device promises.
const LONGEST: usize = 1024;

thread_local! {
    /// Mapped once: nothing of one input is left for the next, all of it is written anew.
    static MEMORY: Mem = Mem::from_ranges(&REGIONS.map(|(at, n)| (GuestAddress(at), n))).expect("two regions");
}

/// Input: size of the queue, who walks, entries offered; then the descriptor table, the available ring, the rest of memory.
pub fn run(data: &[u8]) {
    MEMORY.with(|mem| walk_all(data, mem));
}

fn walk_all(data: &[u8], mem: &Mem) {
    let mut input = Input(data);
    let size = 1u16 << (input.u8() % 9);
    let who = if input.u8() % 2 == 0 { Caller::Worker } else { Caller::RealTime };
    let offered = u16::from(input.u8()) % (size + 1);
    let table = input.bytes(16 * usize::from(size));
    let heads = input.bytes(2 * usize::from(size));
    let mut image = vec![0; 0x4000];
    image[..table.len()].copy_from_slice(table);
    image[AVAIL as usize + 2..][..2].copy_from_slice(&offered.to_le_bytes());
    image[AVAIL as usize + 4..][..heads.len()].copy_from_slice(heads);
    let rest = input.bytes(0x1000);
    image[0x3000..0x3000 + rest.len()].copy_from_slice(rest);

    for (at, n) in REGIONS {
        mem.write_slice(&image[at as usize..][..n], GuestAddress(at)).expect("inside");
    }
    let mut queue = Queue::new(size).expect("a power of two");
    queue.set_size(size);
    queue.try_set_desc_table_address(GuestAddress(TABLE)).expect("aligned");
    queue.try_set_avail_ring_address(GuestAddress(AVAIL)).expect("aligned");
    queue.try_set_used_ring_address(GuestAddress(USED)).expect("aligned");
    queue.set_ready(true);
    for (at, popped) in queue.iter(mem).expect("not more than the size").enumerate() {
        let entry = AVAIL as usize + 4 + 2 * at;
        let head = u16::from_le_bytes([image[entry], image[entry + 1]]);
        let want = walk(&image, size, head);
        assert_eq!(popped.head_index(), head);
        match Chain::walk(mem, TABLE, size, head, 7, who) {
            None => {
                assert_eq!(who, Caller::RealTime);
                assert!(want.readable.len() + want.writable.len() > INLINE);
            }
            Some(chain) => check(&chain, &want, head, &image, mem),
        }
    }
}

/// What a chain must be.
#[derive(Default)]
struct Expected {
    readable: Vec<Piece>,
    writable: Vec<Piece>,
    malformed: bool,
    /// Descriptors that were read.
    entries: usize,
}

fn is_memory(at: u64, n: u64) -> bool {
    // The regions do not touch: nothing lies in both.
    REGIONS.iter().any(|&(start, len)| at >= start && at.checked_add(n).is_some_and(|end| end <= start + len as u64))
}

/// A chain by the book. What follows the first fault is not looked at.
fn walk(image: &[u8], size: u16, head: u16) -> Expected {
    let mut e = Expected::default();
    let (mut table, mut entries, mut left, mut inside) = (TABLE, u32::from(size), u32::from(size), false);
    let (mut next, mut total) = (u32::from(head), 0u64);
    loop {
        let at = table.checked_add(16 * u64::from(next)).filter(|&at| is_memory(at, 16));
        let (Some(at), true, true) = (at, left > 0, next < entries) else {
            e.malformed = true;
            return e;
        };
        let d: [u8; 16] = image[at as usize..][..16].try_into().expect("16 bytes");
        let d = u128::from_le_bytes(d);
        let (addr, len, flags) = (d as u64, (d >> 64) as u32, (d >> 96) as u16);
        if flags & 4 != 0 {
            if inside || len % 16 != 0 || len / 16 > 0xffff {
                e.malformed = true;
                return e;
            }
            (table, entries, left, inside, next) = (addr, len / 16, len / 16, true, 0);
            continue;
        }
        total += u64::from(len);
        e.entries += 1;
        if total > u64::from(u32::MAX) || e.entries > LONGEST {
            e.malformed = true;
            return e;
        }
        let write = flags & 2 != 0;
        if !write && !e.writable.is_empty() {
            e.malformed = true;
            return e;
        }
        if len > 0 {
            if write { &mut e.writable } else { &mut e.readable }.push(Piece { addr, len });
        }
        if flags & 1 == 0 {
            return e;
        }
        (next, left) = ((d >> 112) as u32, left - 1);
    }
}

fn check(chain: &Chain, want: &Expected, head: u16, image: &[u8], mem: &Mem) {
    assert_eq!((chain.head, chain.generation), (head, 7));
    assert_eq!(chain.malformed, want.malformed);
    for (got, want) in [(&chain.readable(), &want.readable), (&chain.writable(), &want.writable)] {
        assert_eq!(got.pieces(), want);
        assert_eq!(got.len(), want.iter().map(|p| p.len as usize).sum::<usize>());
        assert_eq!(got.is_empty(), want.is_empty());
        for offset in [0, 3, got.len() / 2] {
            read(got, offset, image, mem);
        }
    }
    // What the device does with any chain: a status at the end of the writable part, if there is room.
    if let Some(end) = chain.writable().len().checked_sub(8) {
        let _ = chain.writable().write(mem, end, &[0x5a; 8]);
        let _ = chain.writable().fill(mem, 0, chain.writable().len().min(2000), 0x80);
        for (at, n) in REGIONS {
            // The next chain is read from what is there now.
            mem.write_slice(&image[at as usize..][..n], GuestAddress(at)).expect("inside");
        }
    }
}

/// A part of a chain reads as the bytes that its pieces stand for, or not at all.
fn read(part: &Segments, offset: usize, image: &[u8], mem: &Mem) {
    let n = part.len().saturating_sub(offset).min(600);
    let mut want = Some(Vec::new());
    let mut skip = offset as u64;
    let mut left = n as u64;
    for &Piece { addr, len } in part.pieces() {
        let take = u64::from(len).saturating_sub(skip).min(left);
        if take > 0 {
            let from = addr.checked_add(skip).filter(|&a| is_memory(a, take));
            match (&mut want, from) {
                (Some(w), Some(a)) => w.extend_from_slice(&image[a as usize..][..take as usize]),
                _ => want = None,
            }
        }
        skip = skip.saturating_sub(u64::from(len));
        left -= take;
    }
    let mut got = vec![0; n];
    let result = part.read(mem, offset, &mut got);
    match want {
        Some(w) => assert_eq!((result, got), (Ok(()), w)),
        None => assert_eq!(result, Err(BadAddress)),
    }
}
