"""The takes of a directory: how they are numbered, and how many and how large they may get.

A guest begins and ends takes as it likes, so what it can leave on the host's disk has bounds. They are the directory's: what
lay there before, and what other daemons left there, counts too.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from vsnd_hybrid.backends.base import BackendError
from vsnd_hybrid.logs import LimitedLog

_NAME: Final = re.compile(r"out-([0-9]{1,9})-take-([0-9]{3,15})\.(?:wav|flac)")

#: A full directory is looked at again so seldom: somebody may have made room.
LOOK_S: Final = 10.0


class Take:
    """One file that is being written. For one thread."""

    def __init__(self, takes: Takes, stream_id: int, number: int, path: Path, file: BinaryIO) -> None:
        self._takes = takes
        self._stream_id, self._number = stream_id, number
        self._counted = 0
        self.path = path
        self.file = file

    @property
    def room(self) -> int:
        """Bytes that may still be written, by the bound of the directory; not below 0."""
        with contextlib.suppress(OSError):  # the next write says what is wrong with it
            self._count(os.fstat(self.file.fileno()).st_size)
        return self._takes.room

    def finish(self, *, empty: bool) -> None:
        """The file was closed; an `empty` one is removed. Does not raise."""
        with contextlib.suppress(OSError):
            if empty:
                os.unlink(self.path)
                self._count(0)
                self._takes.removed(self._stream_id, self._number)
            else:
                self._count(os.stat(self.path).st_size)

    def _count(self, size: int) -> None:
        self._takes.grew(size - self._counted)
        self._counted = size


class Takes:
    """What one backend writes into one directory. Any thread may call, one at a time for each stream.

    Parameters
    ----------
    kind
        The ending of the files' names.
    max_takes, max_bytes
        What may lie in the directory; 0: any number.
    """

    def __init__(
        self,
        directory: Path,
        kind: str,
        max_takes: int,
        max_bytes: int,
        log: LimitedLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory, self._kind = directory, kind
        self._max_takes, self._max_bytes = max_takes, max_bytes
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        #: The highest number of each stream: trying them from 1 takes longer with each take.
        self._last: dict[int, int] = {}
        self._files = 0
        self._bytes = 0
        self._full = self._looking = False
        self._looked_at = clock()
        for stream_id, number, size in self._found():
            self._last[stream_id] = max(number, self._last.get(stream_id, 0))
            self._files += 1
            self._bytes += size

    def begin(self, stream_id: int) -> Take | None:
        """A new file, numbered behind the last one of the stream. None if the directory is full. Raises `BackendError`."""
        if not self._has_room():
            return None
        number = self._last.get(stream_id, 0)
        while True:
            number += 1
            path = self._directory / f"out-{stream_id}-take-{number:03}.{self._kind}"
            try:
                file = cast(BinaryIO, path.open("x+b", buffering=0))
                break
            except FileExistsError:
                continue
            except OSError as error:
                raise BackendError(f"cannot write {path}: {error.strerror}") from error
        with self._lock:
            self._last[stream_id] = number
            self._files += 1
        return Take(self, stream_id, number, path, file)

    @property
    def room(self) -> int:
        """Bytes that may still be written; not below 0."""
        with self._lock:
            return max(0, self._max_bytes - self._bytes) if self._max_bytes else 1 << 62

    def grew(self, by: int) -> None:
        """A take has so many bytes more, or fewer."""
        with self._lock:
            self._bytes += by

    def removed(self, stream_id: int, number: int) -> None:
        """A take is gone again."""
        with self._lock:
            self._files -= 1
            if self._last.get(stream_id) == number:
                self._last[stream_id] -= 1

    def full(self) -> None:
        """Nothing more is written; said once, until there is room again."""
        with self._lock:
            told, self._full = self._full, True
        if not told:
            self._looked_at = self._clock()
            self._log.warning(
                "%s is full: %d takes of %d bytes, allowed are max_takes=%d and max_bytes=%d; "
                "the guest plays on, and no more of it is written until files are taken away",
                self._directory,
                self._files,
                self._bytes,
                self._max_takes,
                self._max_bytes,
            )

    # ------------------------------------------------------------ inside

    def _has_room(self) -> bool:
        if not self._full and self._fits(self._files, self._bytes):
            return True
        self.full()
        if self._clock() - self._looked_at >= LOOK_S and not self._looking:
            # A directory of many files takes longer than START may: what is found is for the next one.
            self._looking = True
            threading.Thread(target=self._look_again, name="file-look", daemon=True).start()
        return False

    def _look_again(self) -> None:
        files = size = 0
        for _, _, more in self._found():
            files += 1
            size += more
            if not self._fits(files, size):
                break
        # What other streams are writing now may be counted twice; the next look puts that right.
        with self._lock:
            if self._fits(files, size):
                self._files, self._bytes, self._full = files, size, False
            self._looked_at = self._clock()
            self._looking = False

    def _fits(self, files: int, size: int) -> bool:
        return (not self._max_takes or files < self._max_takes) and (not self._max_bytes or size < self._max_bytes)

    def _found(self) -> Iterator[tuple[int, int, int]]:
        """Stream, number and size of the takes that are there; none where the directory cannot be read."""
        with contextlib.suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                if name := _NAME.fullmatch(entry.name):
                    size = 0
                    with contextlib.suppress(OSError):  # it was taken away a moment ago
                        size = entry.stat(follow_symlinks=False).st_size
                    yield int(name[1]), int(name[2]), size
