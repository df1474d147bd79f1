"""Child processes of tests and of the benchmark: each has a log, dies with its parent, and is ended by its own id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

#: How often a condition outside of our process, of which nobody can notify us, is looked at.
POLL_S = 0.01


def await_until(condition: Callable[[], object], timeout_s: float, what: str, *, poll_s: float = POLL_S) -> None:
    """Return as soon as `condition` holds; TimeoutError naming `what` was awaited otherwise."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(poll_s)


def threads(pid: int) -> list[dict[str, str]]:
    """The fields of /proc/PID/task/*/status of every thread that lives."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines = (task / "status").read_text().splitlines()
            found.append(dict(line.split(":\t", 1) for line in lines if ":\t" in line))
    return found


class Process:
    """A running program whose output goes into a file.

    Parameters
    ----------
    command
        Program and arguments.
    log
        File for its standard output and error, appended to.
    environment
        The whole environment; None for our own.
    stdout
        A file descriptor for its standard output instead of `log`.
    prefer
        Let it run before others where that is permitted: for what must keep pace on a busy machine.
    inherit
        File descriptors of ours that it has too, under the same numbers.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        stdout: int | None = None,
        prefer: bool = False,
        inherit: Sequence[int] = (),
    ) -> None:
        self.command = list(command)
        self.log_path = log
        # The kernel ends it when its parent is killed and gets no chance to.
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        if prefer and os.geteuid() == 0:
            guard += ["nice", "-n", "-15"]
        with log.open("ab") as file:
            self._child = subprocess.Popen(
                [*guard, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=file if stdout is None else stdout,
                stderr=file,
                env=environment,
                pass_fds=inherit,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def status(self) -> int | None:
        """Exit status (negative: the signal that ended it); None while it runs."""
        return self._child.poll()

    @property
    def running(self) -> bool:
        return self.status is None

    def open_files(self) -> list[Path]:
        """What its descriptors are open on."""
        paths = []
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            # It may be closed between the listing and the look.
            with contextlib.suppress(FileNotFoundError):
                paths.append(descriptor.readlink())
        return paths

    def log(self) -> str:
        """What it has written so far."""
        return self.log_path.read_text(errors="replace")

    def await_log(self, text: str, timeout_s: float = 10) -> None:
        """Wait until it has written `text`."""

        def written() -> bool:
            if text in self.log():
                return True
            if not self.running:
                raise RuntimeError(f"{self.command[0]} ended with status {self.status}:\n{self.log()}")
            return False

        await_until(written, timeout_s, f"{text!r} in the log of {self.command[0]}")

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def wait(self, timeout_s: float = 10) -> int:
        """Its exit status, once it has ended; TimeoutError."""
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.command[0]} still runs after {timeout_s:g} s:\n{self.log()}") from None

    def kill(self) -> None:
        """End it at once, without giving it a chance."""
        self._child.kill()
        self._child.wait()

    def close(self, timeout_s: float = 5) -> None:
        """Ask it to end, and see that it does. Idempotent."""
        if self.running:
            self._child.terminate()
            try:
                self._child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
