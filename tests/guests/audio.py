"""Numbered noise, and what became of it on its way; the benchmark uses the same."""

from vsnd_hybrid.tools.session.noise import (
    CHANNELS,
    FRAME_BYTES,
    RATE,
    Heard,
    locate,
    locate_looped,
    numbered,
    silence,
    wav,
    wav_samples,
)

__all__ = [
    "CHANNELS",
    "FRAME_BYTES",
    "RATE",
    "Heard",
    "locate",
    "locate_looped",
    "numbered",
    "silence",
    "wav",
    "wav_samples",
]
