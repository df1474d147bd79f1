"""The result as rows, and as tables in the terminal: with rich if it is installed, else plainly."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vsnd_hybrid.tools.bench.figures import FIGURES, text
from vsnd_hybrid.tools.bench.numbers import Ratio
from vsnd_hybrid.tools.bench.result import Entry, Outcome


class Row(NamedTuple):
    """A figure of a scenario: its name and a cell for everybody."""

    name: str
    cells: list[str]


def ratio_text(ratio: Ratio | None) -> str:
    """A ratio with its spread, or nothing."""
    if ratio is None:
        return ""
    spread = "" if ratio.low == ratio.high else f" ({_short(ratio.low)}-{_short(ratio.high)})"
    return f"×{_short(ratio.value)}{spread}"


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"


def headings(outcome: Outcome) -> list[str]:
    """Everybody's name."""
    return [entry.contender for entry in outcome.entries]


def rows(outcome: Outcome) -> list[Row]:
    """Every figure that anybody has; the scenario's own if nobody has any."""
    present = {key for entry in outcome.entries for key in entry.keys} or {outcome.figure}
    wanted = [key for key in FIGURES if key in present]
    return [Row(FIGURES[key].title, [_cell(outcome, entry, key) for entry in outcome.entries]) for key in wanted]


def remarks(outcome: Outcome) -> list[str]:
    """What failed, and notes; one line each."""
    lines = []
    for entry in outcome.entries:
        failed = sum(run.error is not None for run in entry.runs)
        for error in entry.errors:
            count = "" if entry.unsupported else f"failed {failed} of {len(entry.runs)}: "
            lines.append(f"{entry.contender}: {count}{error}")
        lines += [f"{entry.contender}: {note}" for note in entry.notes]
    return lines


def _cell(outcome: Outcome, entry: Entry, key: str) -> str:
    median = entry.median(key)
    if median is None:
        if entry.keys or not entry.errors:
            return "-"
        return "n/a" if entry.unsupported else "failed"
    if entry is outcome.entries[0] or not FIGURES[key].ratio:
        return text(key, median)
    return f"{text(key, median)}  {ratio_text(outcome.ratio(entry.contender, key))}".rstrip()


def show(outcome: Outcome) -> None:
    """One scenario's table on standard output, followed by its remarks."""
    title = f"{outcome.scenario}: {outcome.title}"
    grid = [["", *headings(outcome)], *([row.name, *row.cells] for row in rows(outcome))]
    print()
    _print(title, grid)
    for line in remarks(outcome):
        print(f"  {line}")
    sys.stdout.flush()


def summary(outcomes: Iterable[Outcome]) -> list[list[str]]:
    """A line a scenario: its own figure for everybody."""
    outcomes = list(outcomes)
    names = list(dict.fromkeys(entry.contender for outcome in outcomes for entry in outcome.entries))
    lines = [["scenario", "figure", *names]]
    for outcome in outcomes:
        cells = []
        for name in names:
            entry = outcome.entry(name)
            cells.append(_cell(outcome, entry, outcome.figure) if entry else "")
        lines.append([outcome.scenario, FIGURES[outcome.figure].title, *cells])
    return lines


def print_grid(title: str, grid: Sequence[Sequence[str]]) -> None:
    """A table whose first row is its head."""
    print()
    _print(title, grid)


def _print(title: str, grid: Sequence[Sequence[str]]) -> None:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(title)
        widths = [max(len(row[i]) for row in grid) for i in range(len(grid[0]))]
        for row in grid:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(grid[0]):
        table.add_column(name, justify="right" if i else "left", no_wrap=True, style="bold" if not i else None)
    for row in grid[1:]:
        table.add_row(*(f"[red]{cell}[/red]" if cell == "failed" else cell for cell in row))
    # A log file has no width: nothing is cut off there.
    Console(width=None if sys.stdout.isatty() else 240).print(table)
