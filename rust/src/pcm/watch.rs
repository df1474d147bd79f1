//! Whether an engine still takes its turns, or somebody must stand in for it. Only the judgement; who moves what is in `clock`.

use std::time::{Duration, Instant};

/// How often a stream is looked at that the clock paces anyway.
const REST: Duration = Duration::from_secs(1);
/// Linux 6.6 and later give up (EIO) when nothing was consumed for this, or for 1.1 buffers if that is longer.
const LINUX: Duration = Duration::from_millis(100);
/// So much earlier somebody stands in, who gives a period back at once.
const MARGIN: Duration = Duration::from_millis(20);
/// What a turn lasts is not believed beyond this.
const TURN_MAX: Duration = Duration::from_millis(500);

/// How long an engine may move nothing, for a guest's buffer; `turn`: what its last turn lasts.
pub fn patience(buffer: Duration, turn: Duration) -> Duration {
    let linux = LINUX.max(buffer + buffer / 10) - MARGIN;
    linux.max(turn.min(TURN_MAX) * 3 / 2)
}

/// What is seen of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Engines have taken so many turns, the last of them then.
    Turns(u64, Instant),
    /// No engine can take turns: it is stopped, its ring is, or the engine waits for the guest.
    Closed,
    /// Paced by the clock, which does not hang, or by nothing.
    Clocked,
}

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
    /// Its last turn, or when it could begin to take turns.
    since: Instant,
    /// When to look; being late says that the machine is busy, not the engine.
    due: Instant,
    standing_in: bool,
}

impl Watch {
    /// Nothing was seen yet.
    pub fn new(now: Instant) -> Self {
        Watch { turns: None, since: now, due: now, standing_in: false }
    }

    /// The engine is known to be gone: stand in from the next look on.
    pub fn give_up(&mut self) {
        self.standing_in = true;
    }

    /// Judge. To be called when the last verdict said, or each time that somebody stood in.
    pub fn look(&mut self, now: Instant, seen: Seen, patience: Duration) -> Verdict {
        let (turns, last) = match seen {
            Seen::Turns(turns, last) => (turns, last),
            Seen::Closed | Seen::Clocked => {
                self.turns = None;
                return self.wait(now + if seen == Seen::Clocked { REST } else { patience });
            }
        };
        let before = self.turns.replace(turns);
        if before.is_none() {
            self.since = now;
        } else if before != Some(turns) {
            self.since = self.since.max(last);
            if std::mem::take(&mut self.standing_in) {
                let Verdict::Wait(next) = self.wait(self.since + patience) else { return Verdict::StandIn };
                return Verdict::Back(next);
            }
        }
        if self.standing_in {
            return Verdict::StandIn;
        }
        if now.saturating_duration_since(self.due) > patience / 3 {
            self.since = self.since.max(now.checked_sub(patience / 2).unwrap_or(now));
        }
        if now < self.since + patience {
            return self.wait(self.since + patience);
        }
        self.standing_in = true;
        Verdict::TakeOver
    }

    fn wait(&mut self, until: Instant) -> Verdict {
        self.due = until;
        Verdict::Wait(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PATIENCE: Duration = Duration::from_millis(70);

    /// Looks when it is told to; `turns`: their number by the millisecond, a turn each ten.
    fn watch(until_ms: u32, turns: impl Fn(u32) -> Option<u32>) -> Vec<(u32, Verdict)> {
        let start = Instant::now();
        let (mut w, mut at, mut seen) = (Watch::new(start), start, Vec::new());
        while at <= start + until_ms * MS {
            let ms = (at - start).as_millis() as u32;
            let then = |n| Seen::Turns(u64::from(n), start + n * 10 * MS);
            let verdict = w.look(at, turns(ms).map_or(Seen::Closed, then), PATIENCE);
            at = match verdict {
                Verdict::Wait(next) | Verdict::Back(next) => next,
                Verdict::TakeOver | Verdict::StandIn => at + 10 * MS,
            };
            if !matches!(verdict, Verdict::Wait(_) | Verdict::StandIn) {
                seen.push((ms, verdict));
            }
        }
        seen
    }

    #[test]
    fn somebody_stands_in_before_linux_gives_up() {
        assert_eq!(patience(40 * MS, 10 * MS), 80 * MS);
        assert_eq!(patience(200 * MS, 10 * MS), 200 * MS);
        assert_eq!(patience(40 * MS, 80 * MS), 120 * MS, "an engine of large quanta is no slow one");
    }

    #[test]
    fn an_engine_that_moves_is_left_alone() {
        assert_eq!(watch(5000, |ms| Some(ms / 10)), []);
        assert_eq!(watch(5000, |ms| Some(ms / 60 * 6)), [], "a hiccup now and then");
    }

    #[test]
    fn an_engine_that_never_moves_is_stood_in_for() {
        assert_eq!(watch(3000, |_| Some(0)), [(70, Verdict::TakeOver)]);
    }

    #[test]
    fn an_engine_that_stops_is_replaced_and_gets_its_stream_back() {
        let seen = watch(5000, |ms| Some(if (2000..3000).contains(&ms) { 200 } else { ms / 10 }));
        assert!(matches!(seen[..], [(2070, Verdict::TakeOver), (3000..=3010, Verdict::Back(_))]), "{seen:?}");
    }

    #[test]
    fn a_stream_that_is_paused_is_nobodys_fault() {
        assert_eq!(watch(9000, |ms| (!(1000..=8000).contains(&ms)).then_some(ms / 10)), []);
    }

    #[test]
    fn a_late_look_proves_nothing() {
        let start = Instant::now();
        let mut w = Watch::new(start);
        let Verdict::Wait(due) = w.look(start, Seen::Turns(1, start), PATIENCE) else { panic!("it has time") };
        assert!(matches!(w.look(due + 500 * MS, Seen::Turns(1, start), PATIENCE), Verdict::Wait(_)));
    }

    #[test]
    fn what_was_given_up_is_stood_in_for_at_once() {
        let start = Instant::now();
        let mut w = Watch::new(start);
        w.look(start, Seen::Turns(7, start), PATIENCE);
        w.give_up();
        assert_eq!(w.look(start + MS, Seen::Turns(7, start), PATIENCE), Verdict::StandIn);
        assert!(matches!(w.look(start + 2 * MS, Seen::Turns(8, start + MS), PATIENCE), Verdict::Back(_)));
    }
}
