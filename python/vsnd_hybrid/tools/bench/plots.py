"""The result as pictures: bars of ratios, and histograms of completion intervals and latency. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vsnd_hybrid.tools.bench.figures import FIGURES, SERIES
from vsnd_hybrid.tools.bench.numbers import percentile
from vsnd_hybrid.tools.bench.result import Outcome, Result
from vsnd_hybrid.tools.demo.picture import GRID, INK, style

_COLOURS = ("#1f6f8b", "#e07a3f", "#7a9e3f", "#8b5f9e", "#b0485a")
_NOISE = "#9aa7b3"
_FORMATS = ("png", "svg")


def draw(result: Result, directory: Path) -> list[Path]:
    """Write what there is to be drawn; returns the PNG files. ImportError without matplotlib, OSError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    files = []
    with plt.rc_context({**style(), "font.size": 9, "svg.hashsalt": "vsnd-hybrid"}):
        figure = _ratios(plt, result)
        if figure is not None:
            files.append(_save(plt, figure, directory / "ratios"))
        for name in SERIES:
            figure = _histograms(plt, result, name)
            if figure is not None:
                files.append(_save(plt, figure, directory / name.rpartition("_")[0].replace("_", "-")))
    return files


def _save(plt: Any, figure: Any, path: Path) -> Path:
    for kind in _FORMATS:
        figure.savefig(path.with_suffix(f".{kind}"), dpi=110)
    plt.close(figure)
    return path.with_suffix(".png")


def _colour(result: Result, name: str) -> str:
    contenders = result.contenders
    if any(c.again for c in contenders if c.name == name):
        return _NOISE
    names = [c.name for c in contenders if not c.again]
    return _COLOURS[(names.index(name) if name in names else len(names)) % len(_COLOURS)]


def _ratios(plt: Any, result: Result) -> Any:
    """A bar for everybody but the first in each scenario: its own figure, as a multiple of the first one's."""
    bars = []
    for outcome in result.outcomes:
        if not FIGURES[outcome.figure].ratio:
            continue
        for entry in outcome.entries[1:]:
            ratio = outcome.ratio(entry.contender, outcome.figure)
            if ratio is not None and ratio.value > 0:
                bars.append((outcome, entry.contender, ratio))
    if not bars:
        return None
    figure, axes = plt.subplots(figsize=(10, 1.2 + 0.26 * len(bars)), layout="constrained")
    labelled: set[str] = set()
    for i, (_, name, ratio) in enumerate(bars):
        axes.barh(
            -i, ratio.value, height=0.7, color=_colour(result, name), label=None if name in labelled else name,
            xerr=[[ratio.value - ratio.low], [ratio.high - ratio.value]],
            error_kw={"ecolor": INK, "elinewidth": 0.8},
        )  # fmt: skip
        labelled.add(name)
        axes.annotate(f" ×{ratio.value:.2f}", (max(ratio.value, ratio.high), -i), va="center", fontsize=8)
    axes.axvline(1, color=INK, linewidth=1)
    titles = [f"{o.scenario}, {FIGURES[o.figure].title}" for o, _, _ in bars]
    axes.set_yticks([-i for i in range(len(bars))], titles, fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("×{x:g}")
    axes.set_ylim(-len(bars) + 0.4, 0.6)
    axes.set_title(f"as a multiple of {result.contenders[0].name} (bars: the range over the repeats)", loc="left")
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3 / len(bars) - 0.02), ncols=4, frameon=False)
    return figure


def _histograms(plt: Any, result: Result, name: str) -> Any:
    """A histogram for each scenario that has this series, everybody in it."""
    outcomes = [o for o in result.outcomes if any(e.series.get(name) for e in o.entries)]
    if not outcomes:
        return None
    across = 2 if len(outcomes) > 1 else 1
    down = (len(outcomes) + across - 1) // across
    figure, grid = plt.subplots(down, across, figsize=(5.5 * across, 2.6 * down), layout="constrained", squeeze=False)
    cells: Sequence[Any] = grid.flatten()
    for axes, outcome in zip(cells, outcomes, strict=False):
        _histogram(axes, result, outcome, name)
    for axes in cells[len(outcomes) :]:
        axes.set_visible(False)
    return figure


def _histogram(axes: Any, result: Result, outcome: Outcome, name: str) -> None:
    again = {c.name for c in result.contenders if c.again}
    drawn = [e for e in outcome.entries if e.series.get(name) and e.contender not in again]
    every = [value for entry in drawn for value in entry.series[name]]
    low, high = percentile(every, 0.1), percentile(every, 99.9)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    for entry in drawn:
        axes.hist(
            [min(max(value, low), high) for value in entry.series[name]], bins=60, range=(low, high), density=True,
            histtype="stepfilled", alpha=0.55, color=_colour(result, entry.contender), label=entry.contender,
        )  # fmt: skip
    axes.set_yscale("log")
    axes.tick_params(axis="y", which="both", left=False, labelleft=False)
    axes.set_title(outcome.scenario, loc="left", fontsize=10)
    axes.set_xlabel(f"{SERIES[name].title}, {SERIES[name].unit}")
    axes.legend(frameon=False, fontsize=8)
