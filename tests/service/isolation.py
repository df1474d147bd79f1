"""What a guest's stream suffers from a daemon whose interpreter is busy.

    python -m tests.service.isolation [SECONDS]

prints, for each load and period, the frames that were not there when the engine came for them, with PipeWire's native callback at the
guest's period as its quantum; and how often an engine in Python was more than a period late, which holds two.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from math import ceil
from pathlib import Path
from typing import NamedTuple

from vsnd_hybrid.guest import Message, VirtualGuest

from tests.daemon import Daemon
from tests.processes import await_until, threads
from tests.sessions.pipewire import PipeWireSession

HERE = Path(__file__).parent
RATE, FRAME_BYTES = 48000, 4
#: Of the guest's buffer.
PERIODS = 4


def install(site: Path) -> dict[str, str]:
    """Put the backend `hog` where a daemon with this addition to its environment finds it."""
    metadata = site / "vsnd_hog-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: vsnd-hog\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[vsnd_hybrid.backends]\nhog = vsnd_hog:HogBackend\n")
    shutil.copy(HERE / "hog.py", site / "vsnd_hog.py")
    return {"PYTHONPATH": str(site)}


def hurry_guest() -> None:
    """The guest must not be what is late: its interrupt handler, a thread of ours, runs before others where permitted."""
    for thread in threads(os.getpid()):
        if thread["Name"].startswith("guest-queue"):
            with suppress(PermissionError):
                os.sched_setscheduler(int(thread["Pid"]), os.SCHED_FIFO, os.sched_param(50))


class Suffered(NamedTuple):
    """What a stream counted."""

    turns: int
    #: Frames that were not there when the engine came for them.
    missing_frames: int
    #: Callbacks that found a lock taken.
    busy: int
    #: How often the guest had let all but a period of its buffer come back before it went on.
    guest_late: int
    #: The most frames that can be missing because of that.
    guest_missed: int
    #: Wake-ups of an engine in Python that were more than a period late.
    late: int


def guest_late(messages: Sequence[Message]) -> int:
    """How often it offered a message when of those before it the device had one at most."""
    return sum(
        before.done_ns <= message.queued_ns
        for before, message in zip(messages[PERIODS - 2 :], messages[PERIODS:], strict=False)
    )


def guest_missed(messages: Sequence[Message], period_frames: int) -> int:
    """What an engine can have come for in vain: between two offers, what it takes in that time, and a turn more, but for what the
    device had.
    """
    missed = 0.0
    for i in range(PERIODS - 1, len(messages) - 1):
        offered_ns = messages[i].queued_ns
        # What came back while the guest slept it sees before it offers anew.
        had = sum(not m.done_ns or m.done_ns > offered_ns for m in messages[i - PERIODS + 1 : i + 1])
        taken = (messages[i + 1].queued_ns - offered_ns) * RATE / 1e9 + period_frames
        missed += max(0.0, taken - had * period_frames)
    return ceil(missed)


def suffer(
    session: PipeWireSession, site: dict[str, str], backend: str, frames: int, seconds: float, hurry: bool = True
) -> Suffered:
    """Play at this period. What was moved while the engine stood still counts for nothing: nobody came for it."""
    with (
        Daemon("--backend", backend, "--inputs", "0", environment=session.environment | site) as daemon,
        VirtualGuest(daemon.socket, request_timeout=5) as guest,
    ):
        run = guest.start_play(b"\1\2\3\4" * RATE, total_frames=RATE * 3600, period_frames=frames, periods=PERIODS)
        run.wait_messages(2 * PERIODS, 60)
        if hurry:
            hurry_guest()
        # Neither the start nor the end, where the guest offers nothing until its STOP is answered.
        began, before = time.monotonic_ns(), counted(daemon)
        run.wait_messages(run.messages_done + round(seconds * RATE / frames), seconds + 60)
        after, ended = counted(daemon), time.monotonic_ns()
        report = run.stop()
    seen = [m for m in report.messages if began <= m.queued_ns <= ended]
    grown = {name: after[name] - before[name] for name in after}
    return Suffered(
        turns=grown["turns"],
        missing_frames=(grown["missing_bytes"] - grown["stood_in_bytes"]) // FRAME_BYTES,
        busy=grown["busy"],
        guest_late=guest_late(seen),
        guest_missed=guest_missed(seen, frames),
        late=grown["late"],
    )


def counted(daemon: Daemon) -> dict[str, int]:
    """What the stream has counted by now: the next that the backend tells."""

    def told() -> list[str]:
        return re.findall(r"counted (\{.*\})", daemon.log())

    before = len(told())
    await_until(lambda: len(told()) > before, 30, "the stream's counters")
    found: dict[str, int] = json.loads(told()[-1])
    return found


def main(seconds: float) -> None:
    print("| load in the daemon | period | native: frames missing | Python: late of turns |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="vsnd-hog-", dir="/tmp") as directory:
        site = install(Path(directory) / "site")
        for frames in (128, 256, 480, 1024):
            with PipeWireSession(quantum=frames) as session:
                for load in ("", "compute", "collect"):
                    with redirect_stdout(io.StringIO()):  # the daemons' logs
                        native = suffer(session, site, f"hog,load={load}", frames, seconds)
                        python = suffer(session, site, f"hog,load={load},engine=python", frames, seconds)
                    print(
                        f"| {load or 'nothing'} | {frames} | {native.missing_frames} "
                        f"(guest late {native.guest_late}, lock taken {native.busy}) | {python.late} of {python.turns} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
