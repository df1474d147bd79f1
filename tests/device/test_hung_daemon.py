"""A daemon whose engine hangs ends when it is told to, and at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from vsnd_hybrid.guest import VirtualGuest, numbered
from vsnd_hybrid.wire import Status

from tests.conftest import DaemonFactory
from tests.daemon import Daemon
from tests.processes import await_until

ROOT = Path(__file__).parents[2]
#: The daemon ends within a fifth of a second; a machine that is busy with other tests gets more.
END_S = 5.0


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which the faulty engine is installed."""
    installed = tmp_path / "faulty-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[vsnd_hybrid.backends]\nfaulty = tests.faulty:FaultyBackend\n")
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}


def begin(daemon: Daemon) -> VirtualGuest:
    """A guest whose stream has gone as far as it comes."""
    guest = VirtualGuest(daemon.socket, request_timeout=10)
    guest.set_params(0, buffer_bytes=7680, period_bytes=1920)
    assert {guest.prepare(0), guest.start(0), guest.stop(0), guest.release(0)} & {Status.OK, Status.IO_ERR}
    return guest


@pytest.mark.parametrize("call", ["open", "start", "stop", "close"])
def test_an_engine_that_hangs_does_not_take_the_end_with_it(
    daemon: DaemonFactory, environment: dict[str, str], call: str
) -> None:
    process = daemon("--backend", f"faulty,hang={call}", environment=environment)
    guest = begin(process)
    process.stop(END_S)
    guest.kill()


def test_an_engine_s_thread_that_never_ends_does_not_take_the_end_with_it(
    daemon: DaemonFactory, environment: dict[str, str]
) -> None:
    process = daemon("--backend", "faulty,thread=stubborn", environment=environment)
    with VirtualGuest(process.socket) as guest:
        assert guest.play(numbered(4800)).ok
    process.stop(END_S)


def test_a_front_end_that_comes_while_an_engine_hangs_finds_a_device(
    daemon: DaemonFactory, environment: dict[str, str], tmp_path: Path
) -> None:
    entered = tmp_path / "entered"
    process = daemon("--backend", f"faulty,hang=open,entered={entered}", environment=environment)
    first = VirtualGuest(process.socket, request_timeout=10)
    first.set_params(0, buffer_bytes=7680, period_bytes=1920)
    assert first.prepare(0) == Status.IO_ERR
    await_until(entered.exists, 10, "the engine's open")
    first.kill()
    with VirtualGuest(process.socket, request_timeout=10) as second:
        assert len(second.streams) == 2
        assert second.set_params(0, buffer_bytes=7680, period_bytes=1920) == Status.OK
        assert second.prepare(0) == Status.IO_ERR
    process.stop(END_S)
