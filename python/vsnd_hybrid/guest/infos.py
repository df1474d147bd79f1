"""What the device says of itself, decoded to names (virtio 1.3, 5.14.6.4, 5.14.6.6.2, 5.14.6.9)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from vsnd_hybrid import wire


def name_of(kind: type[IntEnum], code: int) -> str:
    """The specification's name of a number, or the number in hexadecimal."""
    try:
        return kind(code).name
    except ValueError:
        return hex(code)


def _bits(mask: int) -> Iterable[int]:
    return (bit for bit in range(64) if mask >> bit & 1)


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A PCM stream (PCM_INFO)."""

    id: int
    #: The microphone side: the guest records.
    capture: bool
    #: Names such as ``"S16"``.
    formats: tuple[str, ...]
    #: In Hz.
    rates: tuple[int, ...]
    channels_min: int
    channels_max: int
    #: Names such as ``"MSG_POLLING"``.
    features: frozenset[str]
    hda_fn_nid: int

    @property
    def direction(self) -> str:
        """``"output"`` or ``"input"``, from the guest's point of view."""
        return "input" if self.capture else "output"

    @classmethod
    def decode(cls, index: int, info: wire.PcmInfo) -> StreamInfo:
        return cls(
            id=index,
            capture=info.direction == wire.D_INPUT,
            formats=tuple(name_of(wire.PcmFormat, bit) for bit in _bits(info.formats)),
            rates=tuple(wire.RATES[bit] for bit in _bits(info.rates) if bit < len(wire.RATES)),
            channels_min=info.channels_min,
            channels_max=info.channels_max,
            features=frozenset(name_of(wire.PcmFeature, bit) for bit in _bits(info.features)),
            hda_fn_nid=info.hda_fn_nid,
        )


@dataclass(frozen=True, slots=True)
class JackInfo:
    """A jack (JACK_INFO)."""

    id: int
    connected: bool
    features: frozenset[str]
    hda_fn_nid: int
    hda_reg_defconf: int
    hda_reg_caps: int

    @classmethod
    def decode(cls, index: int, info: wire.JackInfo) -> JackInfo:
        return cls(
            id=index,
            connected=bool(info.connected),
            features=frozenset(name_of(wire.JackFeature, bit) for bit in _bits(info.features)),
            hda_fn_nid=info.hda_fn_nid,
            hda_reg_defconf=info.hda_reg_defconf,
            hda_reg_caps=info.hda_reg_caps,
        )


@dataclass(frozen=True, slots=True)
class ChmapInfo:
    """A channel map (CHMAP_INFO)."""

    id: int
    capture: bool
    #: Names such as ``"FL"``, one a channel.
    positions: tuple[str, ...]
    hda_fn_nid: int

    @classmethod
    def decode(cls, index: int, info: wire.ChmapInfo) -> ChmapInfo:
        return cls(
            id=index,
            capture=info.direction == wire.D_INPUT,
            positions=tuple(name_of(wire.Position, code) for code in info.positions[: info.channels]),
            hda_fn_nid=info.hda_fn_nid,
        )


@dataclass(frozen=True, slots=True)
class GuestEvent:
    """A notification of the device on the event queue (5.14.6)."""

    #: ``"PCM_XRUN"``, ``"JACK_CONNECTED"`` …
    name: str
    code: int
    #: Jack, stream or control it concerns; for CTL_NOTIFY the mask is in the upper half.
    data: int
    #: CLOCK_MONOTONIC when the driver took it.
    time_ns: int

    @classmethod
    def decode(cls, code: int, data: int, time_ns: int) -> GuestEvent:
        return cls(name_of(wire.EventCode, code), code, data, time_ns)
