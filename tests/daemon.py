"""A `vsnd-hybrid run` of a test's own: started, watched, stopped, and never left behind."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.processes import Process, await_until

#: The state of a socket in /proc/net/unix that accepts connections.
_LISTENING = "00010000"


def executable() -> str:
    """The command that is installed beside the interpreter that runs the tests."""
    path = Path(sys.executable).with_name("vsnd-hybrid")
    if not path.exists():
        raise RuntimeError(f"{path} is not there: install the package into this environment (make build)")
    return str(path)


def listening(path: Path) -> bool:
    """Whether somebody accepts connections at `path`; does not connect."""
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    # Num: RefCount Protocol Flags Type St Inode Path
    return any(fields[3] == _LISTENING and fields[7:] == [str(path)] for fields in map(str.split, lines))


class Daemon:
    """The daemon on a socket in a directory of its own.

    Parameters
    ----------
    arguments
        Arguments of ``vsnd-hybrid run`` besides the socket.
    environment
        The whole environment; None for our own.
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        # A short path: a Unix socket's has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="vsnd-run-", dir="/tmp"))
        self.socket = self.directory / "snd.sock"
        self._arguments = arguments
        self._environment = environment
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        if self._process is None:
            raise RuntimeError("the daemon was not started")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """What it has written so far."""
        return self.process.log()

    def start(self, timeout_s: float = 20) -> Self:
        """Start it; returns when its socket accepts connections. RuntimeError with its log if it ends before."""
        command = [executable(), "run", "--socket-path", str(self.socket), *self._arguments]
        self._process = process = Process(command, self.directory / "log", self._environment, prefer=True)

        def ready() -> bool:
            if not process.running:
                raise RuntimeError(f"the daemon ended with status {process.status}: {process.log().strip()}")
            return listening(self.socket)

        await_until(ready, timeout_s, "the daemon's socket")
        return self

    def stop(self, timeout_s: float = 10) -> None:
        """End it by SIGTERM; AssertionError unless it ends with status 0 and takes its socket away."""
        self.process.signal(signal.SIGTERM)
        status = self.process.wait(timeout_s)
        assert status == 0, f"status {status} after SIGTERM:\n{self.log()}"
        assert not self.socket.exists(), "the daemon left its socket behind"

    def close(self) -> None:
        """End it however it takes, and remove its directory. Idempotent."""
        if self._process:
            self._process.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.stop()
        finally:
            # Where pytest shows it if the test fails.
            print(self.log(), end="")
            self.close()
