"""Reads control requests and checks all of them that does not depend on a stream's state (virtio 1.3, 5.14.6).

What a request does is decided elsewhere; here are its form, its ids, and the answers to INFO requests.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from vsnd_hybrid.layout import Layout
from vsnd_hybrid.wire import Hdr, ItemHdr, JackRemap, PcmSetParams, QueryInfo, Request, Status

#: Bytes of a request that are looked at: the longest has fewer.
REQUEST_BYTES = 64
#: Longest answer that is built; a driver that asks for strides of megabytes only wants our memory.
ANSWER_BYTES = 1 << 20


class Answer(NamedTuple):
    """Decided: this goes back."""

    data: bytes

    @classmethod
    def of(cls, status: Status) -> Answer:
        """An answer without items."""
        return _ANSWERS[status]


_ANSWERS = {status: Answer(Hdr(status).pack()) for status in Status}


class Remap(NamedTuple):
    """JACK_REMAP for a jack that is there."""

    request: JackRemap


class PcmCommand(NamedTuple):
    """A command for a stream that is there; `params` for SET_PARAMS."""

    code: Request
    stream_id: int
    params: PcmSetParams | None = None


#: How many items there are, and each of them.
Items = Callable[[], Sequence[Layout]]

_COMMANDS = frozenset(
    (Request.PCM_SET_PARAMS, Request.PCM_PREPARE, Request.PCM_START, Request.PCM_STOP, Request.PCM_RELEASE)
)


class RequestReader:
    """Reads requests to a device with so many jacks and streams.

    Parameters
    ----------
    jacks, streams
        Their numbers.
    infos
        What the device tells of its items, for each INFO request that it knows.
    """

    def __init__(self, *, jacks: int, streams: int, infos: Mapping[int, Items]) -> None:
        self._jacks = jacks
        self._streams = streams
        self._infos = infos

    def read(self, data: bytes, room: int) -> Answer | Remap | PcmCommand:
        """What a request wants.

        Parameters
        ----------
        data
            Its device-readable part, at most `REQUEST_BYTES` of it.
        room
            Bytes of its device-writable part, 4 at least.
        """
        try:
            return self._read(data, room)
        except struct.error:
            return Answer.of(Status.BAD_MSG)

    def _read(self, data: bytes, room: int) -> Answer | Remap | PcmCommand:
        code = Hdr.unpack(data).code
        items = self._infos.get(code)
        if items is not None:
            return self._info(items(), QueryInfo.unpack(data), room)
        if code == Request.JACK_REMAP:
            remap = JackRemap.unpack(data)
            return Remap(remap) if remap.jack_id < self._jacks else Answer.of(Status.BAD_MSG)
        if code not in _COMMANDS:
            return Answer.of(Status.NOT_SUPP)
        params = PcmSetParams.unpack(data) if code == Request.PCM_SET_PARAMS else None
        stream_id = ItemHdr.unpack(data).id
        if stream_id >= self._streams:
            return Answer.of(Status.BAD_MSG)
        return PcmCommand(Request(code), stream_id, params)

    @staticmethod
    def _info(items: Sequence[Layout], query: QueryInfo, room: int) -> Answer:
        """5.14.6.1: `size` is how far apart the driver wants the items."""
        if query.start_id + query.count > len(items):
            return Answer.of(Status.BAD_MSG)
        if query.count == 0:
            return Answer.of(Status.OK)
        wanted = Hdr.SIZE + query.count * query.size
        if query.size < items[0].SIZE or wanted > min(room, ANSWER_BYTES):
            return Answer.of(Status.BAD_MSG)
        chosen = items[query.start_id : query.start_id + query.count]
        return Answer(Hdr(Status.OK).pack() + b"".join(item.pack().ljust(query.size, b"\0") for item in chosen))
