"""RIFF WAVE files of linear samples, written so that a daemon that is killed leaves a file that plays.

The standard library's `wave` has no float samples and (before Python 3.12) refuses the extensible header that
every 24-bit file has, so both directions are done here.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE

#: The last 14 bytes of the identifiers that stand for a plain format tag in an extensible header.
_GUID_TAIL: Final = bytes.fromhex("000000001000800000aa00389b71")

#: A file's sizes are 32 bits; what is longer goes on in another file.
DATA_MAX: Final = 0xFFFF_0000


class WavFormat(NamedTuple):
    """How samples lie in a file: `bits` 8 (unsigned), 16, 24 or 32, or 32 and 64 if `floats`."""

    rate: int
    channels: int
    bits: int
    floats: bool = False

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.bits // 8


class WavError(Exception):
    """The file is no WAV file that can be read; the message is one line."""


class WavWriter:
    """Writes one file. The header is right after `sync`; before, only its length fields are behind.

    The file is better not buffered: what a full disk did not take would be in the way of the last header.
    """

    def __init__(self, file: BinaryIO, fmt: WavFormat) -> None:
        self._file, self._fmt = file, fmt
        self._bytes = 0
        self._synced = -1
        self.sync()

    @property
    def room(self) -> int:
        """Bytes that still fit, in whole frames."""
        left = DATA_MAX - self._bytes
        return left - left % self._fmt.frame_bytes

    def write(self, data: bytes) -> None:
        """Append samples. Raises OSError; what was written before is in the file."""
        for done in _pieces(self._file, data):
            self._bytes += done

    def sync(self) -> None:
        """Write the lengths of now, and everything else, through to the file. Raises OSError."""
        if self._synced == self._bytes:
            return
        self._file.seek(0)
        sum(_pieces(self._file, self._header()))
        self._file.seek(0, io.SEEK_END)
        self._file.flush()
        self._synced = self._bytes

    def close(self) -> None:
        """Finish and close the file. Raises OSError; the file is closed then, too."""
        try:
            if self._bytes % 2:  # chunks are padded to even sizes; the padding is not counted
                self._file.write(b"\0")
            self.sync()
        finally:
            self._file.close()

    def _header(self) -> bytes:
        fmt = self._fmt
        size = self._bytes - self._bytes % fmt.frame_bytes
        tag = FLOAT if fmt.floats else PCM
        body = struct.pack(
            "<HHIIHH", tag, fmt.channels, fmt.rate, fmt.rate * fmt.frame_bytes, fmt.frame_bytes, fmt.bits
        )
        chunks = b"fmt " + struct.pack("<I", len(body)) + body
        if fmt.floats:
            chunks += b"fact" + struct.pack("<II", 4, size // fmt.frame_bytes)
        chunks += b"data" + struct.pack("<I", size)
        riff = 4 + len(chunks) + size + size % 2
        return b"RIFF" + struct.pack("<I", riff) + b"WAVE" + chunks


class WavReader:
    """Reads the samples of one file, as they lie there."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the header. Raises `WavError`, OSError."""
        self._file = file
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            raise WavError("no WAV file")
        fmt: WavFormat | None = None
        while True:
            name, size = struct.unpack("<4sI", _exactly(file, 8))
            if name == b"data":
                break
            body = _exactly(file, size + size % 2)
            if name == b"fmt ":
                fmt = _format(body)
        if fmt is None:
            raise WavError("no format before the samples")
        self.format = fmt
        self._start = file.tell()
        there = file.seek(0, io.SEEK_END) - self._start
        # A writer that was killed leaves a length of 0 or one that is too large: take what is there.
        size = there if size == 0 else min(size, there)
        self._end = self._start + size - size % fmt.frame_bytes
        self.rewind()

    @property
    def frames(self) -> int:
        return (self._end - self._start) // self.format.frame_bytes

    def rewind(self) -> None:
        """Back to the first frame."""
        self._file.seek(self._start)

    def read(self, frames: int) -> bytes:
        """Up to `frames` frames; fewer at the end. Raises OSError."""
        size = min(frames * self.format.frame_bytes, self._end - self._file.tell())
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()


def _pieces(file: BinaryIO, data: bytes) -> Iterator[int]:
    """Write all of `data` to a file that is not buffered; yields how much of it each call took."""
    rest = memoryview(data)
    while rest:
        done = file.write(rest)
        rest = rest[done:]
        yield done


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(min(size, 1 << 20))
    if len(data) != size:
        raise WavError("no samples in the WAV file: it ends before them")
    return data


def _format(body: bytes) -> WavFormat:
    if len(body) < 16:
        raise WavError("a WAV format of less than 16 bytes")
    tag, channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", body)
    if tag == EXTENSIBLE and len(body) >= 40 and body[26:40] == _GUID_TAIL:
        (tag,) = struct.unpack_from("<H", body, 24)
    if (tag, bits) not in {(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64)}:
        raise WavError(f"a WAV file of format {tag:#x} with {bits} bits, expected linear samples or floats")
    fmt = WavFormat(rate, channels, bits, tag == FLOAT)
    if channels == 0 or frame_bytes != fmt.frame_bytes:
        raise WavError(f"a WAV file of {channels} channels whose frames are {frame_bytes} bytes")
    return fmt
