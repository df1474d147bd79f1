//! The engine's side of a stream: move bytes, complete what is used up, tell of xruns. Real-time safe where it says so.

use std::sync::Weak;
use std::sync::atomic::Ordering::Relaxed;

use super::{Item, State, Stream, try_hard};
use crate::pcm::message::finish;
use crate::pcm::shortage::Verdict;
use crate::pcm::wire::{S_IO_ERR, S_OK};
use crate::vhost::chain::{BadAddress, Done};
use crate::vhost::ring::Ring;
use crate::vhost::{Caller, Mem};

impl Stream {
    /// Move up to `n` bytes with `f`; returns how many. `ahead`: what is heard before the first of them (playback), or was
    /// recorded after the last of them (capture), in bytes.
    pub(super) fn shift(
        &self,
        s: &mut State,
        n: usize,
        ahead: isize,
        who: Caller,
        mut f: impl FnMut(&Mem, &Item, usize, usize) -> std::result::Result<(), BadAddress>,
    ) -> usize {
        let Some(ring) = s.ring.clone() else { return 0 };
        let mut moved = 0;
        while moved < n {
            let Some(item) = s.items.front_mut() else {
                break;
            };
            let take = (item.len - item.pos).min(n - moved);
            let ok = f(&s.mem, item, moved, take).is_ok();
            item.pos += take;
            moved += take;
            s.queued -= take;
            if ok && item.pos < item.len {
                break;
            }
            let Some(item) = s.items.pop_front() else {
                break;
            };
            s.queued -= item.len - item.pos;
            let within = if self.capture { n - moved } else { moved };
            let latency = ahead.saturating_add_unsigned(within).max(0) as usize;
            let data = if self.capture && ok { item.len } else { 0 };
            let status = if ok { S_OK } else { S_IO_ERR };
            s.done.push(finish(&s.mem, &item.chain, data, item.len, status, latency));
            self.stats.messages.fetch_add(1, Relaxed);
            self.stats.latency.store(latency as u64, Relaxed);
            if item.chain.owns_memory() {
                s.spent.push(item.chain);
            }
        }
        self.stats.bytes.fetch_add(moved as u64, Relaxed);
        self.stats.queued.store(s.queued as u64, Relaxed);
        Self::complete(s, &ring, who);
        moved
    }

    /// Give back what is used up, but not a whole guest buffer in one wake-up: Linux takes its position modulo the buffer
    /// and would see no progress (EIO). What comes too early for that waits for the next.
    fn complete(s: &mut State, ring: &Ring, who: Caller) {
        let (mut sum, burst) = (0, s.burst);
        let fits = |d: &&Done| {
            sum += d.payload as usize;
            sum <= burst || sum == d.payload as usize
        };
        let max = s.done.iter().take_while(fits).count();
        ring.complete(&mut s.done, max, who);
    }

    /// An engine takes a turn of `n` bytes.
    pub(super) fn took_turn(&self, n: usize) {
        self.stats.turns.fetch_add(1, Relaxed);
        self.turn.store(n, Relaxed);
        self.last_turn.store(self.epoch.elapsed().as_nanos() as u64, Relaxed);
    }

    /// Count and tell an under- or overrun.
    pub(super) fn judge(&self, verdict: &Verdict) {
        self.stats.missing.fetch_add(verdict.missing as u64, Relaxed);
        if verdict.xrun {
            self.stats.xruns.fetch_add(1, Relaxed);
            if let Some(router) = self.router.get().and_then(Weak::upgrade) {
                router.xrun(self.id);
            }
        }
    }

    /// Run `f` on the stream, after a look at the ring, if it runs and both are free.
    #[inline(always)]
    pub(super) fn opened<R>(&self, who: Caller, f: impl FnOnce(&mut State) -> R) -> Option<R> {
        // Held to the end: a ring or memory map replaced meanwhile is freed by who waits for it.
        let Some(feed) = try_hard(&self.feed, who) else {
            self.stats.busy.fetch_add(1, Relaxed);
            return None;
        };
        if let Some(f) = feed.as_ref().filter(|f| f.pulling) {
            f.router.pull(&f.ring);
        }
        let Some(mut s) = try_hard(&self.state, who) else {
            self.stats.busy.fetch_add(1, Relaxed);
            return None;
        };
        (s.running && s.open).then(|| f(&mut s))
    }

    /// Run `f` on the stream for an engine. For one who stands in for an engine: only if that has not taken a turn since
    /// `unless`, and what is moved is an xrun.
    pub(super) fn engine(
        &self,
        n: usize,
        who: Caller,
        unless: Option<u64>,
        f: impl FnOnce(&mut State) -> usize,
    ) -> usize {
        let moved = self.opened(who, |s| {
            if unless.is_some_and(|turns| turns != self.stats.turns.load(Relaxed)) {
                return 0;
            }
            let got = f(s);
            let verdict = match unless {
                None => s.shortage.book(n, got, self.period_bytes()),
                Some(_) => {
                    self.stats.stood_in.fetch_add(got as u64, Relaxed);
                    Verdict { xrun: got > 0, missing: got }
                }
            };
            self.judge(&verdict);
            got
        });
        moved.unwrap_or(0)
    }

    /// Playback callback: fill `dst`, of which `ahead` bytes are heard before the first. Returns the bytes there were; the
    /// rest is untouched. Real-time safe.
    pub fn pull(&self, dst: &mut [u8], ahead: usize) -> usize {
        self.pull_as(dst, ahead as isize, Caller::RealTime)
    }

    /// As `pull`; `ahead` is negative where the engine takes what it has played already.
    pub fn pull_as(&self, dst: &mut [u8], ahead: isize, who: Caller) -> usize {
        self.take_out(dst, ahead, who, None)
    }

    fn take_out(&self, dst: &mut [u8], ahead: isize, who: Caller, unless: Option<u64>) -> usize {
        if self.capture {
            return 0;
        }
        if unless.is_none() && self.goes_ahead(dst.len(), who) {
            return self.take_read(dst, ahead, who);
        }
        self.engine(dst.len(), who, unless, |s| {
            if unless.is_none() {
                self.took_turn(dst.len());
                // Since this turn began something was kept for the engine: that comes first, in the next one.
                if self.is_read_ahead() {
                    return 0;
                }
            }
            self.pull_some(s, dst, ahead, who)
        })
    }

    /// Capture callback: hand `src`, recorded `delay` bytes ago, to the guest. Returns what found room. Real-time safe.
    pub fn push(&self, src: &[u8], delay: usize) -> usize {
        self.push_as(src, delay, Caller::RealTime)
    }

    /// As `push`, from any thread.
    pub fn push_as(&self, src: &[u8], delay: usize, who: Caller) -> usize {
        self.put_in(src, delay, who, None)
    }

    /// In the place of an engine that has taken `turns` and no more: let what the guest plays pass unheard (or keep it for an
    /// engine that is only late), or have it record `silence`.
    pub fn stand_in(&self, silence: &mut [u8], turns: u64) {
        if self.capture {
            self.put_in(silence, 0, Caller::Worker, Some(turns));
        } else if !self.keep(silence, turns) {
            self.take_out(silence, 0, Caller::Worker, Some(turns));
        }
    }

    fn put_in(&self, src: &[u8], delay: usize, who: Caller, unless: Option<u64>) -> usize {
        if !self.capture {
            return 0;
        }
        if unless.is_none()
            && self.goes_ahead(src.len(), who)
            && let Some(put) = self.put_aside(src, delay, who)
        {
            return put;
        }
        self.engine(src.len(), who, unless, |s| {
            if unless.is_none() {
                self.took_turn(src.len());
            }
            self.shift(s, src.len(), delay as isize, who, |mem, i, at, n| {
                i.chain.writable().write(mem, i.pos, &src[at..at + n])
            })
        })
    }
}
