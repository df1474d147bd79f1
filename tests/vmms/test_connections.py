"""How a front end comes to the daemon: by a path or a descriptor, alone or while another one is there."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.daemon import executable
from tests.guests.audio import locate, numbered, wav_samples
from tests.vmms.conftest import HostFactory
from tests.vmms.dialects import DIALECTS, CloudHypervisor, Qemu
from tests.vmms.link import Link, Message
from tests.vmms.vmm import Vmm

FRAMES = 9600
SECOND = 1_000_000
dialects = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


@contextmanager
def daemon_on(sock: socket.socket, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that is handed a socket; it ends with status 0, by itself or when it is told to."""
    arguments = ["run", "--fd", str(sock.fileno()), "--backend", f"file,dir={directory}"]
    daemon = subprocess.Popen([executable(), *arguments], pass_fds=[sock.fileno()])
    sock.close()
    try:
        yield daemon
        daemon.terminate()
        assert daemon.wait(10) == 0
    finally:
        daemon.kill()
        daemon.wait()


def heard(directory: Path, take: int = 1) -> bytes:
    return wav_samples(directory / f"out-0-take-{take:03}.wav")


@dialects
def test_a_listening_socket_that_was_handed_over_is_served(run_dir: Path, dialect: type[Vmm]) -> None:
    listening, path = socket.socket(socket.AF_UNIX), run_dir / "snd.sock"
    listening.bind(str(path))
    listening.listen()
    with daemon_on(listening, run_dir):
        for life in range(2):
            with dialect(path) as vmm:
                assert vmm.play(numbered(FRAMES, life * SECOND)).ok
    for life in range(2):
        assert locate(heard(run_dir, life + 1), FRAMES, life * SECOND).holds(FRAMES, life * SECOND)


@dialects
def test_a_connected_socket_that_was_handed_over_is_served_to_its_end(run_dir: Path, dialect: type[Vmm]) -> None:
    ours, theirs = socket.socketpair()
    with daemon_on(theirs, run_dir) as daemon:
        with dialect(ours) as vmm:
            assert vmm.play(numbered(FRAMES)).ok
        assert daemon.wait(10) == 0, "with its only front end the daemon ends"
    assert locate(heard(run_dir), FRAMES).holds(FRAMES)


@dialects
def test_a_second_front_end_waits_unheard_until_the_first_has_ended(host: HostFactory, dialect: type[Vmm]) -> None:
    computer = host()
    with dialect(computer.socket) as first:
        playing = first.start_play(numbered(FRAMES))
        assert playing.wait_messages(2, 10)
        second = socket.socket(socket.AF_UNIX)
        second.connect(str(computer.socket))
        link = Link(second)
        second.sendall(b"".join(n.to_bytes(4, "little") for n in (Message.GET_FEATURES, 1, 0)))
        assert playing.wait().ok
        assert link.silent, "the second was answered while the first lived"
    assert second.recv(20)[8:12] == (8).to_bytes(4, "little")
    with dialect(second) as vmm:
        assert vmm.play(numbered(FRAMES, SECOND)).ok
    takes = computer.takes()
    assert locate(takes[0], FRAMES).holds(FRAMES)
    assert locate(takes[1], FRAMES, SECOND).holds(FRAMES, SECOND)


def test_connections_that_say_nothing_keep_out_nobody(host: HostFactory) -> None:
    computer = host()
    with ExitStack() as stack:
        for i in range(20):
            silent = stack.enter_context(socket.socket(socket.AF_UNIX))
            silent.connect(str(computer.socket))
            if i % 2:
                silent.sendall(b"\x01\0\0")  # not even a header
        with Qemu(computer.socket) as vmm:
            assert vmm.play(numbered(FRAMES)).ok
        for i in range(20):
            another = stack.enter_context(socket.socket(socket.AF_UNIX))
            another.connect(str(computer.socket))
        with CloudHypervisor(computer.socket) as vmm:
            assert vmm.play(numbered(FRAMES)).ok
    for take in computer.takes():
        assert locate(take, FRAMES).holds(FRAMES)


def test_a_front_end_that_comes_while_one_plays_and_goes_again_disturbs_nothing(host: HostFactory) -> None:
    computer = host()
    descriptors = computer.descriptors()
    with Qemu(computer.socket) as vmm:
        playing = vmm.start_play(numbered(FRAMES))
        for messages in range(2, 12):
            with socket.socket(socket.AF_UNIX) as other:
                other.connect(str(computer.socket))
                other.sendall(b"\xff" * 12 if messages % 2 else b"\x01")
            assert playing.wait_messages(messages, 10)
        assert playing.wait().ok
    assert locate(computer.take(), FRAMES).holds(FRAMES)
    assert descriptors
