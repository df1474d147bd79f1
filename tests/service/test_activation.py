"""The daemon under a service manager: the socket that it passes, and what it is told. No systemd takes part."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from vsnd_hybrid.guest import VirtualGuest

from tests.daemon import executable
from tests.processes import Process
from tests.tools.test_run import refused

Activate = Callable[..., Process]

#: As a service manager does it: descriptors from 3 on, and the process's own number.
LAUNCH = """
import os, sys
door, count = int(sys.argv[1]), int(sys.argv[2])
for number in range(3, 3 + count):
    os.dup2(door, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES="snd")
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.fixture
def door(run_dir: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(run_dir / "snd.sock"))
        listening.listen()
        yield listening


@pytest.fixture
def activate(door: socket.socket, tmp_path: Path) -> Iterator[Activate]:
    """Starts the daemon as a service manager would, with `door` as its socket (`count` times) and more variables."""
    running: list[Process] = []

    def run(*arguments: str, count: int = 1, environment: Mapping[str, str] | None = None) -> Process:
        launch = [sys.executable, "-c", LAUNCH, str(door.fileno()), str(count)]
        command = [*launch, executable(), "run", *arguments]
        log = tmp_path / f"log-{len(running)}"
        running.append(Process(command, log, os.environ | (environment or {}), inherit=(door.fileno(),)))
        return running[-1]

    yield run
    for process in running:
        process.close()


def test_a_socket_that_is_passed_is_served(activate: Activate, run_dir: Path) -> None:
    served = activate("--backend", "null")
    for _ in range(2):
        with VirtualGuest(run_dir / "snd.sock", connect_timeout=20) as guest:
            assert len(guest.streams) == 2
    served.signal(signal.SIGTERM)
    assert served.wait() == 0
    assert served.log() == ""
    assert (run_dir / "snd.sock").is_socket(), "who made the socket removes it"


def test_a_front_end_that_came_before_the_daemon_is_served(activate: Activate, run_dir: Path) -> None:
    """That is what activation is for: connecting is what starts the service."""
    with socket.socket(socket.AF_UNIX) as early:
        early.connect(str(run_dir / "snd.sock"))
        early.sendall((1).to_bytes(4, "little") * 2 + bytes(4))
        activate("--backend", "null", "--sandbox", "strict")
        early.settimeout(20)
        assert len(early.recv(20)) == 20


def test_several_sockets_are_a_mistake(activate: Activate) -> None:
    served = activate("--backend", "null", count=2)
    assert served.wait() == 1
    assert served.log() == (
        "vsnd-hybrid: the service manager passed 2 sockets; a daemon serves one: one ListenStream= is needed\n"
    )


@pytest.mark.parametrize("arguments", [("--socket-path", "/tmp/other.sock"), ("--fd", "0")])
def test_a_socket_of_both_is_a_mistake(activate: Activate, arguments: tuple[str, str]) -> None:
    served = activate("--backend", "null", *arguments)
    assert served.wait() == 1
    assert served.log() == (
        "vsnd-hybrid: the service manager passed a socket, and --socket-path or --fd is given; leave it out\n"
    )


def test_variables_that_are_meant_for_another_process_are_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert "--socket-path PATH" in refused()


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
@pytest.mark.parametrize("sandbox", ["strict", "none"])
def test_the_manager_is_told_when_it_serves_and_when_it_ends(
    activate: Activate, run_dir: Path, abstract: bool, sandbox: str
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"@vsnd-test-{os.getpid()}-{sandbox}" if abstract else str(run_dir / "notify")
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(20)
        served = activate("--backend", "null", "--sandbox", sandbox, environment={"NOTIFY_SOCKET": name})
        assert manager.recv(4096) == b"READY=1\nSTATUS=Serving on the service manager's socket"
        with VirtualGuest(run_dir / "snd.sock") as guest:
            assert guest.streams
        served.signal(signal.SIGTERM)
        assert manager.recv(4096) == b"STOPPING=1\nSTATUS=Stopping"
        assert served.wait() == 0


@pytest.mark.parametrize("address", ["/nowhere/notify", "@nobody-listens-here", "vsock:2:1", "nonsense", ""])
def test_a_manager_that_cannot_be_told_is_no_reason_not_to_serve(
    activate: Activate, run_dir: Path, address: str
) -> None:
    served = activate("--backend", "null", environment={"NOTIFY_SOCKET": address})
    with VirtualGuest(run_dir / "snd.sock", connect_timeout=20) as guest:
        assert guest.streams
    served.signal(signal.SIGTERM)
    assert served.wait() == 0
