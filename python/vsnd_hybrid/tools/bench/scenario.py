"""What a scenario is, and what one measurement of it yields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vsnd_hybrid.tools.bench.context import Context

#: Engines in which Python is kept busy inside the daemon.
BUSY: Final = ("busy", "collecting")
#: PipeWire at a choice of `backends.latency`, by the engine's word.
PIPEWIRE: Final = {"pipewire": "balanced", "pipewire-low": "low"}
#: Engines that are in the bench's own PipeWire session.
IN_SESSION: Final = (*PIPEWIRE, *BUSY)


@dataclass(frozen=True, slots=True)
class Shape:
    """A stream's periods: frames of one, periods of the buffer. S16 stereo at 48 kHz."""

    period_frames: int
    periods: int

    def __str__(self) -> str:
        return f"{self.period_frames}x{self.periods}"


@dataclass(slots=True)
class Figures:
    """One measurement: figures by their keys (see `figures`), and series for the histograms."""

    values: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)
    #: What went wrong although there are figures, or how something was measured. One line each.
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Something to measure."""

    name: str
    group: str
    title: str
    #: What a daemon is asked to use, a word of `contenders.OURS`.
    engine: str
    #: The figure that stands for it in plots and in the short table.
    figure: str
    measure: Callable[[Context], Figures]
    outputs: int = 1
    inputs: int = 1
    #: Takes part in ``--quick``.
    quick: bool = False
    #: Runs only if its name, or a pattern of it, is given.
    on_request: bool = False
    #: The floor: what pw-cat needs for the same, if that can be told.
    floor: Callable[[Context], Figures] | None = None
    #: Seconds besides the measured ones that a measurement may take before it is ended.
    patience_s: float = 15.0
    parameters: Mapping[str, str | int] = field(default_factory=dict)
