//! Tells an under- or overrun from the end of what a guest plays.
//!
//! A guest that has played all stops its stream a moment after the last byte was taken: a shortage becomes an xrun only when
//! audio follows, or when it lasts (a period, and more than one turn of the engine).

/// What a transfer of the engine turned out to be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// An xrun to tell: a new one, or another period of one that goes on.
    pub xrun: bool,
    /// Bytes now known to be missing.
    pub missing: usize,
}

/// The book of one stream, from START to STOP.
#[derive(Debug, Default)]
pub struct Shortage {
    /// Audio was seen since the start.
    armed: bool,
    /// Bytes short since audio was seen last.
    short: usize,
    /// How much of it is an xrun that was told; 0: none.
    told: usize,
}

impl Shortage {
    /// No audio was seen since the start.
    pub fn is_new(&self) -> bool {
        !self.armed
    }

    /// Book a transfer of `got` bytes where `due` were, of a stream with periods of `period` bytes.
    pub fn book(&mut self, due: usize, got: usize, period: usize) -> Verdict {
        let mut v = Verdict::default();
        if got > 0 {
            // Audio goes on: what was missing is a gap.
            v = Verdict { xrun: self.short > 0 && self.told == 0, missing: self.short - self.told };
            *self = Shortage { armed: true, short: 0, told: 0 };
        }
        if got < due && self.armed {
            self.short += due - got;
            let limit = if self.told == 0 { period.max(2 * due) } else { self.told + period };
            if self.short >= limit {
                v = Verdict { xrun: true, missing: v.missing + self.short - self.told };
                self.told = self.short;
            }
        }
        v
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xrun(missing: usize) -> Verdict {
        Verdict { xrun: true, missing }
    }

    #[test]
    fn silence_before_the_first_audio_is_no_xrun() {
        let mut s = Shortage::default();
        assert_eq!(s.book(100, 0, 50), Verdict::default());
        assert_eq!(s.book(100, 100, 50), Verdict::default());
    }

    #[test]
    fn the_end_of_what_is_played_is_no_xrun() {
        let mut s = Shortage::default();
        s.book(100, 100, 100);
        assert_eq!(s.book(100, 30, 100), Verdict::default());
        assert_eq!(s.book(100, 0, 100), Verdict::default());
    }

    #[test]
    fn a_gap_is_told_when_audio_follows() {
        let mut s = Shortage::default();
        s.book(100, 100, 1000);
        assert_eq!(s.book(100, 40, 1000), Verdict::default());
        assert_eq!(s.book(100, 0, 1000), Verdict::default());
        assert_eq!(s.book(100, 100, 1000), xrun(160));
        assert_eq!(s.book(100, 100, 1000), Verdict::default());
    }

    #[test]
    fn a_long_one_is_told_once_a_period_and_every_byte_counts_once() {
        let mut s = Shortage::default();
        s.book(100, 100, 250);
        let told: Vec<_> = (0..8).map(|_| s.book(100, 0, 250)).collect();
        let xruns: Vec<_> = told.iter().map(|v| v.xrun).collect();
        assert_eq!(xruns, [false, false, true, false, false, true, false, false]);
        let last = s.book(100, 100, 250);
        assert!(!last.xrun);
        let missing: usize = told.iter().map(|v| v.missing).sum();
        assert_eq!(missing + last.missing, 800);
    }
}
