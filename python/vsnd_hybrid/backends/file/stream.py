"""The two directions of the file engine. A thread of each stream moves bytes between the clock and the file.

It is not part of the audio path: the clock's native thread keeps the guest's pace however slow a disk is.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vsnd_hybrid._core import ClockPort, PcmPort
from vsnd_hybrid.backends.base import BackendError, EngineEvent, EngineStream, EventSink, PcmParams
from vsnd_hybrid.backends.file import media
from vsnd_hybrid.backends.file.takes import Take, Takes
from vsnd_hybrid.logs import LimitedLog

#: How old the lengths in a header may be while a take is written.
SYNC_S: Final = 1.0

#: Read from a file at once.
CHUNK_FRAMES: Final = 4096


class PlaybackStream(EngineStream):
    """Writes what the guest plays: a file from the first START to RELEASE."""

    def __init__(
        self, port: PcmPort, params: PcmParams, events: EventSink, takes: Takes, kind: str, log: LimitedLog
    ) -> None:
        self._stream_id, self._params, self._events = port.stream_id, params, events
        self._takes, self._kind, self._log = takes, kind, log
        self._clock = ClockPort(port, tap=True)
        self._writer: _TakeWriter | None = None
        self._path: Path | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._writer = self._next_take()
            self._thread = threading.Thread(target=self._run, name=f"file-out-{self._stream_id}", daemon=True)
            self._thread.start()
        self._clock.start()

    def stop(self) -> None:
        self._clock.stop()

    def close(self) -> None:
        self._clock.close()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _next_take(self) -> _TakeWriter | None:
        """A new take; None where the directory is full: the guest plays on unheard. Raises `BackendError`."""
        take = self._takes.begin(self._stream_id)
        if take is None:
            return None
        self._path = take.path
        self._log.info("stream %d: writing %s", self._stream_id, take.path)
        return _TakeWriter(take, self._kind, self._params)

    def _run(self) -> None:
        due = 0
        sync_bytes = int(SYNC_S * self._params.rate) * self._params.frame_bytes
        timeout: float | None = None
        while (data := self._clock.take(timeout)) is not None:
            due += len(data)
            # Nothing new for a while: the stream is stopped. With the header right there is nothing to wake up for.
            idle = not data
            timeout = None if idle else SYNC_S
            with self._guarded():
                if data:
                    self._write(data)
                if self._writer and (idle or due >= sync_bytes):
                    self._writer.sync()
                    due = 0
        with self._guarded():
            if self._writer:
                writer, self._writer = self._writer, None
                writer.close()
        if dropped := self._clock.stats["dropped_bytes"]:
            self._log.warning(
                "stream %d: %s lacks %d bytes, the disk was too slow", self._stream_id, self._path, dropped
            )

    def _write(self, data: bytes) -> None:
        while self._writer and len(data) > (room := min(self._writer.room, self._writer.bound)):
            full = room < self._writer.room
            self._writer.write(data[:room])
            data = data[room:]
            writer, self._writer = self._writer, None
            writer.close()
            if full:
                self._takes.full()
            else:
                self._writer = self._next_take()
        if self._writer:
            self._writer.write(data)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """What cannot be written ends the take with one line; the guest's pace goes on."""
        try:
            yield
        except (OSError, BackendError) as error:
            why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            self._fail(f"stream {self._stream_id}: writing {self._path} failed: {why}")

    def _fail(self, line: str) -> None:
        self._log.error("%s", line)
        writer, self._writer = self._writer, None
        if writer:
            with contextlib.suppress(OSError):
                writer.close()
        self._events.post(EngineEvent.FAILED, line)


class _TakeWriter:
    """The file of a take. Methods may raise OSError; one that holds no frame is gone when it was closed."""

    def __init__(self, take: Take, kind: str, params: PcmParams) -> None:
        self._take = take
        self._frame_bytes = params.frame_bytes
        self._empty = True
        try:
            self._writer = media.create(take.file, kind, params.format, params.rate, params.channels)
        except (OSError, BackendError) as error:
            with contextlib.suppress(OSError):  # what could not be written is tried again by close
                take.file.close()
            take.finish(empty=True)
            if isinstance(error, OSError):
                raise BackendError(f"cannot write {take.path}: {error.strerror}") from error
            raise
        self.sync = self._writer.sync

    @property
    def room(self) -> int:
        """Bytes of the guest that the file's format still takes, in whole frames."""
        return self._writer.room

    @property
    def bound(self) -> int:
        """Bytes that the directory still takes, in whole frames."""
        room = self._take.room
        return room - room % self._frame_bytes

    def write(self, data: bytes) -> None:
        if data:
            self._empty = False
            self._writer.write(data)

    def close(self) -> None:
        try:
            self._writer.close()
        finally:
            self._take.finish(empty=self._empty)


class RecordingStream(EngineStream):
    """Captures a file from its beginning, at each PREPARE anew; without one, silence."""

    def __init__(
        self,
        port: PcmPort,
        params: PcmParams,
        events: EventSink,
        reader: media.Reader | None,
        loop: bool,
        log: LimitedLog,
    ) -> None:
        self._stream_id, self._params, self._events = port.stream_id, params, events
        self._reader, self._loop, self._log = reader, loop, log
        self._closing = False
        self._clock = ClockPort(port, tap=reader is not None)
        self._thread: threading.Thread | None = None
        if reader is not None:
            self._thread = threading.Thread(target=self._run, args=(reader,), name=f"file-in-{port.stream_id}")
            self._thread.daemon = True
            self._thread.start()

    def start(self) -> None:
        self._clock.start()

    def stop(self) -> None:
        self._clock.stop()

    def close(self) -> None:
        self._closing = True
        self._clock.close()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, reader: media.Reader) -> None:
        try:
            while not self._closing:
                data = reader.read(CHUNK_FRAMES)
                if not data:
                    if not self._loop:
                        break
                    reader.rewind()
                    data = reader.read(CHUNK_FRAMES)
                    if not data:
                        break  # a file without a frame
                self._feed(data)
        except OSError as error:
            line = f"stream {self._stream_id}: reading the input failed: {error.strerror}; silence from here on"
            self._log.error("%s", line)
            self._events.post(EngineEvent.FAILED, line)
        finally:
            reader.close()

    def _feed(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest and not self._closing:
            rest = rest[self._clock.feed(rest) :]
