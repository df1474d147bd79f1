"""Runs scenarios: everybody in turn, A B A B, and again; what fails is a line of the result and stops nobody else."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from vsnd_hybrid.guest import GuestError
from vsnd_hybrid.tools.bench.contenders import FLOOR, Contender, Unsupported
from vsnd_hybrid.tools.bench.context import Context, Sessions
from vsnd_hybrid.tools.bench.daemon import Failed
from vsnd_hybrid.tools.bench.result import Entry, Measurement, Outcome
from vsnd_hybrid.tools.bench.scenario import Figures, Scenario

#: A contender that failed so often in a row is left out of the rest of a scenario.
_GIVE_UP = 2
#: Enough for a histogram.
_SERIES_MAX = 20_000

#: Told before each measurement: scenario, contender, number of the repeat.
Progress = Callable[[Scenario, str, int], None]


def run(
    scenarios: Sequence[Scenario],
    contenders: Sequence[Contender],
    *,
    repeats: int,
    seconds: float,
    syscalls: bool,
    progress: Progress,
) -> Generator[Outcome]:
    """Measure; yields each scenario's outcome when it is through."""
    with closing(Sessions()) as sessions:
        for scenario in scenarios:
            yield _scenario(scenario, contenders, sessions, repeats, seconds, syscalls, progress)


def _scenario(
    scenario: Scenario,
    contenders: Sequence[Contender],
    sessions: Sessions,
    repeats: int,
    seconds: float,
    syscalls: bool,
    progress: Progress,
) -> Outcome:
    turns = [(contender, scenario.measure) for contender in contenders]
    if scenario.floor:
        turns.append((Contender(FLOOR, FLOOR), scenario.floor))
    entries = [Entry(contender=contender.name) for contender, _ in turns]
    for repeat in range(repeats):
        for (contender, measure), entry in zip(turns, entries, strict=True):
            last = entry.runs[-_GIVE_UP:]
            if entry.unsupported or (len(last) == _GIVE_UP and all(run.error for run in last)):
                continue
            progress(scenario, contender.name, repeat)
            figures = _attempt(Context(scenario, contender, seconds, sessions), measure)
            if isinstance(figures, Measurement):
                entry.runs.append(figures)
                continue
            entry.runs.append(Measurement(values=figures.values, notes=figures.notes))
            for name, values in figures.series.items():
                room = max(0, _SERIES_MAX - len(entry.series.get(name, ())))
                entry.series.setdefault(name, []).extend(round(value, 3) for value in values[:room])
    if syscalls and scenario.group.startswith("paced"):
        for (contender, measure), entry in zip(turns, entries, strict=True):
            if contender.again or contender.name == FLOOR or not any(run.values for run in entry.runs):
                continue
            progress(scenario, contender.name, repeats)
            figures = _attempt(Context(scenario, contender, min(1.0, seconds), sessions, counting=True), measure)
            good = next(run for run in entry.runs if run.values)
            if isinstance(figures, Measurement):
                good.notes.append(f"system calls not counted: {figures.error}")
            else:
                good.values |= figures.values
                good.notes += figures.notes
    return Outcome(
        scenario=scenario.name,
        group=scenario.group,
        title=scenario.title,
        engine=scenario.engine,
        figure=scenario.figure,
        parameters=dict(scenario.parameters),
        entries=entries,
    )


def _attempt(context: Context, measure: Callable[[Context], Figures]) -> Figures | Measurement:
    """Figures, or why there are none."""
    try:
        return measure(context)
    except Unsupported as error:
        return Measurement(error=str(error), unsupported=True)
    except (Failed, GuestError, TimeoutError, OSError, ValueError) as error:
        return Measurement(error=" ".join(str(error).split()) or type(error).__name__)
    except ImportError as error:
        return Measurement(error=f"{error.name} is not installed: pip install 'vsnd-hybrid[bench]'")
