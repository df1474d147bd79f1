"""What PipeWire's real-time thread does in the daemon while a guest plays or records, seen from outside."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from vsnd_hybrid.guest import VirtualGuest

from tests.conftest import DaemonFactory
from tests.processes import await_until
from tests.sessions.pipewire import PipeWireSession
from tests.tracing import Call, Trace, eventfds, wakeups

#: Wake-ups to look at: a second of a graph at quantum 256.
WAKEUPS = 180
EVENTFD = "anon_inode:[eventfd]"


def shared_eventfds(pid: int) -> set[int]:
    """The daemon's descriptors of eventfds that this process has too: the guest's kicks and calls."""
    ours = set(eventfds(os.getpid()).values())
    return {fd for fd, number in eventfds(pid).items() if number in ours}


@pytest.mark.parametrize("sandbox", ["auto", "none"])
@pytest.mark.parametrize("capture", [False, True], ids=["playing", "recording"])
def test_the_engines_thread_makes_no_system_call_for_us_but_one_signal_to_the_guest(
    daemon: DaemonFactory, pipewire: PipeWireSession, tmp_path: Path, capture: bool, sandbox: str
) -> None:
    served = daemon("--backend", "pipewire,latency=low", "--sandbox", sandbox, environment=pipewire.environment)
    with VirtualGuest(served.socket) as guest:
        run = guest.start_record() if capture else guest.start_play(b"\1\2\3\4" * 480, total_frames=48000 * 600)
        run.wait_messages(50, 20)
        signals = shared_eventfds(served.pid)
        assert signals
        with Trace(served.pid, tmp_path) as trace:

            def of_the_engine() -> list[list[Call]]:
                """Wake-ups of the thread that signals, which while the engine moves audio is the engine's."""
                calls = trace.calls()
                writers = Counter(c.thread for c in calls if c.name == "write" and c.fd in signals)
                engine = max(writers, key=writers.__getitem__, default=0)
                return wakeups([call for call in calls if call.thread == engine])

            await_until(lambda: len(of_the_engine()) >= WAKEUPS, 30, f"{WAKEUPS} wake-ups of the engine's thread")
            seen = of_the_engine()
        xruns = run.stop().xruns
    signalled = 0
    for wakeup in seen:
        # What libpipewire does by itself: it reads the eventfd that woke it, and writes to that of the graph's next node.
        strange = [c for c in wakeup if c.name not in ("read", "write") or c.file != EVENTFD]
        assert not strange, strange
        ours = [c for c in wakeup if c.name == "write" and c.fd in signals]
        assert len(ours) <= 1, ours
        assert not any(c.name == "read" and c.fd in signals for c in wakeup)
        signalled += len(ours)
    # A period of 480 frames is nearly two cycles of the graph.
    assert 0 < signalled < len(seen)
    written = {c.fd for wakeup in seen for c in wakeup if c.name == "write"} - signals
    # An xrun is told to the daemon's loop by an eventfd of its own; else only the graph's next node is written to.
    assert len(written) == 1 or (xruns and len(written) == 2)
