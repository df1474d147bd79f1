"""Two short tunes as S16 stereo, made of decaying sine waves. Needs nothing but the standard library."""

from __future__ import annotations

import math
import sys
from array import array
from functools import cache

RATE = 48000
CHANNELS = 2
FRAME_BYTES = 4

_BEAT_S = 0.18
_RING_S = 1.1
#: Amplitude and decay (1/s) of the partials of a note: a soft bell.
_PARTIALS = ((1.0, 3.2), (0.35, 5.5), (0.12, 9.0))
#: Broken chords, as MIDI note numbers; 0 is a rest.
_PLAYED = (
    (48, 55, 64, 67, 72, 67),
    (43, 55, 62, 67, 71, 67),
    (45, 57, 60, 64, 69, 64),
    (41, 53, 60, 65, 69, 72),
    (48, 60, 67, 76, 0, 0),
)
_RECORDED = (
    (72, 71, 67, 64, 60, 64),
    (69, 67, 65, 60, 0, 0),
)


def played() -> bytes:
    """What the guest plays: about six seconds."""
    return _render(_PLAYED)


def recorded() -> bytes:
    """What the microphone hears: about three seconds."""
    return _render(_RECORDED)


def _render(bars: tuple[tuple[int, ...], ...]) -> bytes:
    notes = [note for bar in bars for note in bar]
    frames = round((len(notes) * _BEAT_S + _RING_S / 2) * 10) * RATE // 10
    left, right = [0.0] * frames, [0.0] * frames
    for index, note in enumerate(notes):
        if not note:
            continue
        begin = int(index * _BEAT_S * RATE)
        pan = 0.5 + 0.35 * math.sin(index * 0.9)
        wave = _note(note)[: frames - begin]
        for channel, gain in ((left, math.cos(pan * math.pi / 2)), (right, math.sin(pan * math.pi / 2))):
            part = channel[begin : begin + len(wave)]
            channel[begin : begin + len(wave)] = [a + gain * b for a, b in zip(part, wave, strict=True)]
    scale = 24000 / max(max(map(abs, left)), max(map(abs, right)))
    fade = int(0.3 * RATE)
    samples = array("h", bytes(frames * FRAME_BYTES))
    for offset, channel in ((0, left), (1, right)):
        channel[-fade:] = [value * (fade - n) / fade for n, value in enumerate(channel[-fade:])]
        samples[offset::CHANNELS] = array("h", [round(value * scale) for value in channel])
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


@cache
def _note(midi: int) -> list[float]:
    """A note that rings: each partial is a resonator, two multiplications a sample."""
    length, attack = int(_RING_S * RATE), int(0.004 * RATE)
    total = [0.0] * length
    for number, (amplitude, decay) in enumerate(_PARTIALS, start=1):
        omega = 2 * math.pi * 440 * 2 ** ((midi - 69) / 12) * number / RATE
        radius = math.exp(-decay / RATE)
        again, back = 2 * radius * math.cos(omega), -radius * radius
        before, now = 0.0, amplitude * radius * math.sin(omega)
        for n in range(length):
            total[n] += now
            before, now = now, again * now + back * before
    total[:attack] = [value * n / attack for n, value in enumerate(total[:attack])]
    return total
