"""The one SPA POD that a stream needs: its format. (The C builder is static inline, so it is in no library.)"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

# enum spa_type, SPA_TYPE_OBJECT_Format, SPA_PARAM_EnumFormat and the keys of a raw audio format.
_ID, _INT, _ARRAY, _OBJECT = 3, 4, 13, 15
_OBJECT_FORMAT, _PARAM_ENUM_FORMAT = 0x40003, 3
_MEDIA_TYPE, _MEDIA_SUBTYPE = 1, 2
_AUDIO_FORMAT, _AUDIO_RATE, _AUDIO_CHANNELS, _AUDIO_POSITION = 0x10001, 0x10003, 0x10004, 0x10005
_MEDIA_TYPE_AUDIO, _MEDIA_SUBTYPE_RAW = 1, 1

#: virtio format: enum spa_audio_format. virtio's S24 is 24 bits in four bytes: SPA's S24_32.
FORMATS: Final = {"U8": 0x102, "S16": 0x103, "S24": 0x107, "S32": 0x10B, "FLOAT": 0x11B, "FLOAT64": 0x11D}

#: enum spa_audio_channel for the specification's positions (virtio 1.3, 5.14.6.7.1).
POSITIONS: Final = {
    "NONE": 0, "NA": 1, "MONO": 2, "FL": 3, "FR": 4, "FC": 5, "LFE": 6, "SL": 7, "SR": 8, "FLC": 9, "FRC": 10,
    "RC": 11, "RL": 12, "RR": 13, "TC": 14, "TFL": 15, "TFC": 16, "TFR": 17, "TRL": 18, "TRC": 19, "TRR": 20,
    "RLC": 21, "RRC": 22, "FLW": 23, "FRW": 24, "FLH": 26, "FCH": 27, "FRH": 28, "TFLC": 29, "TFRC": 30, "TSL": 31,
    "TSR": 32, "LLFE": 33, "RLFE": 34, "BC": 35, "BLC": 36, "BRC": 37,
}  # fmt: skip

#: The first of the positions without a meaning, which channels beyond the usual maps get.
_AUX0: Final = 0x1000

#: What the order of channels means where the guest did not say: as ALSA has it.
_USUAL: Final = {
    1: ("MONO",),
    2: ("FL", "FR"),
    3: ("FL", "FR", "LFE"),
    4: ("FL", "FR", "RL", "RR"),
    5: ("FL", "FR", "RL", "RR", "FC"),
    6: ("FL", "FR", "RL", "RR", "FC", "LFE"),
    7: ("FL", "FR", "RL", "RR", "FC", "LFE", "RC"),
    8: ("FL", "FR", "RL", "RR", "FC", "LFE", "SL", "SR"),
}


def positions(channels: int, names: Sequence[str] = ()) -> tuple[int, ...]:
    """SPA's numbers for a channel map; the usual one for `channels` if `names` is empty or does not fit."""
    named = names if len(names) == channels else _USUAL.get(channels)
    if named is None:
        return tuple(range(_AUX0, _AUX0 + channels))
    return tuple(POSITIONS[name] for name in named)


def enum_format(format: str, rate: int, channels: int, names: Sequence[str] = ()) -> bytes:
    """An EnumFormat object of audio/raw with one fixed choice. `format` is a name of the specification."""
    places = positions(channels, names)
    return _pod(
        _OBJECT,
        struct.pack("<II", _OBJECT_FORMAT, _PARAM_ENUM_FORMAT)
        + _property(_MEDIA_TYPE, _id(_MEDIA_TYPE_AUDIO))
        + _property(_MEDIA_SUBTYPE, _id(_MEDIA_SUBTYPE_RAW))
        + _property(_AUDIO_FORMAT, _id(FORMATS[format]))
        + _property(_AUDIO_RATE, _int(rate))
        + _property(_AUDIO_CHANNELS, _int(channels))
        + _property(_AUDIO_POSITION, _pod(_ARRAY, struct.pack(f"<II{channels}I", 4, _ID, *places))),
    )


def _pod(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", len(body), kind) + body + bytes(-len(body) % 8)


def _id(value: int) -> bytes:
    return _pod(_ID, struct.pack("<I", value))


def _int(value: int) -> bytes:
    return _pod(_INT, struct.pack("<i", value))


def _property(key: int, pod: bytes) -> bytes:
    return struct.pack("<II", key, 0) + pod
