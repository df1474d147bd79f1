"""Draws what was heard and when its messages came back. Needs matplotlib, and numpy with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vsnd_hybrid.tools.demo.result import Result

_LEFT, _RIGHT, INK, GRID = "#1f6f8b", "#e07a3f", "#22303c", "#d8dee4"


def draw(result: Result, file: Path) -> None:
    """Write a PNG: the waveform in the file above, each message's deviation from the ideal clock below.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    samples = np.frombuffer(result.heard, dtype="<i2").reshape(-1, 2) / 32768
    with plt.rc_context(style()):
        figure, (left, right, clock) = plt.subplots(
            3, 1, figsize=(10, 6), sharex=True, height_ratios=(2, 2, 3), layout="constrained"
        )
        step = result.rate // 200
        usable = len(samples) // step * step
        blocks = samples[:usable].reshape(-1, step, 2)
        at = np.arange(len(blocks)) * step / result.rate
        for channel, axes, colour, name in ((0, left, _LEFT, "left"), (1, right, _RIGHT, "right")):
            low, high = blocks[:, :, channel].min(axis=1), blocks[:, :, channel].max(axis=1)
            axes.fill_between(at, low, high, color=colour, linewidth=0)
            axes.set_ylim(-1, 1)
            axes.set_ylabel(name)
        match = result.played
        exact = "bit-exact" if match.exact else "NOT bit-exact"
        left.set_title(
            f"{match.sent:,} frames sent by the guest, {match.found:,} found in the file: {exact}", loc="left"
        )

        deviations = np.asarray(result.deviations_ms())
        period_ms = result.period_frames / result.rate * 1000
        times = np.asarray(result.completions_s) - result.completions_s[0]
        clock.axhline(0, color=INK, linewidth=0.8)
        clock.plot(times, deviations, ".", color=_LEFT, markersize=4, alpha=0.8)
        limit = max(1.0, float(np.abs(deviations).max()) * 1.2)
        clock.set_ylim(-limit, limit)
        clock.set_title(
            f"{result.periods} messages of {period_ms:.1f} ms came back: "
            f"deviation from the ideal clock, 95 % within {np.percentile(np.abs(deviations), 95):.2f} ms",
            loc="left",
        )
        clock.set_ylabel("ms")
        clock.set_xlabel("seconds")
        for axes in (left, right, clock):
            axes.grid(axis="y", color=GRID, linewidth=0.6)
            axes.set_axisbelow(True)
            axes.margins(x=0.01)
        figure.savefig(file, dpi=110)
        plt.close(figure)


def style() -> Any:
    """matplotlib's parameters; their type names every one that there is."""
    ink = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(ink, INK),
        "axes.edgecolor": GRID,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 12,
        "font.size": 10,
    }
