"""WAV files: any reader takes what is written, at any moment, and what others write is read."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import pytest
from vsnd_hybrid.backends.file.media import pack24, unpack24
from vsnd_hybrid.backends.file.wav import WavError, WavFormat, WavReader, WavWriter


def written(fmt: WavFormat, data: bytes) -> bytes:
    """A file of these samples, while it is still open."""
    file = io.BytesIO()
    writer = WavWriter(file, fmt)
    writer.write(data)
    writer.sync()
    return file.getvalue()


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_the_standard_library_reads_what_is_written(bits: int) -> None:
    data = bytes(range(48)) * 3
    with wave.open(io.BytesIO(written(WavFormat(44100, 2, bits), data))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (44100, 2, bits // 8)
        assert file.readframes(file.getnframes()) == data


@pytest.mark.parametrize("fmt", [WavFormat(96000, 6, 24), WavFormat(48000, 1, 32, True), WavFormat(8000, 2, 64, True)])
def test_what_is_written_is_read_again(fmt: WavFormat) -> None:
    data = bytes(range(fmt.frame_bytes)) * 5
    reader = WavReader(io.BytesIO(written(fmt, data)))
    assert (reader.format, reader.frames) == (fmt, 5)
    assert reader.read(3) + reader.read(9) == data
    reader.rewind()
    assert reader.read(1) == data[: fmt.frame_bytes]


def test_a_file_whose_writer_was_killed_is_read_to_its_end() -> None:
    file = io.BytesIO()
    WavWriter(file, WavFormat(48000, 2, 16)).write(b"\1\2\3\4" * 100 + b"\5")
    assert WavReader(io.BytesIO(file.getvalue())).frames == 100
    longer = bytearray(written(WavFormat(48000, 2, 16), b"\1\2\3\4" * 100))
    assert WavReader(io.BytesIO(longer[:-200])).frames == 50


def test_an_odd_length_is_padded_when_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    with path.open("w+b") as file:
        writer = WavWriter(file, WavFormat(8000, 1, 8))
        writer.write(b"\x80\x81\x82")
        writer.close()
    assert path.stat().st_size % 2 == 0
    with wave.open(str(path)) as reader:
        assert reader.readframes(9) == b"\x80\x81\x82"


def test_extensible_headers_and_foreign_chunks_are_read() -> None:
    guid = struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
    fmt = struct.pack("<HHIIHHHHI", 0xFFFE, 2, 48000, 288000, 6, 24, 22, 24, 3) + guid
    chunks = b"LIST" + struct.pack("<I", 3) + b"abc\0" + b"fmt " + struct.pack("<I", len(fmt)) + fmt
    chunks += b"data" + struct.pack("<I", 6) + b"abcdef"
    reader = WavReader(io.BytesIO(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks))
    assert reader.format == WavFormat(48000, 2, 24)
    assert reader.read(5) == b"abcdef"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"ID3\4" + bytes(60),
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0",
        b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff",
        b"RIFF\0\0\0\0WAVEdata\0\0\0\0",
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 0x55, 2, 48000, 0, 1, 0) + b"data\0\0\0\0",
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 0, 48000, 0, 0, 16) + b"data\0\0\0\0",
    ],
)
def test_what_is_no_wav_file_is_refused(data: bytes) -> None:
    with pytest.raises((WavError, struct.error)) as caught:
        WavReader(io.BytesIO(data))
    assert isinstance(caught.value, WavError), "an error that is told in one line"


def test_24_bits_are_packed_and_unpacked_with_their_sign() -> None:
    samples = [0, 1, -1, 2**23 - 1, -(2**23), 0x123456]
    wide = struct.pack("<6i", *samples)
    assert pack24(wide) == b"".join(n.to_bytes(3, "little", signed=True) for n in samples)
    assert unpack24(pack24(wide)) == wide
