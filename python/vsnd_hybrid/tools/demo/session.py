"""The demo's two sides: the daemon as a process of its own, and the virtual guest that plays and records through it."""

from __future__ import annotations

import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vsnd_hybrid.service.errors import ServiceError

_START_S = 20.0
_END_S = 10.0


class DaemonProcess:
    """``vsnd-hybrid run`` on its file backend, with its socket and its takes in `directory`."""

    def __init__(self, directory: Path, microphone: Path) -> None:
        self.socket = directory / "snd.sock"
        self._takes = directory / "takes"
        self._takes.mkdir()
        self._log = (directory / "log").open("w+")
        backend = f"file,dir={_escaped(self._takes)},input={_escaped(microphone)}"
        command = [sys.executable, "-m", "vsnd_hybrid", "run", "--socket-path", str(self.socket), "--backend", backend]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=self._log)

    def await_socket(self) -> None:
        """Return when its socket is there. Raises `ServiceError` with what it said if it ended instead."""
        until = time.monotonic() + _START_S
        while not self.socket.exists():
            if self._process.poll() is not None:
                raise ServiceError(f"the daemon did not start: {self._said() or self._process.returncode}")
            if time.monotonic() > until:
                raise ServiceError(f"the daemon made no socket within {_START_S:.0f} s")
            time.sleep(0.002)

    def cpu_ns(self) -> int:
        """The CPU time that it has used so far."""
        # The id of a process's CPU clock, as clock_getcpuclockid(3) makes it; /proc has only hundredths of a second.
        return time.clock_gettime_ns((~self._process.pid << 3) | 2)

    def takes(self) -> list[Path]:
        """The files that it has written."""
        return sorted(self._takes.iterdir())

    def end(self) -> None:
        """SIGTERM. Raises `ServiceError` unless it ends in an orderly way, with nothing to say."""
        self._process.terminate()
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            raise ServiceError(f"the daemon does not end within {_END_S:.0f} s of SIGTERM") from None
        if status or self._said():
            raise ServiceError(f"the daemon ended with status {status}: {self._said()}")

    def close(self) -> None:
        """See that it is gone. Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _said(self) -> str:
        self._log.seek(0)
        return " / ".join(self._log.read().split("\n")).strip(" /")


@contextmanager
def daemon(directory: Path, microphone: Path) -> Iterator[DaemonProcess]:
    """A daemon that serves inside the block."""
    process = DaemonProcess(directory, microphone)
    try:
        process.await_socket()
        yield process
    finally:
        process.close()


def write_wav(path: Path, data: bytes, rate: int, channels: int) -> None:
    """S16 samples as a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(data)


def read_wav(path: Path) -> bytes:
    """The samples of a WAV file."""
    with wave.open(str(path), "rb") as file:
        return file.readframes(file.getnframes())


def _escaped(path: Path) -> str:
    """For a backend's option: commas are written twice."""
    return str(path).replace(",", ",,")
