"""``vsnd-hybrid bench``: what any vhost-user sound device costs and how true it is, beside others in the same run.

A native load generator (`vsnd_hybrid.guest`) drives each daemon over its socket. Daemons are started anew for every
measurement and take turns; the first one is measured once more in every round, to see what noise is.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vsnd_hybrid.service.errors import ServiceError
from vsnd_hybrid.tools.bench import budgets, catalogue, contenders, markdown, runner, table
from vsnd_hybrid.tools.bench.result import Command, Result, machine, write
from vsnd_hybrid.tools.bench.scenario import Scenario

INSTALL = "pip install 'vsnd-hybrid[bench]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says."""

    commands: Sequence[str] = ()
    scenarios: Sequence[str] = ()
    repeats: int | None = None
    seconds: float | None = None
    quick: bool = False
    noise: bool = True
    syscalls: bool = True
    directory: Path = Path("bench")
    json: Path | None = None


def listing() -> str:
    """The scenarios by group."""
    lines = [f"{catalogue.BUDGETS}: those that the project's budgets need"]
    group = ""
    for scenario in catalogue.catalogue():
        if scenario.group != group:
            group = scenario.group
            lines.append(f"{group}:")
        when = " (quick)" if scenario.quick else " (on request)" if scenario.on_request else ""
        lines.append(f"  {scenario.name:<28} {scenario.title}{when}")
    return "\n".join(lines)


def run(options: Options) -> int:
    """Measure and report. Returns 0; 1 if the first contender failed in any scenario; 130 after Ctrl-C or SIGTERM.

    Raises
    ------
    ServiceError
        The options make no sense, or a file cannot be written. The message is one line.
    """
    from vsnd_hybrid import __version__

    chosen = contenders.chosen(options.commands)
    scenarios = catalogue.select(options.scenarios, quick=options.quick)
    everybody = [chosen[0], *chosen[1:], *([contenders.again(chosen[0])] if options.noise else [])]
    result = Result(
        version=__version__,
        when=time.time(),
        machine=machine(),
        repeats=options.repeats or (2 if options.quick else 3),
        seconds=options.seconds or (0.5 if options.quick else 2.0),
        contenders=[Command(name=c.name, command=c.command, again=c.again) for c in everybody],
    )
    file = options.json or options.directory / "bench.json"
    try:
        options.directory.mkdir(parents=True, exist_ok=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        _measure(result, scenarios, everybody, file, syscalls=options.syscalls and not options.quick)
        _report(result, options.directory, file)
    except OSError as error:
        raise ServiceError(f"cannot write {error.filename or options.directory}: {error.strerror or error}") from error
    if result.interrupted:
        return 130
    return int(any(entry.contender == chosen[0].name for _, entry in result.failures()))


def _measure(
    result: Result,
    scenarios: Sequence[Scenario],
    everybody: Sequence[contenders.Contender],
    file: Path,
    *,
    syscalls: bool,
) -> None:
    number = {scenario.name: i for i, scenario in enumerate(scenarios, start=1)}

    def progress(scenario: Scenario, name: str, repeat: int) -> None:
        if sys.stderr.isatty():
            line = f"[{number[scenario.name]}/{len(scenarios)}] {scenario.name}, {name}, {repeat + 1}"
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    outcomes = runner.run(
        scenarios,
        everybody,
        repeats=result.repeats,
        seconds=result.seconds,
        syscalls=syscalls,
        progress=progress,
    )
    # SIGTERM ends it as Ctrl-C does: with a report, and nothing left behind.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for outcome in outcomes:
            result.outcomes.append(outcome)
            # What there is so far is kept, whatever ends this.
            write(result, file)
            if sys.stderr.isatty():
                print("\r\033[K", end="", file=sys.stderr, flush=True)
            table.show(outcome)
    except KeyboardInterrupt:
        result.interrupted = True
    finally:
        outcomes.close()
        signal.signal(signal.SIGTERM, before)


def _report(result: Result, directory: Path, file: Path) -> None:
    write(result, file)
    table.print_grid("in short", table.summary(result.outcomes))
    if lines := budgets.grid(result):
        table.print_grid("budgets", lines)
    pictures: list[Path] = []
    try:
        from vsnd_hybrid.tools.bench.plots import draw

        pictures = draw(result, directory)
    except ImportError as error:
        print(f"\nno pictures: {error.name} is not installed: {INSTALL}")
    report = directory / "report.md"
    report.write_text(markdown.report(result, pictures))
    print(f"\n{report}, {file}" + (f", {len(pictures)} pictures beside it" if pictures else ""))


__all__ = ["INSTALL", "Options", "listing", "run"]
