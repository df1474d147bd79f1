"""What the specification's PCM formats, rates and channels are to a backend: sizes and names. No conversion."""

from __future__ import annotations

from typing import Final

#: Bytes of a sample of the linear formats that engines know (virtio 1.3, 5.14.6.6.2.1); little-endian.
SAMPLE_BYTES: Final = {
    "U8": 1,
    "S16": 2,
    "S24": 4,  # 24 bits in the low three bytes of four
    "S32": 4,
    "FLOAT": 4,
    "FLOAT64": 8,
}

#: Every rate of the specification, in Hz (5.14.6.6.2.1).
RATES: Final = frozenset(
    (5512, 8000, 11025, 16000, 22050, 32000, 44100, 48000, 64000, 88200, 96000, 176400, 192000, 384000)
)

#: The longest channel map of the specification (5.14.6.7.1).
CHANNELS_MAX: Final = 18
