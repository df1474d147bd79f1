//! An engine that comes late: what the guest plays from the beginning on is kept for it, and heard first.
//!
//! The guest keeps its pace meanwhile, its messages are completed; so the engine is behind by what was kept, and stays so: a guest
//! cannot wait until that was heard, nor be slowed down without harm to what else it has a clock of. What was kept shrinks where
//! nobody hears it: with each gap that the guest leaves, with silence that it plays, and at its end.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Stream;
use super::fifo::Fifo;
use crate::pcm::shortage::Verdict;
use crate::vhost::Caller;

/// An engine that takes no turn for so long after the beginning is not late, but gone, and nobody wants to hear that any more. No
/// more than `KEPT_MAX` bytes are kept, either, whatever the format.
const LATE_MAX: Duration = Duration::from_secs(1);
const KEPT_MAX: usize = 1 << 20;
/// So long a guest waits without harm until what was read ahead was heard: Linux gives up after 100 ms.
const WAIT_MAX: Duration = Duration::from_millis(50);

impl Stream {
    /// The stream begins to run, or to go on: no engine has taken a turn yet.
    pub(super) fn begin(&self) {
        self.ahead.begun.store(self.stats.turns.load(Relaxed), Relaxed);
    }

    /// Whether no engine has taken a turn since the beginning, `turns` being all that were taken, and it may be only late.
    pub(in crate::pcm) fn is_awaited(&self, turns: u64) -> bool {
        !self.capture && self.ahead.begun.load(Relaxed) == turns
    }

    /// In the place of an engine that is late: keep for it what the guest plays next. False if the engine is not late, but gone.
    #[cold]
    pub(super) fn keep(&self, part: &mut [u8], turns: u64) -> bool {
        if !self.is_awaited(turns) {
            return false;
        }
        let second = self.rate() as usize * self.frame_bytes();
        let most = second.saturating_mul(LATE_MAX.as_millis() as usize) / 1000;
        let held = self.ahead_bytes();
        if held + part.len() > most.min(KEPT_MAX) {
            self.ahead.begun.store(u64::MAX, Relaxed);
            self.ahead.clear();
            self.stats.stood_in.fetch_add(held as u64, Relaxed);
            self.judge(&Verdict { xrun: held > 0, missing: held });
            self.tell("its engine does not begin; what was kept for it is dropped, and the rest passes unheard");
            return false;
        }
        let fifo = self.ahead.of_size(held + part.len());
        self.opened(Caller::Worker, |s| {
            if turns == self.stats.turns.load(Relaxed) {
                let got = self.pull_some(s, part, held as isize, Caller::Worker);
                fifo.put(&part[..got]);
                self.ahead.held.store(fifo.len(), Relaxed);
                self.ahead.surplus.store(fifo.len(), Relaxed);
            }
        });
        true
    }

    /// Whether the guest may wait until so many bytes were heard; if not, they are to stay ahead.
    pub(super) fn is_surplus(&self, bytes: usize) -> bool {
        !self.capture && self.time_of(bytes) > WAIT_MAX
    }

    /// A turn was taken: what is left is all the surplus there can be. Of silence the next turn takes the place. Whether there is a
    /// surplus. Real-time safe.
    pub(super) fn shed(&self, fifo: &Fifo, turn: &mut [u8]) -> bool {
        if self.ahead.surplus.load(Relaxed) == 0 {
            return false;
        }
        let silence = self.silence();
        if fifo.len() >= turn.len() && turn.iter().all(|b| *b == silence) {
            fifo.take(turn);
        }
        let left = fifo.len();
        self.ahead.surplus.fetch_min(left, Relaxed);
        left > 0
    }
}
