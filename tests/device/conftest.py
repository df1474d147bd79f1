"""A device on its socket, and drivers that connect to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from vsnd_hybrid._core import SoundDriver
from vsnd_hybrid.backends.base import Backend, Direction
from vsnd_hybrid.device import DeviceConfig, SoundDevice, StreamConfig
from vsnd_hybrid.vhost import running

from tests.device.driver import Driver

Serve = Callable[..., SoundDevice]


class Connect:
    """Connects drivers to the device, and kills them in the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.drivers: list[Driver] = []

    def __call__(self, **options: Any) -> Driver:
        """A new driver; options as `SoundDriver` has them."""
        self.drivers.append(Driver(SoundDriver(str(self.path), **options)))
        return self.drivers[-1]


@pytest.fixture
def socket_path(run_dir: Path) -> Path:
    return run_dir / "snd.sock"


@pytest.fixture
def serve(socket_path: Path) -> Iterator[Serve]:
    """Serve a device: ``serve(backend, outputs=1, inputs=1)``. Outputs have the lower ids."""
    with ExitStack() as stack:

        def start(backend: Backend, *, outputs: int = 1, inputs: int = 1) -> SoundDevice:
            directions = [Direction.OUTPUT] * outputs + [Direction.INPUT] * inputs
            streams = tuple(StreamConfig(direction=direction, backend=backend) for direction in directions)
            return stack.enter_context(running(SoundDevice(DeviceConfig(streams=streams)), socket_path))

        yield start


@pytest.fixture
def connect(socket_path: Path) -> Iterator[Connect]:
    """Connect a driver: ``connect(queue_size=256)``."""
    drivers = Connect(socket_path)
    yield drivers
    for driver in drivers.drivers:
        driver.native.kill()
