"""What a sound device is made of: its streams, and what each may do.

The service builds these from the command line and from TOML. `pcm_info` joins them with what the engines can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from vsnd_hybrid.backends.base import Backend, Direction, PcmCapabilities
from vsnd_hybrid.wire import CHMAP_MAX_SIZE, RATE_CODES, SAMPLES, PcmFormat

#: Stream ids are a byte wide in the data path.
MAX_STREAMS = 255


class DeviceConfigError(ValueError):
    """The configuration makes no sense, or asks for what its engine cannot do. The message is one line."""


#: What is offered unless the configuration asks for more: Linux makes its largest buffer from the largest rate and number of
#: channels that it is offered, and applications that take the largest buffer would wait for seconds.
USUAL_RATE_MAX = 96_000
USUAL_CHANNELS_MAX = 8


class StreamConfig(NamedTuple):
    """One PCM stream. Whatever is left empty is the engine's choice."""

    direction: Direction
    backend: Backend
    #: Names of formats (5.14.6.6.2) that the guest may use.
    formats: tuple[str, ...] = ()
    #: Frame rates in Hz that the guest may use.
    rates: tuple[int, ...] = ()
    #: Smallest and largest number of channels.
    channels: tuple[int, int] | None = None
    #: The engine's device to use; empty for its default.
    target: str = ""
    #: How often the engine shall wake up (`backends.latency`); empty for the backend's own.
    latency: str = ""
    #: How the engine's user interfaces show the stream.
    name: str = ""
    #: Options for the engine, beyond the backend's own.
    options: Mapping[str, str] = MappingProxyType({})


class DeviceConfig(NamedTuple):
    """A sound device. Stream ids are positions in `streams`."""

    streams: tuple[StreamConfig, ...]


class Offer(NamedTuple):
    """What the guest is offered for a stream: what is configured, as far as the engine has it."""

    direction: Direction
    #: Position among the streams of this direction.
    number: int
    formats: frozenset[PcmFormat]
    rates: frozenset[int]
    channels_min: int
    channels_max: int
    #: The guest may leave its messages unannounced.
    polling: bool = True


def offer(config: StreamConfig, index: int, able: PcmCapabilities) -> Offer:
    """Join a stream's configuration with what its engine can do.

    Raises
    ------
    DeviceConfigError
        Nothing is left of the formats, the rates or the channels.
    """
    name = f"{config.direction.name.lower()} {index} ({config.backend.name})"
    known = {f.name for f in PcmFormat if SAMPLES[f].width_bytes and SAMPLES[f].silence_byte is not None}
    formats = _joined(name, "formats", config.formats, able.formats & known)
    rates = _joined(name, "rates", config.rates, able.rates & RATE_CODES.keys())
    if not config.rates:
        rates = frozenset(rate for rate in rates if rate <= USUAL_RATE_MAX) or rates
    low, high = max(1, able.channels_min), min(able.channels_max, CHMAP_MAX_SIZE)
    channels_min, channels_max = config.channels or (low, max(low, min(high, USUAL_CHANNELS_MAX)))
    if max(channels_min, low) > min(channels_max, high):
        raise DeviceConfigError(f"{name}: {channels_min} to {channels_max} channels; the engine has {low} to {high}")
    return Offer(
        config.direction,
        index,
        frozenset(PcmFormat[f] for f in formats),
        frozenset(rates),
        max(channels_min, low),
        min(channels_max, high),
        able.polling,
    )


def offers(config: DeviceConfig, able: Mapping[tuple[Backend, Direction], PcmCapabilities]) -> list[Offer]:
    """What is offered for each stream. Raises `DeviceConfigError`, also for no streams or too many."""
    if not 0 < len(config.streams) <= MAX_STREAMS:
        raise DeviceConfigError(f"{len(config.streams)} streams; a device has 1 to {MAX_STREAMS}")
    count = dict.fromkeys(Direction, 0)
    found = []
    for stream in config.streams:
        index = count[stream.direction]
        count[stream.direction] += 1
        found.append(offer(stream, index, able[stream.backend, stream.direction]))
    return found


_T = TypeVar("_T", str, int)


def _joined(name: str, what: str, wanted: tuple[_T, ...], able: frozenset[_T]) -> frozenset[_T]:
    found = able.intersection(wanted) if wanted else able
    if not found:
        asked = ", ".join(map(str, wanted)) or "any"
        has = ", ".join(map(str, sorted(able))) or "none that a guest can use"
        raise DeviceConfigError(f"{name}: no common {what}: asked for {asked}; the engine has {has}")
    return found
