"""The system calls of a running process, as strace sees them. Needs the right to trace it; root has it."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Self

import pytest

from tests.processes import Process

_LINE = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?:(?P<fd>\d+)<(?P<file>[^>]*)>)?(?P<rest>.*)")


class Call(NamedTuple):
    """One system call; `fd` and what is open there if its first argument is a descriptor."""

    thread: int
    name: str
    fd: int | None
    file: str
    rest: str


class Trace:
    """Traces all threads of a process inside of a ``with`` block."""

    def __init__(self, pid: int, directory: Path) -> None:
        if shutil.which("strace") is None:
            pytest.fail("strace is not installed: run scripts/system-setup")
        self._out = directory / f"strace-{pid}"
        self._log = directory / "strace.log"
        self._command = ["strace", "-f", "-y", "-o", str(self._out), "-p", str(pid)]

    def __enter__(self) -> Self:
        self._process = Process(self._command, self._log)
        try:
            self._process.await_log("attached")
        except RuntimeError as error:
            if os.geteuid() == 0:
                raise
            pytest.skip(f"only root may trace a process here: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()

    def calls(self) -> list[Call]:
        """What was called so far, each where it began."""
        found = (_LINE.match(line) for line in self._out.read_text().splitlines())
        return [
            Call(int(m["thread"]), m["name"], int(m["fd"]) if m["fd"] else None, m["file"] or "", m["rest"])
            for m in found
            if m
        ]


def wakeups(calls: list[Call]) -> list[list[Call]]:
    """One thread's calls from each wake-up to the next sleep; what was going on when the trace began or ended is left out."""
    sleeps = [i for i, call in enumerate(calls) if call.name.startswith("epoll_")]
    return [calls[a + 1 : b] for a, b in pairwise(sleeps)]


def eventfds(pid: int) -> dict[int, str]:
    """Each eventfd of a process: the descriptor, and the kernel's number of it, which other processes see too."""
    found = {}
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            number = re.search(r"^eventfd-id:\s+(\d+)", entry.read_text(), re.MULTILINE)
            if number:
                found[int(entry.name)] = number[1]
    return found
