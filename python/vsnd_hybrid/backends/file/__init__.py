"""Sound files as an engine: a file for every take of playback, capture from a file. Paced by the clock in Rust."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from vsnd_hybrid._core import PcmPort
from vsnd_hybrid.backends.base import (
    Backend,
    BackendError,
    Direction,
    EngineStream,
    EventSink,
    Needs,
    PcmCapabilities,
    PcmParams,
)
from vsnd_hybrid.backends.file import media
from vsnd_hybrid.backends.file.stream import PlaybackStream, RecordingStream
from vsnd_hybrid.backends.file.takes import Takes
from vsnd_hybrid.backends.formats import CHANNELS_MAX, RATES, SAMPLE_BYTES
from vsnd_hybrid.backends.options import boolean, choice, number, size
from vsnd_hybrid.logs import LimitedLog

__all__ = ["FileBackend"]


class FileBackend(Backend):
    """Playback goes into files, capture comes from one.

    Parameters
    ----------
    dir
        Where the files go: one a take (START to RELEASE, pauses left out), ``out-{stream}-take-{number}.wav``. None
        is overwritten. Default: the current directory.
    format
        ``wav``, or ``flac`` (needs soundfile).
    input
        The sound file that is captured; without one capture is silence. The guest is offered just its format.
    loop
        Whether it begins anew at its end. If not, silence follows.
    max_takes, max_bytes
        How many takes may lie in `dir`, and of how many bytes (``16G``); 0: any number. What the guest plays beyond that is not written:
        it keeps its pace, and a warning says so.
    """

    name: ClassVar[str] = "file"
    stream_options: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        *,
        dir: str = ".",
        format: str = "wav",
        input: str = "",
        loop: str = "false",
        max_takes: str = "1000",
        max_bytes: str = "16G",
    ) -> None:
        directory = Path(dir)
        if not (dir and directory.is_dir()):
            raise BackendError(f"option dir={dir}: there is no such directory")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise BackendError(f"option dir={dir}: no permission to write there")
        self._kind = choice("format", format, tuple(media.WRITABLE))
        if self._kind != "wav":
            media.load_soundfile()
        self._input = Path(input) if input else None
        self._loop = boolean("loop", loop)
        # One for all streams: a guest that makes new ones is limited all the same.
        self._log = LimitedLog(logging.getLogger(__name__))
        self._takes = Takes(
            directory,
            self._kind,
            number("max_takes", max_takes, 0, 10**9),
            size("max_bytes", max_bytes),
            self._log,
        )
        self._input_capabilities = _of_file(self._input) if self._input else _ANY

    @classmethod
    def needs(cls, options: Mapping[str, str]) -> Needs:
        source = options.get("input", "")
        return Needs(
            read=(source,) if source else (),
            write=(options.get("dir", "."),),
            permits=frozenset(),
            # It asks the linker's tools for libsndfile.
            modules=("soundfile",) if options.get("format", "wav") != "wav" else (),
        )

    def capabilities(self, direction: Direction) -> PcmCapabilities:
        if direction is Direction.INPUT:
            return self._input_capabilities
        formats, channels = media.WRITABLE[self._kind]
        return PcmCapabilities(formats, RATES, 1, channels)

    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> EngineStream:
        if params.direction is Direction.OUTPUT:
            return PlaybackStream(port, params, events, self._takes, self._kind, self._log)
        reader = media.open_reader(self._input) if self._input else None
        if reader and (reader.format, reader.rate, reader.channels) != (params.format, params.rate, params.channels):
            reader.close()
            raise BackendError(f"{self._input} is no longer what the guest was offered: restart the daemon")
        return RecordingStream(port, params, events, reader, self._loop, self._log)


_ANY = PcmCapabilities(frozenset(SAMPLE_BYTES), RATES, 1, CHANNELS_MAX)


def _of_file(path: Path) -> PcmCapabilities:
    reader = media.open_reader(path)
    reader.close()
    if reader.rate not in RATES:
        raise BackendError(f"cannot use {path}: virtio-snd has no {reader.rate} Hz, resample it to 48000")
    if reader.channels > CHANNELS_MAX:
        raise BackendError(f"cannot use {path}: {reader.channels} channels, expected at most {CHANNELS_MAX}")
    return PcmCapabilities(frozenset((reader.format,)), frozenset((reader.rate,)), reader.channels, reader.channels)
