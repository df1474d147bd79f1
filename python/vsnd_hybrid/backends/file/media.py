"""Sound files as virtio's formats see them: bytes of the guest in, bytes of the guest out. WAV here, others by soundfile."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from vsnd_hybrid.backends.base import BackendError
from vsnd_hybrid.backends.file.wav import WavError, WavFormat, WavReader, WavWriter
from vsnd_hybrid.backends.formats import SAMPLE_BYTES

#: virtio format: bits in the file, floats.
_WAV: Final = {
    "U8": (8, False),
    "S16": (16, False),
    "S24": (24, False),
    "S32": (32, False),
    "FLOAT": (32, True),
    "FLOAT64": (64, True),
}
_FROM_WAV: Final = {bits: name for name, bits in _WAV.items()}

#: virtio format: soundfile's subtype and the sample type of its raw interface.
_FLAC: Final = {"S16": ("PCM_16", "int16"), "S24": ("PCM_24", "int32")}

#: The upper byte of a sign-extended 24-bit sample, by its third.
_SIGN: Final = bytes(0xFF if byte & 0x80 else 0 for byte in range(256))

#: What a writer of each file format takes: virtio formats and the largest number of channels.
WRITABLE: Final = {"wav": (frozenset(_WAV), 18), "flac": (frozenset(_FLAC), 8)}


class Writer(Protocol):
    """A file that is written. Every method may raise OSError."""

    @property
    def room(self) -> int:
        """Bytes of the guest that still fit."""

    def write(self, data: bytes) -> None:
        """Append whole frames in the guest's format."""

    def sync(self) -> None:
        """What was written is in a file that can be read from now on."""

    def close(self) -> None:
        """Finish the file."""


class Reader(Protocol):
    """A file that is read, in the one format, rate and channel count that it has."""

    format: str
    rate: int
    channels: int

    def read(self, frames: int) -> bytes:
        """Up to `frames` frames in the guest's format; fewer at the end. Raises OSError."""

    def rewind(self) -> None:
        """Back to the first frame."""

    def close(self) -> None: ...


def create(file: BinaryIO, kind: str, name: str, rate: int, channels: int) -> Writer:
    """Begin a file of this kind (``wav``, ``flac``) for a virtio format. Raises OSError, `BackendError`."""
    if kind == "wav":
        return _WavOut(file, name, rate, channels)
    return _FlacOut(file, name, rate, channels)


def open_reader(path: Path) -> Reader:
    """Open a sound file. Raises `BackendError` (one line) if there is none, or it is none that can be read."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise BackendError(f"cannot read {path}: {error.strerror}") from error
    try:
        head = file.read(4)
        file.seek(0)
        if head == b"RIFF":
            return _WavIn(file)
        return _SoundFileIn(file, path)
    except (WavError, BackendError) as error:
        file.close()
        raise BackendError(f"cannot use {path}: {error}") from error
    except OSError as error:
        file.close()
        raise BackendError(f"cannot read {path}: {error.strerror}") from error


def load_soundfile() -> Any:
    """The soundfile module. Raises `BackendError` if it is not installed."""
    try:
        import soundfile  # type: ignore[import-untyped]
    except (ImportError, OSError) as error:
        raise BackendError("files other than WAV need soundfile: pip install 'vsnd-hybrid[files]'") from error
    return soundfile


def pack24(data: bytes) -> bytes:
    """24 bits in four bytes, as virtio has them, to three bytes, as WAV has them."""
    packed = bytearray(len(data) // 4 * 3)
    for byte in range(3):
        packed[byte::3] = data[byte::4]
    return bytes(packed)


def unpack24(data: bytes) -> bytes:
    """Three bytes to 24 bits in four, sign-extended."""
    wide = bytearray(len(data) // 3 * 4)
    for byte in range(3):
        wide[byte::4] = data[byte::3]
    wide[3::4] = data[2::3].translate(_SIGN)
    return bytes(wide)


class _WavOut:
    def __init__(self, file: BinaryIO, name: str, rate: int, channels: int) -> None:
        bits, floats = _WAV[name]
        self._packed = name == "S24"
        self._wav = WavWriter(file, WavFormat(rate, channels, bits, floats))
        self.sync = self._wav.sync
        self.close = self._wav.close

    @property
    def room(self) -> int:
        return self._wav.room // 3 * 4 if self._packed else self._wav.room

    def write(self, data: bytes) -> None:
        self._wav.write(pack24(data) if self._packed else data)


class _WavIn:
    def __init__(self, file: BinaryIO) -> None:
        self._wav = WavReader(file)
        fmt = self._wav.format
        self.format, self.rate, self.channels = _FROM_WAV[fmt.bits, fmt.floats], fmt.rate, fmt.channels
        self.rewind = self._wav.rewind
        self.close = self._wav.close

    def read(self, frames: int) -> bytes:
        data = self._wav.read(frames)
        return unpack24(data) if self.format == "S24" else data


class _FlacOut:
    def __init__(self, file: BinaryIO, name: str, rate: int, channels: int) -> None:
        module = load_soundfile()
        subtype, self._dtype = _FLAC[name]
        self._file = file
        self._shift = name == "S24"
        try:
            self._sound: Any = module.SoundFile(
                file, "w", samplerate=rate, channels=channels, subtype=subtype, format="FLAC"
            )
        except RuntimeError as error:
            raise BackendError(f"FLAC cannot hold {name} at {rate} Hz, {channels} channels: {error}") from error

    room = 1 << 62

    def write(self, data: bytes) -> None:
        if self._shift:  # libsndfile takes 24 bits from the upper end of four bytes
            wide = bytearray(len(data))
            for byte in range(3):
                wide[byte + 1 :: 4] = data[byte::4]
            data = bytes(wide)
        try:
            self._sound.buffer_write(data, dtype=self._dtype)
        except RuntimeError as error:
            raise OSError(0, str(error)) from error

    def sync(self) -> None:
        # FLAC can be read to its last whole block without a length in its header.
        self._file.flush()

    def close(self) -> None:
        try:
            self._sound.close()
        except RuntimeError as error:
            raise OSError(0, str(error)) from error
        finally:
            self._file.close()


class _SoundFileIn:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        module = load_soundfile()
        try:
            self._sound: Any = module.SoundFile(file)
        except RuntimeError as error:
            raise BackendError("it is no sound file that libsndfile knows") from error
        subtype = self._sound.subtype
        self.format = {"PCM_S8": "S16", "PCM_U8": "S16", "PCM_16": "S16", "PCM_24": "S24", "PCM_32": "S32"}.get(
            subtype, "FLOAT"
        )
        self._dtype = {"S16": "int16", "S24": "int32", "S32": "int32", "FLOAT": "float32"}[self.format]
        self.rate, self.channels = self._sound.samplerate, self._sound.channels
        self._frame_bytes = SAMPLE_BYTES[self.format] * self.channels
        self._file, self._path = file, path

    def read(self, frames: int) -> bytes:
        buffer = bytearray(frames * self._frame_bytes)
        try:
            got = self._sound.buffer_read_into(buffer, dtype=self._dtype)
        except RuntimeError as error:
            raise OSError(0, str(error), str(self._path)) from error
        data = bytes(buffer[: got * self._frame_bytes])
        if self.format != "S24":
            return data
        narrow = bytearray(len(data))
        for byte in range(3):
            narrow[byte::4] = data[byte + 1 :: 4]
        narrow[3::4] = data[3::4].translate(_SIGN)
        return bytes(narrow)

    def rewind(self) -> None:
        self._sound.seek(0)

    def close(self) -> None:
        self._sound.close()
        self._file.close()
