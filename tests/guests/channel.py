"""Commands for the guest over a virtio-serial port: the host's end of what `image/init` serves."""

from __future__ import annotations

import base64
import itertools
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from tests.processes import POLL_S, Process


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of a command."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode(errors="replace")


class CommandFailed(AssertionError):
    """A command in the guest ended with a status other than 0."""


class Channel:
    """One port, which runs one command at a time.

    Parameters
    ----------
    path
        QEMU's socket of the port.
    qemu
        The process, so that its end is noticed.
    """

    def __init__(self, path: Path, qemu: Process) -> None:
        self._qemu = qemu
        self._ids = itertools.count()
        self._received = bytearray()
        self.job: Job | None = None
        self._socket = socket.socket(socket.AF_UNIX)
        # Connected before the guest opens the port, else its reads see the end of the file.
        end = time.monotonic() + 10
        while True:
            try:
                self._socket.connect(str(path))
                return
            except OSError as error:
                if not qemu.running:
                    raise RuntimeError(f"QEMU ended with status {qemu.status}: {qemu.log().strip()}") from None
                if time.monotonic() > end:
                    raise TimeoutError(f"{path}: {error}") from None
                time.sleep(POLL_S)

    def await_ready(self, timeout_s: float) -> None:
        """Wait until a freshly booted guest serves the port; what is left of an earlier life is dropped."""
        end = time.monotonic() + timeout_s
        while (found := self._received.find(b"READY\n")) < 0:
            self._fill(end)
        del self._received[: found + len(b"READY\n")]
        self.job = None

    def start(self, script: str) -> Job:
        """Have a shell script run; does not wait."""
        if self.job:
            raise RuntimeError("this channel is busy")
        job = Job(self, f"job{next(self._ids)}", script)
        self.job = job
        self._socket.sendall(f"{job.id} {base64.b64encode(script.encode()).decode()}\n".encode())
        return job

    def finish(self, job: Job, timeout_s: float) -> Finished:
        """The result of the running job."""
        end = time.monotonic() + timeout_s
        while b"\n" not in self._received:
            self._fill(end)
        line, _, _ = bytes(self._received).partition(b"\n")
        name, status, out, err = line.decode().split()
        if name != job.id:
            raise RuntimeError(f"the guest answered {name} when {job.id} was awaited")
        del self._received[: len(line) + 1]
        output, errors = self._take(int(out), end), self._take(int(err), end)
        self.job = None
        return Finished(int(status), output, errors.decode(errors="replace"))

    def close(self) -> None:
        self._socket.close()

    def _take(self, count: int, end: float) -> bytes:
        while len(self._received) < count:
            self._fill(end)
        data = bytes(self._received[:count])
        del self._received[:count]
        return data

    def _fill(self, end: float) -> None:
        self._socket.settimeout(max(end - time.monotonic(), 0.001))
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            doing = f"running {self.job.script!r}" if self.job else "booting"
            raise TimeoutError(f"the guest did not answer in time, {doing}") from None
        if not data:
            raise RuntimeError(f"QEMU is gone: {self._qemu.log().strip()}")
        self._received += data


class Job:
    """A script that runs in the guest."""

    def __init__(self, channel: Channel, job_id: str, script: str) -> None:
        self._channel, self.id, self.script = channel, job_id, script

    def wait(self, timeout_s: float = 60) -> Finished:
        """Its result, whatever the status is."""
        return self._channel.finish(self, timeout_s)

    def check(self, timeout_s: float = 60) -> Finished:
        """Its result; CommandFailed unless the status is 0."""
        done = self.wait(timeout_s)
        if done.status:
            raise CommandFailed(f"{self.script!r} ended with status {done.status}: {done.err.strip() or done.text}")
        return done
