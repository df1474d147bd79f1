"""The device's state on paper: what a later life of it, in another process, goes on from (vhost-user, "Migrating back-end state").

What is in the rings is not part of it: messages that were not consumed are the guest's, and found there again. What was read
ahead of an engine is: those messages were completed.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vsnd_hybrid.device.life import State
from vsnd_hybrid.wire import PcmSetParams, Status

#: No ring is larger (2.7).
QUEUE_MAX = 1 << 15
#: Changes when an older reader could not read it: 2 has what was read ahead. Version 1 is read, too.
VERSION = 2
#: Bytes that were read ahead of engines, of all streams together, at most.
AHEAD_MAX = 8 << 20


class StreamState(NamedTuple):
    """One stream."""

    state: State
    #: As the driver said; None before SET_PARAMS.
    params: PcmSetParams | None
    #: See `PcmStream.kept`.
    kept: tuple[Sequence[int], int]
    #: See `PcmStream.read_ahead`.
    ahead: bytes = b""


class DeviceState(NamedTuple):
    """The whole device."""

    streams: Sequence[StreamState]
    #: Association and sequence of each jack.
    jacks: Sequence[tuple[int, int]]
    #: Commands that were carried out last: where in the control queue, and the answer. The driver may not have it yet.
    answers: Mapping[int, Status]

    def pack(self) -> bytes:
        """As bytes; the layout is our own."""
        import json  # few front ends ask for a state

        streams = [
            [stream.state.value, stream.params and stream.params.pack().hex(), *stream.kept, _text(stream.ahead)]
            for stream in self.streams
        ]
        answers = list(self.answers.items())
        content = {"version": VERSION, "streams": streams, "jacks": self.jacks, "answers": answers}
        return json.dumps(content, separators=(",", ":")).encode()

    @classmethod
    def unpack(cls, data: bytes) -> DeviceState:
        """From what `pack` returned. ValueError, in one line, for anything else: a front end may give us any bytes."""
        try:
            content: Any = _json(data)
            version = _number(content["version"])
            if version not in (1, VERSION):
                raise ValueError(f"a device state of version {version}; versions up to {VERSION} can be read")
            streams = [
                StreamState(
                    State(state),
                    PcmSetParams.unpack(bytes.fromhex(params)) if params else None,
                    (_heads(heads), _number(consumed, 1 << 32)),
                    _bytes(ahead),
                )
                for state, params, heads, consumed, ahead in _streams(content["streams"], version)
            ]
            if sum(len(stream.ahead) for stream in streams) > AHEAD_MAX:
                raise ValueError(f"this is no device state: more than {AHEAD_MAX} bytes were read ahead")
            jacks = [(_number(association), _number(sequence)) for association, sequence in content["jacks"]]
            answers = {_number(position): Status(status) for position, status in content.get("answers", [])}
        except (TypeError, KeyError, AttributeError, RecursionError, struct.error) as error:
            raise ValueError(f"this is no device state: {error}") from error
        return cls(streams, jacks, answers)


def _json(data: bytes) -> Any:
    import json

    try:
        return json.loads(data)
    except ValueError as error:  # no UTF-8, no JSON, or a number of thousands of digits
        raise ValueError(f"this is no device state: {error}") from error


def _streams(streams: Any, version: int) -> Any:
    return streams if version > 1 else [[*stream, ""] for stream in streams]


def _text(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _bytes(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise ValueError(f"this is no device state: what was read ahead is no base64 ({error})") from error


def _number(value: Any, end: int = 1 << 16) -> int:
    # True is an int, and 1.0 equals one.
    if type(value) is not int or not 0 <= value < end:
        raise ValueError(f"this is no device state: {value!r:.20} is not a number below {end}")
    return value


def _heads(values: Any) -> list[int]:
    numbers = [_number(value, QUEUE_MAX) for value in values]
    if len(set(numbers)) != len(numbers):
        raise ValueError("this is no device state: a message occurs twice")
    return numbers
