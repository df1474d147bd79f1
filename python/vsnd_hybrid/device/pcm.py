"""What PCM_INFO offers, and whether what SET_PARAMS chooses was offered (virtio 1.3, 5.14.6.6.2 and 5.14.6.6.3)."""

from __future__ import annotations

from collections.abc import Sequence

from vsnd_hybrid.backends.base import PcmParams
from vsnd_hybrid.device.chmaps import positions
from vsnd_hybrid.device.config import Offer, StreamConfig
from vsnd_hybrid.wire import RATE_CODES, RATES, SAMPLES, PcmFeature, PcmFormat, PcmInfo, PcmSetParams, Status, bits

#: Engines make buffers after the guest's wishes; this is seconds of the widest stream there is.
BUFFER_BYTES_MAX = 64 << 20


def features(offer: Offer) -> int:
    """What a stream offers besides sound (5.14.6.6.2), as bits."""
    return bits((PcmFeature.EVT_XRUNS, *((PcmFeature.MSG_POLLING,) if offer.polling else ())))


def pcm_infos(offers: Sequence[Offer]) -> list[PcmInfo]:
    """What PCM_INFO tells.

    Linux makes a PCM device of all streams with the same function group node, and numbers it so: the first output and
    the first input become ``hw:0,0``, which plays and records; the next pair ``hw:0,1``.
    """
    return [
        PcmInfo(
            hda_fn_nid=offer.number,
            features=features(offer),
            formats=bits(offer.formats),
            rates=bits(RATE_CODES[rate] for rate in offer.rates),
            direction=offer.direction.value,
            channels_min=offer.channels_min,
            channels_max=offer.channels_max,
        )
        for offer in offers
    ]


def choose(params: PcmSetParams, offer: Offer, config: StreamConfig) -> PcmParams | Status:
    """What the guest chose, or the status that refuses it."""
    if (
        params.features & ~features(offer)
        or params.format not in offer.formats
        or params.rate >= len(RATES)
        or RATES[params.rate] not in offer.rates
        or not offer.channels_min <= params.channels <= offer.channels_max
        or params.buffer_bytes > BUFFER_BYTES_MAX
    ):
        return Status.NOT_SUPP
    format_ = PcmFormat(params.format)
    frame_bytes = SAMPLES[format_].width_bytes * params.channels
    if (
        not 0 < params.period_bytes <= params.buffer_bytes
        or params.buffer_bytes % params.period_bytes
        or params.period_bytes % frame_bytes
    ):
        return Status.BAD_MSG
    return PcmParams(
        direction=offer.direction,
        format=format_.name,
        rate=RATES[params.rate],
        channels=params.channels,
        frame_bytes=frame_bytes,
        period_bytes=params.period_bytes,
        buffer_bytes=params.buffer_bytes,
        positions=positions(params.channels),
        target=config.target,
        latency=config.latency,
        name=config.name or f"vsnd {offer.direction.name.lower()} {offer.number}",
        options=config.options,
    )
