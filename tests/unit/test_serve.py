"""Serving a device: its socket, its end. What it does with a driver's chains is tested with a driver."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import threading
from pathlib import Path

import pytest
from vsnd_hybrid.loop import Loop
from vsnd_hybrid.vhost import Device, DeviceServer, running, serve


class Notes(Device):
    """Notes what it is told."""

    def __init__(self, then: object = None) -> None:
        self.told: list[str] = []
        self.happened = threading.Semaphore(0)

    def _note(self, what: str) -> None:
        self.told.append(what)
        self.happened.release()

    def attached(self, loop: Loop) -> None:
        self._note("attached")

    def connected(self) -> None:
        self._note("connected")

    def disconnected(self, reason: str) -> None:
        self._note("disconnected")

    def detached(self) -> None:
        self._note("detached")


class EndsBySignal(Notes):
    """Sends its own process a signal as soon as a front end connects."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number

    def connected(self) -> None:
        os.kill(os.getpid(), self.number)


def connect(path: Path) -> socket.socket:
    """A front end: one is served from its first message (here GET_FEATURES) on."""
    front_end = socket.socket(socket.AF_UNIX)
    front_end.connect(str(path))
    front_end.sendall(struct.pack("<III", 1, 1, 0))
    return front_end


def test_a_device_is_told_of_its_front_end_from_beginning_to_end(run_dir: Path) -> None:
    path = run_dir / "s"
    device = Notes()
    with running(device, path):
        front_end = connect(path)
        device.happened.acquire()  # attached
        device.happened.acquire()
        assert device.server.connected
        front_end.close()
        device.happened.acquire()
    assert device.told == ["attached", "connected", "disconnected", "detached"]
    assert not path.exists()


def test_a_front_end_that_is_there_at_the_end_is_told_to_be_gone(run_dir: Path) -> None:
    device = Notes()
    with running(device, run_dir / "s"), connect(run_dir / "s"):
        device.happened.acquire()
        device.happened.acquire()
    assert device.told == ["attached", "connected", "disconnected", "detached"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_at_a_signal_and_gives_the_handlers_back(run_dir: Path, number: signal.Signals) -> None:
    path = run_dir / "s"
    before = signal.getsignal(number)
    front_ends: list[socket.socket] = []

    class ConnectsWhenServed(EndsBySignal):
        def attached(self, loop: Loop) -> None:
            loop.call_soon(lambda: front_ends.append(connect(path)))

    serve(ConnectsWhenServed(number), path)
    assert signal.getsignal(number) is before
    assert not path.exists()
    front_ends[0].close()


def test_serve_ends_when_the_only_connection_of_a_connected_descriptor_does() -> None:
    ours, theirs = socket.socketpair()
    device = Notes()
    with theirs:
        ours.close()
        serve(device, theirs.fileno())
    assert device.told == ["attached", "connected", "disconnected", "detached"]


def test_a_path_that_a_living_server_has_is_refused(run_dir: Path) -> None:
    with running(Notes(), run_dir / "s"), pytest.raises(OSError, match="use") as caught:
        serve(Notes(), run_dir / "s")
    assert caught.value.errno == errno.EADDRINUSE


def test_a_device_that_is_not_served_has_no_server() -> None:
    with pytest.raises(RuntimeError, match="not served yet"):
        Device().queue(0)


def test_one_loop_serves_several_devices(run_dir: Path) -> None:
    loop = Loop()
    devices = [Notes(), Notes()]
    servers = [DeviceServer(device, loop) for device in devices]
    for number, server in enumerate(servers):
        server.listen(run_dir / str(number))
    front_ends = [connect(run_dir / str(number)) for number in range(2)]
    while not all("connected" in device.told for device in devices):
        loop.run_once(10)
    for front_end in front_ends:
        front_end.close()
    for server in servers:
        server.close()
    loop.close()
    assert [device.told for device in devices] == [["attached", "connected", "disconnected", "detached"]] * 2
