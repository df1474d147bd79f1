"""Descriptors that a front end may hand over: those that are wanted, and any other."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

#: The largest that an eventfd counts to: one more write waits for somebody to read.
_EVENTFD_FULL: Final = 2**64 - 2


@contextmanager
def made(kind: str) -> Iterator[int]:
    """A descriptor of this kind, and whatever it needs to be one, while the block runs."""
    ours = KINDS[kind]()
    try:
        yield ours[0]
    finally:
        for fd in ours:
            with suppress(OSError):
                os.close(fd)


def _eventfd(count: int, flags: int = 0) -> list[int]:
    fd = os.eventfd(0, flags)
    if count:
        os.eventfd_write(fd, count)
    return [fd]


def _pipe(*, full: bool = False, writing: bool = True, closed: bool = False) -> list[int]:
    read, write = os.pipe()
    if full:
        os.set_blocking(write, False)
        with suppress(BlockingIOError):
            while True:
                os.write(write, bytes(65536))
        os.set_blocking(write, True)
    ours, theirs = (write, read) if writing else (read, write)
    if closed:
        os.close(theirs)
        return [ours]
    return [ours, theirs]


def _file(size: int) -> list[int]:
    fd, path = tempfile.mkstemp()
    os.unlink(path)
    os.truncate(fd, size)
    return [fd]


def _socket() -> list[int]:
    return [end.detach() for end in socket.socketpair()]


def _memory(size: int) -> list[int]:
    fd = os.memfd_create("hostile")
    os.truncate(fd, size)
    return [fd]


KINDS: Final[dict[str, Callable[[], list[int]]]] = {
    "eventfd": lambda: _eventfd(0),
    "full eventfd": lambda: _eventfd(_EVENTFD_FULL),
    "full eventfd that does not block": lambda: _eventfd(_EVENTFD_FULL, os.EFD_NONBLOCK),
    "pipe to write": _pipe,
    "full pipe": lambda: _pipe(full=True),
    "pipe that nobody reads": lambda: _pipe(closed=True),
    "pipe to read": lambda: _pipe(writing=False),
    "pipe that nobody writes": lambda: _pipe(writing=False, closed=True),
    "full pipe to read": lambda: _pipe(writing=False, full=True),
    "socket": _socket,
    "empty file": lambda: _file(0),
    "file": lambda: _file(1 << 16),
    "large file": lambda: _file(1 << 30),
    "empty memory": lambda: _memory(0),
    "memory": lambda: _memory(1 << 20),
    "zeros without end": lambda: [os.open("/dev/zero", os.O_RDWR)],
    "directory": lambda: [os.open("/", os.O_RDONLY)],
    "path": lambda: [os.open("/", os.O_PATH)],
}
