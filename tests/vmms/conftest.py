"""A daemon whose engine are files: what a guest played can be compared with what it meant to, and what it records is known."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import DaemonFactory
from tests.daemon import Daemon
from tests.guests.audio import FRAME_BYTES, Heard, locate, numbered, wav, wav_samples
from tests.processes import await_until

#: What is spoken into the microphone.
SPOKEN_FRAMES = 30 * 48000
#: Periods of a recording's buffer: the guest is a thread of ours, which a busy machine keeps waiting. What it is too late for is lost
#: to it, as to any guest.
UNHURRIED = 32
#: Memory of a guest as the kernel names it in /proc/PID/maps.
_GUEST_MEMORY = re.compile(r"memfd:vsnd-guest")

HostFactory = Callable[..., "Host"]


class Host:
    """A running daemon and its files."""

    def __init__(self, daemon: Daemon, directory: Path) -> None:
        self.daemon = daemon
        self._directory = directory

    @property
    def socket(self) -> Path:
        return self.daemon.socket

    def files(self, stream: int = 0) -> list[Path]:
        """The files of a stream, one a take."""
        return sorted(self._directory.glob(f"out-{stream}-take-*.wav"))

    def takes(self, stream: int = 0) -> list[bytes]:
        """End the daemon; returns what was heard of a stream, from each START to its end."""
        if self.daemon.process.running:
            self.daemon.stop()
        return [_samples(path) for path in self.files(stream)]

    def take(self, stream: int = 0) -> bytes:
        """As `takes`; there is one, or none if no frame was heard."""
        takes = self.takes(stream)
        assert len(takes) <= 1
        return takes[0] if takes else b""

    def await_heard(self, frames: int) -> None:
        """Wait until so many frames of the only take have been heard."""

        def heard() -> bool:
            paths = list(self._directory.glob("out-*-take-*.wav"))
            return bool(paths) and paths[0].stat().st_size > frames * FRAME_BYTES

        await_until(heard, 10, f"{frames} frames of a take")

    def await_written(self) -> None:
        """The machine is paused: wait until what was heard is in the only take, and it is known how much that is."""
        (path,) = self.files()
        await_until(lambda: len(wav_samples(path)) == path.stat().st_size - 44 > 0, 10, "a take that is whole")

    def guest_maps(self) -> int:
        """How many regions of guests' memory are mapped."""
        return len(_GUEST_MEMORY.findall(Path(f"/proc/{self.daemon.pid}/maps").read_text()))

    def descriptors(self) -> int:
        """How many descriptors are open, files that are written not counted."""
        return sum(path.suffix != ".wav" for path in self.daemon.process.open_files())

    def await_maps(self, regions: int) -> None:
        """Wait until so many regions are mapped, and no more."""
        await_until(lambda: self.guest_maps() == regions, 10, f"{regions} mapped regions (now {self.guest_maps()})")


def _samples(path: Path) -> bytes:
    """The samples of a take; also of a daemon that was killed, whose header tells of fewer."""
    assert path.read_bytes()[44:].startswith(wav_samples(path)), path
    samples = path.read_bytes()[44:]
    return samples[: len(samples) // FRAME_BYTES * FRAME_BYTES]


def spoken(recording: bytes) -> Heard:
    """What a recording holds of what was spoken."""
    return locate(recording, SPOKEN_FRAMES)


@pytest.fixture(scope="session")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("microphone") / "in.wav"
    path.write_bytes(wav(numbered(SPOKEN_FRAMES)))
    return path


@pytest.fixture
def host(daemon: DaemonFactory, run_dir: Path, microphone: Path) -> HostFactory:
    """Start a daemon with an output and an input: ``host(outputs=2)``. Each writes into a directory of its own."""

    def start(*, input: Path = microphone, **options: int) -> Host:
        settings = [f"--{name}={value}" for name, value in options.items()]
        directory = Path(tempfile.mkdtemp(dir=run_dir))
        return Host(daemon("--backend", f"file,dir={directory},input={input}", *settings), directory)

    return start
