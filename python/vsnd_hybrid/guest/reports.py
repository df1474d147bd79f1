"""What came of playing and recording: everything is measured by the native driver, nothing is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from vsnd_hybrid.guest.samples import as_array, frame_bytes
from vsnd_hybrid.wire import Status

if TYPE_CHECKING:
    import numpy as np


class Message(NamedTuple):
    """An I/O message (virtio 1.3, 5.14.6.8). Times are CLOCK_MONOTONIC."""

    #: Bytes of sound in it, or room for them.
    bytes: int
    queued_ns: int
    #: 0: it never came back.
    done_ns: int
    status: int
    latency_bytes: int
    #: As the used ring has it: what the device wrote, the status included.
    used_len: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReport:
    """What a stream did."""

    stream: int
    format: str
    channels: int
    rate: int
    period_bytes: int
    buffer_bytes: int
    #: In the order in which they were offered.
    messages: tuple[Message, ...] = field(repr=False)
    #: Notifications sent and interrupts received on the ring, from the first message to the end.
    kicks: int
    signals: int
    #: The same while it ran: between the answer to START and the request to STOP.
    kicks_running: int
    signals_running: int
    #: XRUN events.
    xruns: int
    #: START was answered, STOP was sent, the last answer came (CLOCK_MONOTONIC).
    started_ns: int
    stopping_ns: int
    ended_ns: int
    #: Messages that did not come back within the time for requests.
    unreturned: int
    #: Why the stream was cut off, if it was.
    aborted: str | None

    @property
    def frame_bytes(self) -> int:
        return frame_bytes(self.format, self.channels)

    @property
    def done(self) -> tuple[Message, ...]:
        """The messages that came back."""
        return tuple(m for m in self.messages if m.done_ns)

    @property
    def periods(self) -> int:
        """How many messages came back."""
        return len(self.done)

    @property
    def frames(self) -> int:
        """Frames of the messages that came back (for capture: that were recorded)."""
        return sum(m.bytes for m in self.done) // self.frame_bytes

    @property
    def completions_ns(self) -> list[int]:
        """When each message came back."""
        return [m.done_ns for m in self.done]

    @property
    def latency_bytes(self) -> list[int]:
        """What the device said of each message."""
        return [m.latency_bytes for m in self.done]

    @property
    def latency_ms(self) -> list[float]:
        """The same as time."""
        bytes_per_ms = self.rate * self.frame_bytes / 1000
        return [m.latency_bytes / bytes_per_ms for m in self.done]

    @property
    def statuses(self) -> list[int]:
        return [m.status for m in self.done]

    @property
    def ok(self) -> bool:
        """Every message came back with OK, and nothing was cut off."""
        good = all(m.done_ns and m.status == Status.OK for m in self.messages)
        return good and not self.unreturned and self.aborted is None

    @property
    def seconds(self) -> float:
        """From START to STOP."""
        return (self.stopping_ns - self.started_ns) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Playback(StreamReport):
    """What came of playing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording(StreamReport):
    """What was recorded."""

    data: bytes = field(repr=False)
    #: What came beyond the frames asked for, before the stream had stopped.
    tail: bytes = field(repr=False)

    @property
    def frames(self) -> int:
        return len(self.data) // self.frame_bytes

    def array(self) -> np.ndarray[Any, Any]:
        """The sound as an array of shape (frames, channels). Needs NumPy."""
        return as_array(self.data, self.format, self.channels)
