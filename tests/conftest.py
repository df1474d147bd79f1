"""Fixtures that build real things: a daemon, an audio server, a Linux guest. Each ends what it started, and only that."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.guests import image as guest_image
from tests.guests.image import Image, ensure_image
from tests.guests.linux import LinuxGuest
from tests.sessions.pipewire import PipeWireSession, installed

DaemonFactory = Callable[..., Daemon]
GuestFactory = Callable[..., LinuxGuest]


def pytest_configure() -> None:
    """A shell that runs the tests in the background has them ignore SIGINT; the programs that they start must not."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs QEMU or PipeWire by what it asks for, and put the slow guests last."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "linux_image" in fixtures:
            item.add_marker("guest")
        if "pipewire" in fixtures:
            item.add_marker("pipewire")
    items.sort(key=lambda item: item.get_closest_marker("guest") is not None)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A private directory whose path is short enough for Unix sockets (107 bytes with their names)."""
    path = Path(tempfile.mkdtemp(prefix="vsnd-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def daemon() -> Iterator[DaemonFactory]:
    """Start daemons: ``daemon("--backend", "null")``. At the end each must obey SIGTERM with status 0."""
    with ExitStack() as stack:

        def start(*arguments: str, environment: Mapping[str, str] | None = None) -> Daemon:
            return stack.enter_context(Daemon(*arguments, environment=environment))

        yield start


@pytest.fixture(scope="session")
def pipewire() -> Iterator[PipeWireSession]:
    """A running PipeWire session. A test that stops its servers starts them again."""
    if not installed():
        pytest.fail("PipeWire, WirePlumber and pipewire-bin are not installed: run scripts/system-setup")
    with PipeWireSession() as session:
        yield session


@pytest.fixture(scope="session")
def linux_image() -> Image:
    """The guest's kernel and root file system."""
    if why := guest_image.unsupported():
        pytest.skip(why)
    if shutil.which("qemu-system-x86_64") is None:
        pytest.fail("qemu-system-x86_64 is not installed: run scripts/system-setup")
    return ensure_image()


@pytest.fixture
def linux_guest(linux_image: Image) -> Iterator[GuestFactory]:
    """Boot guests: ``linux_guest(vhost_user_sound(daemon.socket), {"in.wav": data})``."""
    with ExitStack() as stack:

        def boot(qemu: Sequence[str] = (), files: Mapping[str, bytes] | None = None, **machine: int) -> LinuxGuest:
            return stack.enter_context(LinuxGuest(linux_image, qemu, files, **machine))

        yield boot
