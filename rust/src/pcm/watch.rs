//! Whether an engine still takes its turns, or somebody must stand in for it. Only the judgement; who moves what is in `clock`.

use std::time::{Duration, Instant};

/// An engine may take this long for its first turn: a sleeping sound card wakes up meanwhile. Longer than a START may
/// take, so that nothing is consumed before it was answered.
pub const FIRST: Duration = Duration::from_millis(1200);
/// And this long, beside what its turns last, between two. Less than this is a hiccup, which it makes up for.
const BETWEEN: Duration = Duration::from_millis(120);
/// What a turn lasts is not believed beyond this.
const TURN_MAX: Duration = Duration::from_millis(500);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The engine moves, or has time left: look again then.
    Wait(Instant),
    /// It stands still: stand in, from now on.
    TakeOver,
    /// Go on to stand in.
    StandIn,
    /// It moves again, after somebody stood in: look again then.
    Back(Instant),
}

/// See the module text.
#[derive(Debug)]
pub struct Watch {
    turns: Option<u64>,
    /// When it was seen to move last, or began.
    since: Instant,
    /// When to look; being late says that the machine is busy, not the engine.
    due: Instant,
    moved: bool,
    standing_in: bool,
}

impl Watch {
    /// Nothing was seen yet.
    pub fn new(now: Instant) -> Self {
        Watch { turns: None, since: now, due: now + FIRST, moved: false, standing_in: false }
    }

    /// The engine is known to be gone: stand in at the next look.
    pub fn give_up(&mut self) {
        (self.moved, self.standing_in) = (true, true);
    }

    /// `turns` were taken so far, the last of which lasts for `turn`; None: none can be taken now.
    pub fn look(&mut self, now: Instant, turns: Option<u64>, turn: Duration) -> Verdict {
        let Some(turns) = turns else {
            *self = Watch { standing_in: self.standing_in, ..Watch::new(now) };
            return Verdict::Wait(self.due);
        };
        let before = self.turns.replace(turns);
        let patience = BETWEEN + 2 * turn.min(TURN_MAX);
        if before != Some(turns) {
            let back = before.is_some() && std::mem::take(&mut self.standing_in);
            self.moved |= before.is_some();
            self.since = now;
            if !self.standing_in {
                return if back { Verdict::Back(self.plan(now, patience)) } else { Verdict::Wait(self.plan(now, patience)) };
            }
        }
        if self.standing_in {
            return Verdict::StandIn;
        }
        if now.saturating_duration_since(self.due) > BETWEEN / 3 {
            self.since = now;
        }
        let limit = if self.moved { patience } else { FIRST };
        if now.saturating_duration_since(self.since) < limit {
            return Verdict::Wait(self.plan(now, patience));
        }
        self.standing_in = true;
        Verdict::TakeOver
    }

    fn plan(&mut self, now: Instant, patience: Duration) -> Instant {
        self.due = now + patience / 2;
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_millis(10);

    /// Looks whenever it wants to until `until`; `turns` by the millisecond.
    fn watch(until_ms: u64, turns: impl Fn(u64) -> Option<u64>) -> Vec<(u64, Verdict)> {
        let start = Instant::now();
        let (mut w, mut at, mut seen) = (Watch::new(start), start, Vec::new());
        while at <= start + Duration::from_millis(until_ms) {
            let ms = (at - start).as_millis() as u64;
            let verdict = w.look(at, turns(ms), TURN);
            at = match verdict {
                Verdict::Wait(next) | Verdict::Back(next) => next,
                Verdict::TakeOver | Verdict::StandIn => at + TURN,
            };
            if !matches!(verdict, Verdict::Wait(_) | Verdict::StandIn) {
                seen.push((ms, verdict));
            }
        }
        seen
    }

    #[test]
    fn an_engine_that_moves_is_left_alone() {
        assert_eq!(watch(5000, |ms| Some(ms / 10)), []);
        assert_eq!(watch(5000, |ms| Some(ms / 100)), [], "a hiccup now and then");
    }

    #[test]
    fn an_engine_that_never_moves_is_given_time_to_begin() {
        let seen = watch(3000, |_| Some(0));
        assert!(matches!(seen[..], [(1200..1400, Verdict::TakeOver)]), "{seen:?}");
    }

    #[test]
    fn an_engine_that_stops_is_replaced_and_gets_its_stream_back() {
        let seen = watch(5000, |ms| Some(if (2000..3000).contains(&ms) { 200 } else { ms / 10 }));
        assert!(matches!(seen[..], [(2120..2350, Verdict::TakeOver), (3000..3020, Verdict::Back(_))]), "{seen:?}");
    }

    #[test]
    fn a_stream_that_is_paused_is_nobody_s_fault() {
        assert_eq!(watch(9000, |ms| (ms < 1000 || ms > 8000).then_some(ms / 10)), []);
    }

    #[test]
    fn a_late_look_proves_nothing() {
        let start = Instant::now();
        let mut w = Watch::new(start);
        w.look(start, Some(1), TURN);
        let Verdict::Wait(next) = w.look(start + TURN, Some(2), TURN) else { panic!("it moves") };
        assert!(matches!(w.look(next + Duration::from_secs(1), Some(2), TURN), Verdict::Wait(_)));
    }

    #[test]
    fn what_was_given_up_is_stood_in_for_at_once() {
        let start = Instant::now();
        let mut w = Watch::new(start);
        w.look(start, Some(7), TURN);
        w.give_up();
        assert_eq!(w.look(start + TURN, Some(7), TURN), Verdict::StandIn);
        assert!(matches!(w.look(start + 2 * TURN, Some(8), TURN), Verdict::Back(_)));
    }
}
