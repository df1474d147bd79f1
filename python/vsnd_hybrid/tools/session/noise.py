"""Numbered noise: a signal of which every single frame can be found again, and what became of it on its way.

Each stereo S16 frame carries its own number, scrambled so that it sounds as white noise and nothing else looks like it.
A recording of it tells exactly which frames are missing, doubled or out of place, and where there was silence between.
"""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

CHANNELS = 2
FRAME_BYTES = 4
RATE = 48000

# Multiplication by an odd number and an xor with the upper half are each a bijection of 32-bit numbers, and so is the
# whole: no two frames are equal. 0 stays 0, which is silence, so frames count from 1.
_MULTIPLIERS = (0x9E3779B1, 0x85EBCA6B)

_Numbers = npt.NDArray[np.uint32]


def _scramble(numbers: _Numbers) -> _Numbers:
    for multiplier in _MULTIPLIERS:
        numbers = numbers * np.uint32(multiplier)
        numbers = numbers ^ (numbers >> np.uint32(16))
    return numbers


def _unscramble(words: _Numbers) -> _Numbers:
    for multiplier in reversed(_MULTIPLIERS):
        words = words ^ (words >> np.uint32(16))
        words = words * np.uint32(pow(multiplier, -1, 1 << 32))
    return words


def numbered(frames: int, first: int = 0) -> bytes:
    """`frames` stereo S16 frames, numbered from `first` on."""
    return _scramble(np.arange(first + 1, first + frames + 1, dtype=np.uint32)).astype("<u4").tobytes()


def numbers(recording: bytes) -> npt.NDArray[np.int64]:
    """The number of each frame of a stereo S16 recording, from 0 on; -1 for silence. What is none of ours has any number."""
    words = np.frombuffer(recording[: len(recording) // FRAME_BYTES * FRAME_BYTES], dtype="<u4").astype(np.uint32)
    return _unscramble(words).astype(np.int64) - 1


def silence(frames: int) -> bytes:
    """Stereo S16 silence."""
    return bytes(frames * FRAME_BYTES)


def wav(samples: bytes, rate: int = RATE) -> bytes:
    """A WAV file of stereo S16 samples."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(CHANNELS)
        file.setsampwidth(FRAME_BYTES // CHANNELS)
        file.setframerate(rate)
        file.writeframes(samples)
    return out.getvalue()


def wav_samples(path: Path) -> bytes:
    """The samples of a stereo S16 WAV file; ValueError if it holds anything else."""
    with wave.open(str(path), "rb") as file:
        if (file.getnchannels(), file.getsampwidth()) != (CHANNELS, FRAME_BYTES // CHANNELS):
            raise ValueError(f"{path} is not S16 stereo")
        return file.readframes(file.getnframes())


@dataclass(frozen=True, slots=True)
class Heard:
    """What a recording holds of a numbered signal.

    Ranges are (first frame, number of frames). `silences` are those between the first and the last frame that were
    found: (number of the frame before, frames of silence).
    """

    first: int
    last: int
    found: int
    missing: tuple[tuple[int, int], ...]
    repeated: int
    disordered: int
    foreign: int
    silences: tuple[tuple[int, int], ...]

    @property
    def in_order(self) -> bool:
        """Every frame between the first and the last one that were found is there once, at its place."""
        return self.found > 0 and not (self.missing or self.repeated or self.disordered or self.foreign)

    @property
    def gapless(self) -> bool:
        """So, and without silence between."""
        return self.in_order and not self.silences

    def holds(self, frames: int, first: int = 0) -> bool:
        """All of a signal of so many frames is there, in order."""
        return self.in_order and self.first == first and self.found == frames


def locate(recording: bytes, frames: int, first: int = 0) -> Heard:
    """Find a signal made by ``numbered(frames, first)`` in a stereo S16 recording."""
    words = np.frombuffer(recording[: len(recording) // FRAME_BYTES * FRAME_BYTES], dtype="<u4").astype(np.uint32)
    numbers = _unscramble(words).astype(np.int64) - 1
    ours = (words != 0) & (numbers >= first) & (numbers < first + frames)
    places = np.flatnonzero(ours)
    sequence = numbers[places]
    if not len(sequence):
        return Heard(-1, -1, 0, ((first, frames),), 0, 0, int(np.count_nonzero(words)), ())
    present = np.unique(sequence)
    steps = np.diff(present)
    gaps = np.flatnonzero(steps > 1)
    between = np.flatnonzero(np.diff(places) > 1)
    return Heard(
        first=int(present[0]),
        last=int(present[-1]),
        found=len(present),
        missing=tuple((int(present[i]) + 1, int(steps[i]) - 1) for i in gaps),
        repeated=len(sequence) - len(present),
        disordered=int(np.count_nonzero(np.diff(sequence) < 0)),
        foreign=int(np.count_nonzero(words) - len(sequence)),
        silences=tuple((int(sequence[i]), int(places[i + 1] - places[i] - 1)) for i in between),
    )


def locate_looped(recording: bytes, frames: int) -> tuple[Heard, ...]:
    """As `locate`, for a signal that was played again and again: one result for each time round."""
    words = np.frombuffer(recording[: len(recording) // FRAME_BYTES * FRAME_BYTES], dtype="<u4").astype(np.uint32)
    numbers = _unscramble(words).astype(np.int64) - 1
    starts = np.flatnonzero((words != 0) & (numbers == 0))
    edges = sorted({0, len(words), *(int(start) for start in starts)})
    return tuple(locate(recording[a * FRAME_BYTES : b * FRAME_BYTES], frames) for a, b in pairwise(edges))
