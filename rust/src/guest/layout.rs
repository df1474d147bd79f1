//! How a message is cut into descriptors.

/// A part of a chain: memory that the device reads, or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub addr: u64,
    pub len: u32,
    pub writable: bool,
}

/// The shape of chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sizes in bytes to cut into, used one after the other and over again; empty: not cut.
    pub pieces: Vec<u32>,
    /// One slot of the ring and a table elsewhere, if the device agreed to that.
    pub indirect: bool,
    /// Break at pages of 4096 bytes, as Linux does where a buffer's pages do not adjoin.
    pub pages: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { pieces: Vec::new(), indirect: true, pages: true }
    }
}

impl Shape {
    /// Cut areas into descriptors. The order stays; an area never shares a descriptor with another.
    pub fn cut(&self, areas: &[Piece]) -> Vec<Piece> {
        let mut sizes = self.pieces.iter().filter(|&&n| n > 0).cycle();
        let mut cut = Vec::new();
        for area in areas {
            let mut rest = *area;
            while rest.len > 0 {
                let mut n = sizes.next().map_or(rest.len, |&n| n.min(rest.len));
                if self.pages {
                    n = n.min(4096 - (rest.addr % 4096) as u32);
                }
                cut.push(Piece { len: n, ..rest });
                rest.addr += u64::from(n);
                rest.len -= n;
            }
        }
        cut
    }
}

/// `frames` frames of `frame_bytes` that count from `first` on, little-endian: each can be recognised where it arrives.
pub fn numbered(first: u64, frames: u64, frame_bytes: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(frames as usize * frame_bytes);
    for n in first..first + frames {
        let bytes = n.to_le_bytes();
        let whole = frame_bytes.min(bytes.len());
        data.extend_from_slice(&bytes[..whole]);
        data.resize(data.len() + frame_bytes - whole, 0);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(addr: u64, len: u32, writable: bool) -> Piece {
        Piece { addr, len, writable }
    }

    #[test]
    fn sizes_go_on_over_areas_and_never_join_them() {
        let shape = Shape { pieces: vec![1, 3, 7], indirect: false, pages: false };
        let cut = shape.cut(&[piece(0, 4, false), piece(100, 9, false), piece(200, 2, true)]);
        let want = [(0, 1, false), (1, 3, false), (100, 7, false), (107, 1, false), (108, 1, false), (200, 2, true)];
        assert_eq!(cut, want.map(|(a, n, w)| piece(a, n, w)));
    }

    #[test]
    fn uncut_messages_break_at_pages_only() {
        let cut = Shape::default().cut(&[piece(4000, 5000, true)]);
        assert_eq!(cut, [(4000, 96), (4096, 4096), (8192, 808)].map(|(a, n)| piece(a, n, true)));
    }

    #[test]
    fn numbered_frames_count() {
        assert_eq!(numbered(254, 3, 2), [254, 0, 255, 0, 0, 1]);
        assert_eq!(numbered(1, 1, 10), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
