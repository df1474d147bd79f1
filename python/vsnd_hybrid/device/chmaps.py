"""Channel maps: which speaker or microphone each channel of a stream belongs to (virtio 1.3, 5.14.6.9)."""

from __future__ import annotations

from collections.abc import Sequence

from vsnd_hybrid.device.config import Offer
from vsnd_hybrid.wire import ChmapInfo, Position

#: The usual map of each number of channels, in the order that ALSA and its applications expect.
STANDARD: dict[int, tuple[Position, ...]] = {
    1: (Position.MONO,),
    2: (Position.FL, Position.FR),
    3: (Position.FL, Position.FR, Position.LFE),
    4: (Position.FL, Position.FR, Position.RL, Position.RR),
    5: (Position.FL, Position.FR, Position.RL, Position.RR, Position.FC),
    6: (Position.FL, Position.FR, Position.RL, Position.RR, Position.FC, Position.LFE),
    7: (Position.FL, Position.FR, Position.RL, Position.RR, Position.FC, Position.LFE, Position.RC),
    8: (Position.FL, Position.FR, Position.RL, Position.RR, Position.FC, Position.LFE, Position.SL, Position.SR),
}


def positions(channels: int) -> tuple[str, ...]:
    """The names of the positions of a stream with so many channels; empty where no map is usual."""
    return tuple(position.name for position in STANDARD.get(channels, ()))


def chmap_infos(offers: Sequence[Offer]) -> list[ChmapInfo]:
    """What CHMAP_INFO tells: for each stream a map for each number of channels that it takes."""
    return [
        ChmapInfo(
            hda_fn_nid=offer.number,
            direction=offer.direction.value,
            channels=channels,
            positions=bytes(STANDARD[channels]),
        )
        for offer in offers
        for channels in range(offer.channels_min, offer.channels_max + 1)
        if channels in STANDARD
    ]
