"""The project's budgets: what a figure may be at most, by itself or against the rival or the floor in the same run."""

from __future__ import annotations

from typing import Final, NamedTuple

from vsnd_hybrid.tools.bench.contenders import FLOOR
from vsnd_hybrid.tools.bench.figures import text
from vsnd_hybrid.tools.bench.result import Result


class Budget(NamedTuple):
    """One line: `figure` of the first contender in `scenario` is at most `limit`, or so many times that of `against`.

    Without a limit the line only informs.
    """

    what: str
    scenario: str
    figure: str
    limit: float | None
    #: The contender whose figure is the measure, and the scenario in which it is taken if that is another one.
    against: str | None = None
    elsewhere: str | None = None


RIVAL: Final = "rival"

BUDGETS: Final = (
    Budget("CPU a buffer, flood, given back unread", "flood-64-indirect", "cpu_ns_per_buffer", 0.4, RIVAL),
    Budget("the same with 16 in flight", "flood-16-indirect", "cpu_ns_per_buffer", 0.4, RIVAL),
    Budget(
        "CPU a buffer, flood, copied out (the rival does not copy)",
        "flood-copied-64-indirect",
        "cpu_ns_per_buffer",
        0.6,
        RIVAL,
        "flood-64-indirect",
    ),
    Budget("kicks a period, playing", "pipewire-480x4-out", "kicks_per_period", 0.0),
    Budget("signals a period, PipeWire 1024x2", "pipewire-1024x2-out", "signals_per_period", 1.0),
    Budget("CPU, PipeWire 1024x2", "pipewire-1024x2-out", "cpu_ms_per_s", 0.33, RIVAL),
    Budget("context switches a period, PipeWire 1024x2", "pipewire-1024x2-out", "switches_per_period", 1.0),
    Budget("CPU, PipeWire 480x4 at quantum 256", "pipewire-480x4-low-out", "cpu_ms_per_s", 0.75, RIVAL),
    Budget(
        "context switches a period, PipeWire 480x4 at quantum 256",
        "pipewire-480x4-low-out",
        "switches_per_period",
        1.0,
        FLOOR,
    ),
    Budget("CPU, PipeWire 480x4 at quantum 256, against pw-cat", "pipewire-480x4-low-out", "cpu_ms_per_s", 1.2, FLOOR),
    Budget("CPU, PipeWire 480x4 at the default latency", "pipewire-480x4-out", "cpu_ms_per_s", None, RIVAL),
    Budget("the same, against pw-cat at that latency", "pipewire-480x4-out", "cpu_ms_per_s", None, FLOOR),
    Budget("CPU, PipeWire 1024x2, against pw-cat", "pipewire-1024x2-out", "cpu_ms_per_s", 1.2, FLOOR),
    *(
        Budget(f"frames lost, {shape}", f"lost-{shape}-out", "frames_lost", 0.0)
        for shape in ("480x4", "480x2", "1024x2", "128x4", "480x3")
    ),
    *(
        Budget(f"frames of silence in gaps, {shape}", f"lost-{shape}-out", "gap_frames", 0.0)
        for shape in ("480x4", "480x2", "1024x2", "480x3")
    ),
    *(
        Budget(f"{what}, {shape} at a quantum fixed at 1024", f"lost-{shape}-fixed-out", figure, 0.0)
        for what, figure in (("frames lost", "frames_lost"), ("frames of silence in gaps", "gap_frames"))
        for shape in ("480x2", "480x3")
    ),
    Budget("frames lost, capture 480x4", "lost-480x4-in", "frames_lost", 0.0),
    Budget("command → socket accepts, ms", "startup", "start_ms", 60.0),
    Budget("RSS playing, null, MB", "null-480x4-out", "rss_mb", 18.0),
    Budget("RSS playing, PipeWire, MB", "pipewire-480x4-out", "rss_mb", 24.0),
    Budget("request round trip, warm p50, µs", "control", "control_p50_us", 40.0),
    Budget("wake-ups of an idle guest a second", "idle", "wakeups_per_s", 0.0),
    Budget("underruns at 128x4, busy thread in the daemon", "isolation-128x4-busy", "xruns", 0.0),
    Budget("underruns at 128x4, collecting heap in the daemon", "isolation-128x4-collecting", "xruns", 0.0),
)

#: What is still called met: single switches and kicks at the edges of a window are none a period.
_SLACK: Final = {
    "kicks_per_period": 0.005,
    "switches_per_period": 0.05,
    "signals_per_period": 0.03,
    "wakeups_per_s": 0.5,
}


class Verdict(NamedTuple):
    """A budget with what was measured."""

    budget: Budget
    #: The first contender's figure, and that which it is measured by.
    value: float
    measure: float | None
    #: The figure, or the ratio, that has a limit; None if what it is measured by is missing.
    reached: float | None

    @property
    def met(self) -> bool | None:
        """None: cannot be told."""
        if self.reached is None or self.budget.limit is None:
            return None
        return self.reached <= self.budget.limit + _SLACK.get(self.budget.figure, 0.0)


def scenarios() -> set[str]:
    """The scenarios that are needed."""
    return {name for b in BUDGETS for name in (b.scenario, b.elsewhere) if name}


def verdicts(result: Result) -> list[Verdict]:
    """For every budget whose scenario was measured."""
    found = []
    for budget in BUDGETS:
        value = _median(result, budget.scenario, None, budget.figure)
        if value is None:
            continue
        measure = None
        reached: float | None = value
        if budget.against:
            measure = _median(result, budget.elsewhere or budget.scenario, budget.against, budget.figure)
            reached = value / measure if measure else None
        found.append(Verdict(budget, value, measure, reached))
    return found


def _median(result: Result, scenario: str, contender: str | None, figure: str) -> float | None:
    """Of a contender, or of the first."""
    for outcome in result.outcomes:
        if outcome.scenario == scenario:
            entry = outcome.entry(contender) if contender else outcome.entries[0]
            return entry.median(figure) if entry else None
    return None


def grid(result: Result) -> list[list[str]]:
    """Rows for a table with their head; empty where no budget's scenario was measured."""
    lines = []
    for v in verdicts(result):
        b = v.budget
        if b.limit is None:
            limit = "(for information)"
        else:
            limit = f"{b.limit:g} × {b.against}" if b.against else text(b.figure, b.limit)
        beside = f"{text(b.figure, v.measure)} ({b.against})" if v.measure is not None else ""
        reached = "" if not b.against or v.reached is None else f"×{v.reached:.2f}"
        untold = f"no {b.against}" if v.reached is None else ""
        met = {True: "met", False: "MISSED", None: untold}[v.met]
        lines.append([b.what, text(b.figure, v.value), beside, reached, limit, met])
    first = result.contenders[0].name
    return [["budget", first, "measured by", "ratio", "at most", ""], *lines] if lines else []
