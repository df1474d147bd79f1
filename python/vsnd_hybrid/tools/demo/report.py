"""What the demo shows: progress, a table, the way to a guest of one's own. With rich if it is installed, else plainly."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vsnd_hybrid.tools.demo.result import Match, Result

INSTALL = "pip install 'vsnd-hybrid[demo]'"


def missing() -> list[str]:
    """The packages of the extra that are not installed."""
    from importlib.util import find_spec

    return [name for name in ("rich", "matplotlib", "numpy") if find_spec(name) is None]


@contextmanager
def progress(what: str, seconds: float) -> Iterator[Callable[[float], None]]:
    """A bar for something that lasts `seconds`; yields what moves it to a number of seconds."""
    try:
        from rich.progress import BarColumn, Progress, TextColumn
    except ImportError:
        print(f"{what} ({seconds:.1f} s)", flush=True)
        yield lambda at: None
        return
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TextColumn("{task.completed:4.1f} of {task.total:.1f} s"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(what, total=seconds)
        yield lambda at: bar.update(task, completed=min(at, seconds))
        bar.update(task, completed=seconds)


def table(result: Result) -> None:
    """The measurements, one a line."""
    rows = _rows(result)
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            print(f"  {name:<{width}}  {value}")
        return
    grid = Table(title="vsnd-hybrid demo", title_justify="left", show_header=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, value in rows:
        colour = "[red]" if "NOT bit-exact" in value else "[green]" if "bit-exact" in value else ""
        grid.add_row(name, f"{colour}{value}")
    # A log file has no width: nothing is cut off there.
    Console(width=None if sys.stdout.isatty() else 110).print(grid)


def _rows(result: Result) -> list[tuple[str, str]]:
    period_ms = result.period_frames / result.rate * 1000
    deviations = sorted(abs(value) for value in result.deviations_ms())
    latency = result.latency_ms
    return [
        ("frames played", _match(result.played, "sent", "found in the WAV")),
        ("frames recorded", _match(result.recorded, "in the WAV", "found in the recording")),
        ("periods played", f"{result.periods} of {result.period_frames} frames ({period_ms:.0f} ms)"),
        ("kicks a period", f"{result.kicks / result.periods:.2f} ({result.kicks} in all)"),
        ("signals a period", f"{result.signals / result.periods:.2f} ({result.signals} in all)"),
        ("under- and overruns", str(result.xruns)),
        ("latency told", f"{statistics.median(latency):.1f} ms (median), {max(latency):.1f} ms (largest)"),
        ("against the ideal clock", f"95 % within {deviations[int(len(deviations) * 0.95)]:.2f} ms"),
        ("CPU of the daemon", f"{result.cpu_ms_per_s:.1f} ms a second"),
        ("files", f"{', '.join(file.name for file in result.files)} in {result.files[0].parent}"),
    ]


def _match(match: Match, sent: str, found: str) -> str:
    exact = "bit-exact" if match.exact else "NOT bit-exact"
    return f"{match.sent} {sent}, {match.found} {found}: {exact}"


def own_guest(directory: Path) -> None:
    """How to hear a guest of one's own under QEMU."""
    print(f"""
A guest of your own, under QEMU (its memory has to be shared; Linux has the driver, virtio_snd, since 5.13):

    vsnd-hybrid run --socket-path /tmp/snd.sock
    qemu-system-x86_64 -accel kvm -m 2G disk.img \\
        -object memory-backend-memfd,id=mem,size=2G,share=on -machine q35,memory-backend=mem \\
        -chardev socket,id=snd,path=/tmp/snd.sock -device vhost-user-snd-pci,chardev=snd

The first command plays through PipeWire if there is a session; --backend file,dir={directory} writes WAV files instead.
In the guest:  speaker-test -c 2 -t wav;  arecord -f cd -d 3 test.wav""")
