"""The arithmetic of measurements: percentiles, a line through completions, medians and ratios. Standard library only."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of them lie, interpolated between neighbours. ValueError if there are none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    at = (len(ordered) - 1) * percent / 100
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


class Spread(NamedTuple):
    """How values are spread."""

    p50: float
    p99: float
    p999: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """ValueError if there are none."""
        return cls(percentile(values, 50), percentile(values, 99), percentile(values, 99.9), max(values))


class Line(NamedTuple):
    """A straight line through points, by least squares: y = offset + slope * x."""

    offset: float
    slope: float

    @classmethod
    def through(cls, xs: Sequence[float], ys: Sequence[float]) -> Line:
        """ValueError with fewer than two different x."""
        if len(set(xs)) < 2:
            raise ValueError("a line needs two points")
        slope, offset = statistics.linear_regression(xs, ys)
        return cls(offset, slope)


class Pace(NamedTuple):
    """How evenly a stream's messages came back."""

    #: Microseconds between one completion and the next.
    intervals_us: list[float]
    #: Microseconds by which each was beside the stream's own even clock, either way.
    jitter_us: list[float]
    #: How much faster than the nominal rate the stream ran, in millionths.
    error_ppm: float

    @classmethod
    def of(cls, done_ns: Sequence[int], frames: Sequence[int], rate: int) -> Pace:
        """Of completions in order, with the frames of each message. ValueError with fewer than three."""
        if len(done_ns) < 3:
            raise ValueError(f"{len(done_ns) or 'no'} messages came back")
        base, played = done_ns[0], 0
        at_s, sound_s = [], []
        for at, count in zip(done_ns, frames, strict=True):
            played += count
            at_s.append((at - base) / 1e9)
            sound_s.append(played / rate)
        line = Line.through(sound_s, at_s)
        offsets = [at - line.slope * sound for at, sound in zip(at_s, sound_s, strict=True)]
        middle = statistics.median(offsets)
        return cls(
            [(b - a) / 1000 for a, b in pairwise(done_ns)],
            [abs(offset - middle) * 1e6 for offset in offsets],
            (1 / line.slope - 1) * 1e6,
        )


class Ratio(NamedTuple):
    """One contender against the first, and what the repeats say about how far that can be trusted."""

    #: Median against median.
    value: float
    #: The smallest and the largest of the ratios within one repeat.
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float | None], against: Sequence[float | None]) -> Ratio | None:
        """Of repeats in pairs; None where one failed. None if there is no pair, or the first one's median is 0."""
        mine = [v for v in values if v is not None]
        base = [v for v in against if v is not None]
        if not mine or not base or not statistics.median(base):
            return None
        middle = statistics.median(mine) / statistics.median(base)
        pairs = [a / b for a, b in zip(values, against, strict=False) if a is not None and b]
        return cls(middle, min([*pairs, middle]), max([*pairs, middle]))
