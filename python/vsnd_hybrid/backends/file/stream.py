"""The two directions of the file engine. A thread of each stream moves bytes between the clock and the file.

It is not part of the audio path: the clock's native thread keeps the guest's pace however slow a disk is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from vsnd_hybrid._core import ClockPort, PcmPort
from vsnd_hybrid.backends.base import BackendError, EngineEvent, EngineStream, EventSink, PcmParams
from vsnd_hybrid.backends.file import media

log = logging.getLogger(__name__)

#: How old the lengths in a header may be while a take is written.
SYNC_S: Final = 1.0

#: Read from a file at once.
CHUNK_FRAMES: Final = 4096


class PlaybackStream(EngineStream):
    """Writes what the guest plays: a file from the first START to RELEASE."""

    def __init__(self, port: PcmPort, params: PcmParams, events: EventSink, directory: Path, kind: str) -> None:
        self._stream_id, self._params, self._events = port.stream_id, params, events
        self._directory, self._kind = directory, kind
        self._clock = ClockPort(port, tap=True)
        self._writer: media.Writer | None = None
        self._path = directory
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

    def _next_take(self) -> media.Writer:
        """A new file, numbered behind the last one that is there. Raises `BackendError`."""
        name = f"out-{self._stream_id}-take-{{:03}}.{self._kind}"
        number = 1
        while True:
            self._path = self._directory / name.format(number)
            try:
                file = cast(BinaryIO, self._path.open("x+b", buffering=0))
                break
            except FileExistsError:
                number += 1
            except OSError as error:
                raise BackendError(f"cannot write {self._path}: {error.strerror}") from error
        log.info("stream %d: writing %s", self._stream_id, self._path)
        try:
            return media.create(file, self._kind, self._params.format, self._params.rate, self._params.channels)
        except (OSError, BackendError) as error:
            with contextlib.suppress(OSError):  # what could not be written is tried again by close
                file.close()
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            if isinstance(error, OSError):
                raise BackendError(f"cannot write {self._path}: {error.strerror}") from error
            raise

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
            log.warning("stream %d: %s lacks %d bytes, the disk was too slow", self._stream_id, self._path, dropped)

    def _write(self, data: bytes) -> None:
        while self._writer and len(data) > (room := self._writer.room):
            self._writer.write(data[:room])
            data = data[room:]
            self._writer.close()
            self._writer = None
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
        log.error("%s", line)
        writer, self._writer = self._writer, None
        if writer:
            with contextlib.suppress(OSError):
                writer.close()
        self._events.post(EngineEvent.FAILED, line)


class RecordingStream(EngineStream):
    """Captures a file from its beginning, at each PREPARE anew; without one, silence."""

    def __init__(
        self, port: PcmPort, params: PcmParams, events: EventSink, reader: media.Reader | None, loop: bool
    ) -> None:
        self._stream_id, self._params, self._events = port.stream_id, params, events
        self._reader, self._loop = reader, loop
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
            log.error("%s", line)
            self._events.post(EngineEvent.FAILED, line)
        finally:
            reader.close()

    def _feed(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest and not self._closing:
            rest = rest[self._clock.feed(rest) :]
