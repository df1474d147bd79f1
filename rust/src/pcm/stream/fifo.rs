//! Bytes on their way between two threads, one that puts and one that takes. Neither waits, nothing is allocated.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::*};

/// See the module text. Positions count bytes since the beginning and never go back.
#[derive(Debug)]
pub(super) struct Fifo {
    bytes: Box<[AtomicU8]>,
    taken: AtomicUsize,
    put: AtomicUsize,
}

impl Fifo {
    /// Room for at least `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        let size = capacity.next_power_of_two();
        Fifo {
            bytes: (0..size).map(|_| AtomicU8::new(0)).collect(),
            taken: AtomicUsize::new(0),
            put: AtomicUsize::new(0),
        }
    }

    /// Bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        // In this order, so that it is never negative.
        let taken = self.taken.load(Acquire);
        self.put.load(Acquire).wrapping_sub(taken)
    }

    /// The place of a position, a power of two being the size.
    fn at(&self, position: usize) -> &AtomicU8 {
        &self.bytes[position & (self.bytes.len() - 1)]
    }

    /// Put in what there is room for; returns how much. For one thread.
    pub fn put(&self, src: &[u8]) -> usize {
        let begin = self.put.load(Relaxed);
        let n = src.len().min(self.bytes.len() - self.len());
        for (i, byte) in src[..n].iter().enumerate() {
            self.at(begin.wrapping_add(i)).store(*byte, Relaxed);
        }
        self.put.store(begin.wrapping_add(n), Release);
        n
    }

    /// Copy out the next bytes, as many as there are, and leave them in. Returns how many and their position. For one thread.
    pub fn peek(&self, dst: &mut [u8]) -> (usize, usize) {
        let begin = self.taken.load(Acquire);
        let n = dst.len().min(self.put.load(Acquire).wrapping_sub(begin));
        for (i, byte) in dst[..n].iter_mut().enumerate() {
            *byte = self.at(begin.wrapping_add(i)).load(Relaxed);
        }
        (n, begin)
    }

    /// `n` bytes from `position` on were taken; not so if it was cleared meanwhile.
    pub fn taken(&self, position: usize, n: usize) {
        let _ = self.taken.compare_exchange(position, position.wrapping_add(n), AcqRel, Relaxed);
    }

    /// Take the next bytes; returns how many. For the thread that peeks.
    pub fn take(&self, dst: &mut [u8]) -> usize {
        let (n, position) = self.peek(dst);
        self.taken(position, n);
        n
    }

    /// Forget what is in it. Any thread.
    pub fn clear(&self) {
        self.taken.store(self.put.load(Acquire), Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken_in_order_across_the_end() {
        let fifo = Fifo::new(5);
        assert_eq!(fifo.capacity(), 8);
        let mut out = [0; 8];
        for round in 0..100_u8 {
            assert_eq!(fifo.put(&[round, 1, 2, 3, 4]), 5);
            assert_eq!(fifo.put(&[5, 6, 7, 8]), 3, "there is no more room");
            assert_eq!((fifo.peek(&mut out).0, fifo.len()), (8, 8));
            assert_eq!(fifo.take(&mut out), 8);
            assert_eq!(out, [round, 1, 2, 3, 4, 5, 6, 7]);
            assert_eq!((fifo.take(&mut out), fifo.len()), (0, 0));
        }
    }

    #[test]
    fn what_was_cleared_is_not_taken_as_well() {
        let fifo = Fifo::new(8);
        fifo.put(&[1, 2, 3]);
        let (n, position) = fifo.peek(&mut [0; 2]);
        fifo.clear();
        fifo.put(&[4]);
        fifo.taken(position, n);
        let mut out = [0; 8];
        assert_eq!((fifo.take(&mut out), out[0]), (1, 4));
    }

    #[test]
    fn two_threads_lose_and_exchange_nothing() {
        const N: usize = 1 << 20;
        let fifo = Fifo::new(1000);
        let byte = |i: usize| (i % 251) as u8;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut at, mut part) = (0, Vec::new());
                while at < N {
                    part.clear();
                    part.extend((at..N.min(at + 1 + at % 700)).map(byte));
                    at += fifo.put(&part);
                }
            });
            let (mut at, mut out) = (0, [0; 300]);
            while at < N {
                let n = fifo.take(&mut out);
                assert!(out[..n].iter().enumerate().all(|(i, b)| *b == byte(at + i)));
                at += n;
            }
        });
    }
}
