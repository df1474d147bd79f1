"""The guest's side in tests of the device: requests by name, and messages one by one, over the real socket."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from vsnd_hybrid._core import DriverQueue, PcmRun, SoundDriver
from vsnd_hybrid.wire import PcmSetParams, QueryInfo, Request, Status

CONTROL, EVENT, TX, RX = range(4)
POLLING, XRUNS = 1 << 2, 1 << 4

#: Stereo S16 at 48 kHz, periods of 10 ms, four of them.
FRAME, PERIOD, BUFFER = 4, 1920, 7680
SHAPE: dict[str, int] = {
    "buffer_bytes": BUFFER,
    "period_bytes": PERIOD,
    "features": 0,
    "channels": 2,
    "format": 5,
    "rate": 7,
}


@dataclass(frozen=True)
class Message:
    """An I/O message in the guest's memory."""

    head: int
    header: int
    data: int
    bytes: int
    status: int


@dataclass(frozen=True)
class Done:
    """One that came back."""

    head: int
    used_length: int


class Driver:
    """A `SoundDriver` with words for what the tests do all the time."""

    def __init__(self, native: SoundDriver) -> None:
        self.native = native

    # ------------------------------------------------------------ requests

    def request(self, data: bytes, reply_bytes: int = 4, **shape: Any) -> tuple[bytes, int]:
        """Send any request; what came back, and its used length."""
        reply, used_length, _ = self.native.request(data, reply_bytes, **shape)
        return bytes(reply)[:used_length], used_length

    def command(self, code: Request, stream: int = 0) -> Status:
        """A command for a stream."""
        return status(self.request(struct.pack("<II", code, stream))[0])

    def set_params(self, stream: int = 0, **shape: int) -> Status:
        """SET_PARAMS with `SHAPE`, as far as nothing else is said."""
        params = PcmSetParams(code=Request.PCM_SET_PARAMS, stream_id=stream, **(SHAPE | shape))
        return status(self.request(params.pack())[0])

    def do(self, *codes: Request, stream: int = 0) -> None:
        """Commands that must succeed."""
        for code in codes:
            assert (
                self.set_params(stream) if code is Request.PCM_SET_PARAMS else self.command(code, stream)
            ) is Status.OK

    def info(self, code: Request, start: int, count: int, size: int, **shape: Any) -> tuple[Status, list[bytes]]:
        """An INFO request; the items as they came."""
        reply, _ = self.request(QueryInfo(code, start, count, size).pack(), 4 + count * size, **shape)
        return status(reply), [reply[at : at + size] for at in range(4, len(reply), size)]

    # ------------------------------------------------------------ messages, one by one

    def queue(self, index: int) -> DriverQueue:
        return self.native.queue(index)

    def push(self, data: bytes | int, stream: int = 0, *, status_bytes: int = 8) -> Message:
        """Make a message to play (`data`) or room for so many recorded bytes available; not published, not kicked."""
        native = self.native
        size = data if isinstance(data, int) else len(data)
        header, area, end = native.alloc(16), native.alloc(max(size, 1)), native.alloc(16)
        native.write(header, struct.pack("<I", stream))
        native.write(end, b"\xee" * 16)
        if isinstance(data, bytes) and data:
            native.write(area, data)
        if isinstance(data, int):
            native.write(area, b"\xee" * size)
        capture = isinstance(data, int)
        pieces = [(header, 4, False), (area, size, capture), (end, status_bytes, True)]
        head = self.queue(RX if capture else TX).push([piece for piece in pieces if piece[1]])
        return Message(head, header, area, size, end)

    def publish(self, queue: int, kick: bool | None = None) -> None:
        """Let the device see what was pushed."""
        self.queue(queue).publish(kick)

    def returned(self, queue: int) -> list[Done]:
        """What came back since this was asked last, in order."""
        return [Done(head, length) for head, length, _ in self.queue(queue).reap()]

    def await_returned(self, queue: int, count: int, timeout_s: float = 10) -> list[Done]:
        """Wait for so many messages."""
        assert self.queue(queue).wait(count, timeout_s), f"{count} messages did not come back"
        return self.returned(queue)

    def status_of(self, message: Message) -> tuple[Status, int]:
        """Status and latency that the device wrote."""
        code, latency = struct.unpack("<II", self.native.read(message.status, 8))
        return Status(code), latency

    def untouched(self, message: Message) -> bool:
        """The device wrote no status."""
        return bytes(self.native.read(message.status, 8)) == b"\xee" * 8

    # ------------------------------------------------------------ whole streams

    def start(self, stream: int, data: bytes = b"", *, capture: int = 0, **options: Any) -> PcmRun:
        """Play `data`, or record `capture` bytes, in the background."""
        shape = {key: options.pop(key, value) for key, value in SHAPE.items()}
        total = capture or len(data)
        return self.native.start_stream(stream, bool(capture), data, total, **shape, **options)

    def play(self, stream: int, data: bytes, **options: Any) -> dict[str, Any]:
        """Play all of `data`."""
        return finish(self.start(stream, data, **options))

    def record(self, stream: int, count: int, **options: Any) -> dict[str, Any]:
        """Record `count` bytes at least."""
        return finish(self.start(stream, capture=count, **options))


class Requests:
    """Requests that are sent without waiting for an answer."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.names: dict[int, str] = {}
        self.answers: dict[str, int] = {}

    def push(self, name: str, data: bytes) -> None:
        native = self.driver.native
        request, answer = native.alloc(64), native.alloc(16)
        native.write(request, data)
        head = self.driver.queue(CONTROL).push([(request, len(data), False), (answer, 4, True)])
        self.names[head] = name
        self.answers[name] = answer

    def send(self) -> None:
        self.driver.publish(CONTROL)

    def answered(self, count: int) -> list[str]:
        """The names of the next ones to come back, in order."""
        return [self.names[done.head] for done in self.driver.await_returned(CONTROL, count)]

    def status(self, name: str) -> Status:
        return Status(struct.unpack("<I", self.driver.native.read(self.answers[name], 4))[0])


def status(reply: bytes) -> Status:
    """The code that an answer begins with."""
    return Status(struct.unpack_from("<I", reply)[0])


def finish(run: PcmRun, timeout_s: float = 60) -> dict[str, Any]:
    """Wait for the end of a stream, stop and release it; what happened."""
    assert run.wait_done(timeout_s), "the stream does not come to its end"
    report = run.stop()
    assert report["aborted"] is None
    assert report["unreturned"] == 0
    return report
