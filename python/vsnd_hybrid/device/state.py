"""The device's state on paper: what a later life of it, in another process, goes on from (vhost-user, "Migrating back-end state").

What is in the rings is not part of it: messages that were not consumed are the guest's, and found there again.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vsnd_hybrid.device.life import State
from vsnd_hybrid.wire import PcmSetParams

#: Changes when an older reader could not read it.
VERSION = 1


@dataclass(frozen=True, slots=True)
class StreamState:
    """One stream."""

    state: State
    #: As the driver said; None before SET_PARAMS.
    params: PcmSetParams | None
    #: See `PcmStream.position`.
    position: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The whole device."""

    streams: Sequence[StreamState]
    #: Association and sequence of each jack.
    jacks: Sequence[tuple[int, int]]

    def pack(self) -> bytes:
        """As bytes; the layout is our own."""
        streams = [
            [stream.state.value, stream.params and stream.params.pack().hex(), stream.position]
            for stream in self.streams
        ]
        return json.dumps({"version": VERSION, "streams": streams, "jacks": self.jacks}, separators=(",", ":")).encode()

    @classmethod
    def unpack(cls, data: bytes) -> DeviceState:
        """From what `pack` returned. ValueError, in one line, for anything else: a front end may give us any bytes."""
        try:
            content: Any = json.loads(data)
            version = content["version"]
            if version != VERSION:
                raise ValueError(f"a device state of version {version}; this is version {VERSION}")
            streams = [
                StreamState(
                    State(state), PcmSetParams.unpack(bytes.fromhex(params)) if params else None, _pair(position)
                )
                for state, params, position in content["streams"]
            ]
            jacks = [pair for jack in content["jacks"] if (pair := _pair(jack))]
        except (TypeError, KeyError, AttributeError, RecursionError, struct.error) as error:
            raise ValueError(f"this is no device state: {error}") from error
        return cls(streams, jacks)


def _pair(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    first, second = value
    if not (isinstance(first, int) and isinstance(second, int) and 0 <= first < 1 << 16 and 0 <= second < 1 << 32):
        raise ValueError("this is no device state: a pair of numbers is out of range")
    return first, second
