//! For who moves a stream from a thread that may sleep: until there is something to move.

use std::time::{Duration, Instant};

use super::Stream;

impl Stream {
    /// Block until something can be moved. False at the time limit, or when the stream does not run and nothing of it was read
    /// ahead.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        let until = timeout.map(|t| Instant::now() + t);
        // From now on kicks wake us. A guest that sends none, because it polls or because another engine pulls, is looked at
        // each half period: that engine's callback takes what is ours from the ring, and wakes nobody.
        self.set_pulling(false);
        let bytes_per_s = (self.frame_bytes() * self.rate() as usize).max(1);
        let half = Duration::from_secs_f64(self.period_bytes() as f64 / bytes_per_s as f64 / 2.0);
        for turn in 1_u64.. {
            let rings = self.changed.rings();
            let pulled = {
                let s = self.state.lock();
                let ahead = !self.capture && self.ahead_bytes() > 0;
                if !s.running {
                    return s.open && ahead;
                }
                if s.open && (s.queued > 0 || ahead) {
                    return true;
                }
                s.ring.as_ref().is_some_and(|r| r.is_pulled())
            };
            let left = until.map(|u| u.saturating_duration_since(Instant::now()));
            if left.is_some_and(|l| l.is_zero()) {
                return false;
            }
            let slice = if self.polling() || pulled { half } else { Duration::from_secs(3600) };
            self.changed.wait(rings, left.map_or(slice, |l| l.min(slice)));
            // A puller of longer periods is not waited for.
            if self.polling() || (pulled && turn % 2 == 0) {
                self.look();
            }
        }
        unreachable!("it waits until one of these is so")
    }

    /// Look at the ring without a kick. Any thread that may wait.
    pub(super) fn look(&self) {
        let found = self.feed.lock().as_ref().map(|f| (f.router.clone(), f.ring.clone()));
        if let Some((router, ring)) = found {
            router.drain(&ring);
        }
    }
}
