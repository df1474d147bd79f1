"""Backends that try what they must not be able to do, while they play: what a guest that took the daemon over would try.

Installed by the fixture `spy` in a directory of its own: there is one for each of our backends, which is otherwise as that.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import mmap
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vsnd_hybrid._core import PcmPort
from vsnd_hybrid.backends import base
from vsnd_hybrid.backends.file import FileBackend
from vsnd_hybrid.backends.null import NullBackend
from vsnd_hybrid.backends.pipewire import PipeWireBackend

_LIBC = ctypes.CDLL(None, use_errno=True)
_PTRACE_PEEKDATA = 2
_NOT_A_CALL = 1023


class _Spying(base.Backend):
    """Its file `attempts.json` in `dir` says what became of each attempt, on a thread made before and one made after the
    sandbox was complete. `outside`: a directory that was not declared. `deadly`: try `ptrace` last.
    """

    def __init__(self, *, dir: str, outside: str, deadly: str = "no", **options: str) -> None:
        super().__init__(**options)
        self._report = Path(dir) / "attempts.json"
        self._outside = Path(outside)
        self._deadly = deadly == "yes"
        self._begin = threading.Event()
        self._results: dict[str, dict[str, str]] = {}
        self._early = threading.Thread(target=self._wait_and_try)
        self._early.start()

    @classmethod
    def needs(cls, options: Mapping[str, str]) -> base.Needs:
        return super().needs(options) | base.Needs(write=(options["dir"],), permits=frozenset())

    def open(self, port: PcmPort, params: base.PcmParams, events: base.EventSink) -> base.EngineStream:
        threading.Thread(target=self._try_both).start()
        return super().open(port, params, events)  # type: ignore[safe-super]  # of the backend behind it

    def _wait_and_try(self) -> None:
        self._begin.wait()
        self._results["early"] = self._attempts("early")

    def _try_both(self) -> None:
        self._results["late"] = self._attempts("late")
        self._begin.set()
        self._early.join()
        whole = self._report.with_suffix(".part")
        whole.write_text(json.dumps(self._results))
        whole.rename(self._report)
        if self._deadly:
            _LIBC.ptrace(_PTRACE_PEEKDATA, 1, None, None)

    def _attempts(self, thread: str) -> dict[str, str]:
        outside = self._outside
        attempts: dict[str, Callable[[], Any]] = {
            "read /etc/passwd": lambda: Path("/etc/passwd").read_text(),
            "list /": lambda: os.listdir("/"),
            "read outside": lambda: (outside / "secret").read_text(),
            "write outside": lambda: (outside / "new").write_text(""),
            "change outside": lambda: (outside / "secret").open("r+"),
            "remove outside": lambda: (outside / f"prey-{thread}").unlink(),
            "truncate outside": lambda: os.truncate(outside / "secret", 0),
            "start a program": lambda: subprocess.run(["/bin/true"], check=True),
            "execve": lambda: _call(_LIBC.execve, b"/bin/true/none", None, None, fine=errno.ENOTDIR),
            "internet socket": lambda: socket.socket(socket.AF_INET).close(),
            "packet socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
            "local socket": lambda: socket.socket(socket.AF_UNIX).close(),
            "signal another": lambda: os.kill(os.getppid(), 0),
            "writable code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC).close(),
            "change a mode": lambda: os.chmod(self._report.parent, 0o777),
            "unknown call": lambda: _call(_LIBC.syscall, _NOT_A_CALL),
            # What must go on working.
            "write inside": lambda: (self._report.parent / "note").write_text("note"),
            "import later": lambda: importlib.import_module("xml.dom.minidom"),
            "import a package later": lambda: importlib.import_module("msgspec"),
            "signal itself": lambda: signal.raise_signal(signal.SIGCHLD),
            "random": lambda: os.getrandom(8),
        }
        return {name: _outcome(attempt) for name, attempt in attempts.items()}


class FileSpy(_Spying, FileBackend):
    """Its takes are beside its report."""

    name = "spy"

    def __init__(self, *, dir: str, outside: str, deadly: str = "no") -> None:
        super().__init__(dir=dir, outside=outside, deadly=deadly)
        FileBackend.__init__(self, dir=dir)


class NullSpy(_Spying, NullBackend):
    """Plays into nothing."""

    name = "spy-null"


class PipeWireSpy(_Spying, PipeWireBackend):
    """Plays through PipeWire."""

    name = "spy-pipewire"


def _call(function: Any, *arguments: Any, fine: int = 0) -> None:
    ctypes.set_errno(0)
    if function(*arguments) < 0 and ctypes.get_errno() != fine:
        raise OSError(ctypes.get_errno(), "")


def _outcome(attempt: Callable[[], Any]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"
