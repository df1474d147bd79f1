//! Messages of one stream at fixed places.

use _core::guest::{Driver, Piece, Queue, wire};

use super::PERIOD;

/// Messages of one stream at fixed places, so that a snapshot of all that the device may write is easy.
pub struct Slots {
    pub header: u64,
    pub data: u64,
    pub status: u64,
    pub heads: Vec<u16>,
}

pub const N: u64 = 60;
pub const MESSAGE: u64 = PERIOD as u64;

impl Slots {
    pub fn new(driver: &Driver, stream: u32) -> Slots {
        let ram = driver.ram();
        let header = ram.alloc(16, 16).unwrap();
        ram.write(header, &stream.to_le_bytes()).unwrap();
        let (data, status) = (ram.alloc(N * MESSAGE, 4096).unwrap(), ram.alloc(N * 16, 16).unwrap());
        let mut tx = driver.queue(wire::TX).unwrap().lock();
        let heads = (0..N)
            .map(|i| {
                let piece = |addr, len, writable| Piece { addr, len, writable };
                let pieces = [
                    piece(header, 4, false),
                    piece(data + i * MESSAGE, MESSAGE as u32, false),
                    piece(status + i * 16, 8, true),
                ];
                tx.reserve(&pieces, true).unwrap()
            })
            .collect();
        Slots { header, data, status, heads }
    }

    pub fn fill(&self, driver: &Driver, head: u16, data: &[u8]) {
        let i = self.heads.iter().position(|&h| h == head).expect("ours") as u64;
        driver.ram().write(self.data + i * MESSAGE, data).unwrap();
    }

    /// Used ring and every status.
    pub fn snapshot(&self, driver: &Driver, tx: &Queue) -> Vec<u8> {
        let used = driver.ram().read(tx.ring().parts().2, 6 + 8 * usize::from(tx.size())).unwrap();
        [used, driver.ram().read(self.status, 16 * N as usize).unwrap()].concat()
    }
}
