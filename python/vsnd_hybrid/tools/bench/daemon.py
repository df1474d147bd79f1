"""A daemon under measurement: started anew for each, connected to, and ended whatever happens, by a time limit too."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vsnd_hybrid.guest import GuestError, VirtualGuest
from vsnd_hybrid.tools.bench import probe

#: How often a socket that is not there yet is tried.
_RETRY_S = 0.0002
_END_S = 2.0


class Failed(Exception):
    """A measurement could not be made. The message is one line."""


class _Ended(Failed):
    """The same, and the message says what became of the daemon."""


class Daemon:
    """A command that serves a vhost-user socket, in a process group of its own.

    Parameters
    ----------
    argv
        The command.
    path
        Where its socket will be.
    environment
        The whole environment.
    start_s
        Seconds until its socket must accept a connection.
    limit_s
        Seconds from now until it is killed, so that whoever waits for it goes on.
    """

    def __init__(
        self, argv: Sequence[str], path: Path, environment: Mapping[str, str], *, start_s: float, limit_s: float
    ) -> None:
        if shutil.which(argv[0], path=environment.get("PATH")) is None:
            raise Failed(f"cannot run {argv[0]}: there is no such program")
        self._path, self._start_s, self._limit_s = path, start_s, limit_s
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by `close`
        self._expired = False
        self._guests: list[VirtualGuest] = []
        self.started_ns = time.monotonic_ns()
        try:
            self._child = subprocess.Popen(
                [*_guard(), *argv],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise Failed(f"cannot run {argv[0]}: {error.strerror or error}") from error
        self._timer = threading.Timer(limit_s, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def _expire(self) -> None:
        self._expired = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, number)

    def _descendants(self) -> list[int]:
        """Of what it started, as pidfds, which are never another process's; to be closed."""
        found = []
        for pid in self.pids[1:]:
            with contextlib.suppress(ProcessLookupError):
                found.append(os.pidfd_open(pid))
        return found

    @property
    def pids(self) -> list[int]:
        """The processes that are measured: the command and what it started."""
        return probe.processes(self._child.pid)

    def why(self, error: object) -> str:
        """`error` as one line, with what became of the daemon."""
        text = " ".join(str(error).split())
        if self._expired:
            return f"{text}; it was ended after {self._limit_s:g} s"
        # An end that caused the error may be noticed a moment later.
        return f"{text}; the daemon {self._end()}" if self._over(1.0) else text

    def _over(self, within_s: float = 0) -> bool:
        """Whether it has ended by then; what it started is ended with it, while its id is still its own."""
        until = time.monotonic() + within_s
        while self._child.returncode is None:
            if os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
                self._signal(signal.SIGKILL)
                self._child.wait()
            elif time.monotonic() >= until:
                return False
            else:
                time.sleep(0.002)
        return True

    def _end(self) -> str:
        status = self._child.returncode
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        self._log.seek(0)
        why = last_word(self._log.read().decode(errors="replace"))
        return f"{how}: {why}" if why else how

    def connect(self) -> socket.socket:
        """A connection, as soon as it accepts one. Raises `Failed`."""
        until = time.monotonic() + self._start_s
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                sock.connect(str(self._path))
                return sock
            except OSError as error:
                sock.close()
                if self._over():
                    raise _Ended(f"it did not serve: the daemon {self._end()}") from error
                if time.monotonic() > until:
                    raise Failed(f"it did not accept a connection within {self._start_s:g} s") from error
            time.sleep(_RETRY_S)

    def guest(self, **options: Any) -> VirtualGuest:
        """A guest connected to it. Raises `Failed` and `GuestError`.

        It does not kick its queues when they start, as crosvm: after QEMU's kicks vhost-device-sound 0.3.0 now and then misses
        the first request.
        """
        with self.connect() as sock:
            guest = VirtualGuest(sock.fileno(), kick_at_start=False, **options)
        self._guests.append(guest)
        return guest

    def close(self) -> None:
        """End it, and all that it started. Idempotent."""
        for guest in self._guests:
            with contextlib.suppress(GuestError):
                guest.kill()
        self._guests.clear()
        self._timer.cancel()
        if self._child.returncode is None:
            # Some may have left its process group.
            started = self._descendants()
            self._signal(signal.SIGTERM)
            if not self._over(_END_S):
                self._signal(signal.SIGKILL)
                self._child.wait()
            for descriptor in started:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                os.close(descriptor)
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, (GuestError, TimeoutError, Failed)) and not isinstance(error, _Ended):
                raise Failed(self.why(error)) from error
        finally:
            self.close()


def last_word(log: str) -> str:
    """What a program that has ended said at last, in one line: of a Rust panic its message, not the backtrace behind it."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for line, next_line in pairwise(lines):
        if panic := re.search(r" panicked at (?:.*/)?(\S+):$", line):
            return f"panic at {panic[1]}: {next_line}"[:200]
    return lines[-1][:200] if lines else ""


def _guard() -> list[str]:
    """Has the kernel end a daemon whose bench was killed and gets no chance to."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
