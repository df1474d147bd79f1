"""What each `latency` costs on PipeWire: wake-ups, CPU, and how late the guest is told that it is heard.

``python -m tests.sessions.latency_cost 5`` plays for so many seconds each, three rounds in turns, and prints the medians
as a table. The wake-ups are voluntary context switches of the daemon's threads.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from pathlib import Path

from vsnd_hybrid.guest import VirtualGuest

from tests.daemon import Daemon
from tests.sessions.pipewire import PipeWireSession

ROUNDS = 3
#: Period, periods, and a quantum for the whole graph; 0: what is asked for.
SHAPES = ((480, 4, 0), (1024, 2, 0), (480, 2, 1024))
WORDS = ("low", "balanced", "power")


def used(pid: int) -> tuple[float, int, int]:
    """CPU time in ms so far, and wake-ups of the clock's thread and of the others, of which only PipeWire's has work."""
    cpu_ms, clock, others = 0.0, 0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        cpu_ms += int((task / "schedstat").read_text().split()[0]) / 1e6
        found = re.search(r"^voluntary_ctxt_switches:\t(\d+)", (task / "status").read_text(), re.MULTILINE)
        assert found
        if (task / "comm").read_text().startswith("vsnd-clock"):
            clock += int(found[1])
        else:
            others += int(found[1])
    return cpu_ms, others, clock


def play(session: PipeWireSession, word: str, period: int, periods: int, seconds: float) -> tuple[float, ...]:
    """One run: wake-ups of both kinds and CPU ms a second, mean and largest latency in ms, xruns, kicks."""
    arguments = ("--backend", f"pipewire,latency={word}", "--inputs", "0")
    with Daemon(*arguments, environment=session.environment) as daemon, VirtualGuest(daemon.socket) as guest:
        run = guest.start_play(b"\x01" * 4 * 48000, total_frames=1 << 40, period_frames=period, periods=periods)
        assert run.wait_messages(50)
        began, before = time.monotonic(), used(daemon.pid)
        time.sleep(seconds)
        passed, after = time.monotonic() - began, used(daemon.pid)
        report = run.stop()
    cpu, audio, clock = ((b - a) / passed for a, b in zip(before, after, strict=True))
    late = report.latency_ms[20:]
    return audio, clock, cpu, statistics.mean(late), max(late), report.xruns, report.kicks_running


def main(seconds: float) -> None:
    found: dict[tuple[int, int, int, str], list[tuple[float, ...]]] = {}
    with PipeWireSession(quantum=1024) as session:
        for _ in range(ROUNDS):
            for period, periods, forced in SHAPES:
                session.run("pw-metadata", "-n", "settings", "0", "clock.force-quantum", str(forced))
                for word in WORDS if not forced else ("balanced",):
                    row = play(session, word, period, periods, seconds)
                    found.setdefault((period, periods, forced, word), []).append(row)
    print(
        "| guest | `latency` | wake-ups/s, PipeWire's thread + clock | CPU ms/s | latency told, mean / largest ms | xruns | kicks |"
    )
    print("|---|---|---|---|---|---|---|")
    for (period, periods, forced, word), rows in found.items():
        audio, clock, cpu, mean, most, xruns, kicks = (statistics.median(column) for column in zip(*rows, strict=True))
        shape = f"{period}×{periods}" + (f", quantum fixed at {forced}" if forced else "")
        what = f"{audio:.0f} + {clock:.0f} | {cpu:.1f} | {mean:.1f} / {most:.1f} | {xruns:.0f} | {kicks:.0f}"
        print(f"| {shape} | {word} | {what} |")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5)
