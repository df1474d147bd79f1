"""The result as a report in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vsnd_hybrid.tools.bench import budgets, table
from vsnd_hybrid.tools.bench.result import Result, date


def report(result: Result, pictures: Iterable[Path]) -> str:
    """Everything: where, who, a line a scenario, what failed, the pictures, and every figure."""
    m = result.machine
    first = result.contenders[0].name
    parts = [
        "# Benchmark",
        f"vsnd-hybrid {result.version}, {date(result)}, Linux {m.kernel}, {m.cpu}, {m.cores} cores, load {m.load}.",
        f"On it a wake-up costs a thread {m.wakeup_us:g} µs of CPU time, and a write that wakes another up {m.signal_us:g} µs.",
        f"{result.repeats} repeats of {result.seconds:g} s, everybody in turn. Medians; × is the ratio to {first}.",
        "In brackets the range of that ratio over the repeats.",
        "\n".join(f"* **{c.name}**: `{c.command}`" for c in result.contenders if not c.again),
    ]
    if noise := next((c.name for c in result.contenders if c.again), None):
        parts.append(f"**{noise}** is {first} once more: what its column differs from ×1.00 by is noise.")
    if result.interrupted:
        parts.append("It was ended before all scenarios were through.")
    if lines := budgets.grid(result):
        parts += ["## Budgets", _grid(lines)]
    parts += ["## In short", _grid(table.summary(result.outcomes))]
    if failed := [f"* {o.scenario}, {e.contender}: {'; '.join(e.errors)}" for o, e in result.failures()]:
        parts += ["## What failed", "\n".join(failed)]
    parts += [f"![{path.stem}]({path.name})" for path in pictures]
    parts.append("## Every figure")
    for outcome in result.outcomes:
        parts.append(f"### {outcome.scenario}\n\n{outcome.title[0].upper()}{outcome.title[1:]}.")
        rows = [[row.name, *row.cells] for row in table.rows(outcome)]
        parts.append(_grid([["", *table.headings(outcome)], *rows]))
        if remarks := table.remarks(outcome):
            parts.append("\n".join(f"* {line}" for line in remarks))
    return "\n\n".join(parts) + "\n"


def _grid(lines: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "|".join(["---", *["---:"] * (len(lines[0]) - 1)]) + "|"
    return "\n".join([row(lines[0]), rule, *map(row, lines[1:])])
