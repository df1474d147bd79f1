"""A daemon, and a guest at it, for each module and engine; a test gets the guest idle and with an empty kernel log."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.guests.engines import Engine, FileEngine, PipeWireEngine
from tests.guests.image import Image
from tests.guests.linux import LinuxGuest, vhost_user_sound

_FAILED = pytest.StashKey[bool]()


class Bench:
    """A running daemon, and the one guest that it serves."""

    def __init__(self, image: Image, daemon: Daemon, files: Mapping[str, bytes]) -> None:
        self.image, self.daemon, self.files = image, daemon, files
        self._guest: LinuxGuest | None = None

    def guest(self) -> LinuxGuest:
        """The guest; a new one if there is none yet, or a test has left it in disorder."""
        if self._guest is None or not self._guest.idle:
            self.close()
            self._guest = LinuxGuest(self.image, vhost_user_sound(self.daemon.socket), self.files)
            self._guest.__enter__()
        return self._guest

    def close(self) -> None:
        if self._guest:
            self._guest.close()
            self._guest = None


@pytest.fixture(scope="module", params=["file", pytest.param("pipewire", marks=pytest.mark.pipewire)])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Each test runs once with each engine."""
    if request.param == "file":
        return FileEngine(Path(tmp_path_factory.mktemp("takes")))
    return PipeWireEngine(request.getfixturevalue("pipewire"))


@pytest.fixture(scope="module")
def guest_files() -> Mapping[str, bytes]:
    """Files in the guest's working directory; a module that needs some has a fixture of this name."""
    return {}


@pytest.fixture(scope="module")
def bench(engine: Engine, linux_image: Image, guest_files: Mapping[str, bytes]) -> Iterator[Bench]:
    """The daemon at the engine, for all tests of a module. It must obey SIGTERM in the end."""
    with Daemon(*engine.arguments, environment=engine.environment) as daemon:
        engine.daemon = daemon
        bench = Bench(linux_image, daemon, guest_files)
        try:
            yield bench
        finally:
            bench.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture
def guest(bench: Bench, request: pytest.FixtureRequest) -> Iterator[LinuxGuest]:
    """A guest whose kernel must not have complained of the sound card when the test is over."""
    guest = bench.guest()
    guest.run("dmesg -c >/dev/null")
    yield guest
    if request.node.stash.get(_FAILED, False):
        bench.close()
    elif guest.idle:
        assert guest.complaints() == []
