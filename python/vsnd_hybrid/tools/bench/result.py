"""What a bench found out, as it is kept in JSON. Reading it again checks it: `msgspec.json.decode(data, type=Result)`."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from vsnd_hybrid.tools.bench.numbers import Ratio
from vsnd_hybrid.tools.bench.wakeup import wakeup_us

#: Raised when the meaning of a field changes.
FORMAT = 1


class Machine(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where it was measured."""

    cpu: str
    cores: int
    kernel: str
    python: str
    #: Others that ran: the one-minute load at the beginning.
    load: float
    #: CPU time in µs of a thread that sleeps once, and of a write that wakes another process up.
    wakeup_us: float
    signal_us: float


class Measurement(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One run of one contender."""

    values: dict[str, float] = {}
    notes: list[str] = []
    #: Why there are no figures; one line.
    error: str | None = None
    #: There is nothing of this kind in the contender: no failure.
    unsupported: bool = False


class Entry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """All runs of one contender in one scenario."""

    contender: str
    runs: list[Measurement] = []
    #: Of all runs together, for histograms.
    series: dict[str, list[float]] = {}

    @property
    def keys(self) -> list[str]:
        """Figures that any run has, in order."""
        return list(dict.fromkeys(key for run in self.runs for key in run.values))

    def column(self, key: str) -> list[float | None]:
        """A figure in every run; None where there is none."""
        return [run.values.get(key) for run in self.runs]

    def median(self, key: str) -> float | None:
        values = [value for value in self.column(key) if value is not None]
        return statistics.median(values) if values else None

    @property
    def unsupported(self) -> bool:
        return any(run.unsupported for run in self.runs)

    @property
    def errors(self) -> list[str]:
        """Why runs failed, each reason once."""
        return list(dict.fromkeys(run.error for run in self.runs if run.error))

    @property
    def notes(self) -> list[str]:
        return list(dict.fromkeys(note for run in self.runs for note in run.notes))


class Outcome(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One scenario with everybody's runs; the first entry is what the others are compared with."""

    scenario: str
    group: str
    title: str
    engine: str
    figure: str
    parameters: dict[str, str | int]
    entries: list[Entry]

    def entry(self, contender: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.contender == contender), None)

    def ratio(self, contender: str, key: str) -> Ratio | None:
        """Of a contender's figure to the first one's."""
        entry = self.entry(contender)
        return Ratio.of(entry.column(key), self.entries[0].column(key)) if entry else None


class Command(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A contender."""

    name: str
    command: str
    again: bool = False


class Result(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A whole bench."""

    format: int = FORMAT
    version: str
    #: Seconds since the epoch.
    when: float
    machine: Machine
    repeats: int
    seconds: float
    contenders: list[Command]
    outcomes: list[Outcome] = []
    #: It was ended before all scenarios were through.
    interrupted: bool = False

    def failures(self) -> Iterator[tuple[Outcome, Entry]]:
        """Entries that were tried and of which no run has figures."""
        for outcome in self.outcomes:
            for entry in outcome.entries:
                if not entry.unsupported and not any(run.values for run in entry.runs):
                    yield outcome, entry


def machine() -> Machine:
    """This one. Takes about a second."""
    cpu = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass
    load = round(os.getloadavg()[0], 2)
    wakeup, signal = wakeup_us()
    return Machine(
        cpu=cpu,
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
        load=load,
        wakeup_us=round(wakeup, 1),
        signal_us=round(signal, 1),
    )


def date(result: Result) -> str:
    """The day, in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(result.when))


def write(result: Result, path: Path) -> None:
    """As JSON; a file that is there is replaced in one step. OSError."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(msgspec.json.encode(result))
    beside.replace(path)


def read(path: Path) -> Result:
    """From JSON. OSError, `msgspec.DecodeError`."""
    return msgspec.json.decode(path.read_bytes(), type=Result)
