"""Engines for tests, real ones: what they take from the guest is kept, and what they give it is known."""

from __future__ import annotations

import threading
from typing import ClassVar

from vsnd_hybrid._core import ClockPort, PcmPort
from vsnd_hybrid.backends.base import (
    Backend,
    Direction,
    EngineStream,
    EventSink,
    PcmCapabilities,
    PcmParams,
)

CAPABILITIES = PcmCapabilities(frozenset({"S16", "U8", "S32"}), frozenset({8000, 44100, 48000}), 1, 8)


class HandStream(EngineStream):
    """Moves audio only when the test does: by `port`."""

    def __init__(self, port: PcmPort, params: PcmParams) -> None:
        self.port = port
        self.params = params
        self.active = False
        self.closed = False

    def start(self) -> None:
        self.active = True

    def stop(self) -> None:
        self.active = False

    def close(self) -> None:
        self.active = False
        self.closed = True


class ThreadStream(EngineStream):
    """Moves audio on a thread of its own, between start and stop: `move` and then `rest`, again and again."""

    def __init__(self, port: PcmPort) -> None:
        self.port = port
        self.ended = threading.Event()
        self._active = threading.Event()
        self._moving = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def move(self) -> None:
        raise NotImplementedError

    def rest(self) -> None:
        raise NotImplementedError

    def start(self) -> None:
        self._active.set()

    def stop(self) -> None:
        self._active.clear()
        with self._moving:
            pass

    def close(self) -> None:
        self.ended.set()
        self._active.set()
        self._thread.join()

    def _run(self) -> None:
        while not self.ended.is_set():
            self._active.wait()
            with self._moving:
                if self._active.is_set() and not self.ended.is_set():
                    self.move()
            self.rest()


class HandBackend(Backend):
    """An engine that the test plays itself."""

    name: ClassVar[str] = "hand"

    def __init__(self) -> None:
        self.streams: list[HandStream] = []
        #: While it is clear, `open` blocks.
        self.may_open = threading.Event()
        self.may_open.set()
        self.opening = threading.Event()

    def capabilities(self, direction: Direction) -> PcmCapabilities:
        return CAPABILITIES

    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> HandStream:
        self.opening.set()
        self.may_open.wait()
        stream = HandStream(port, params)
        self.streams.append(stream)
        return stream


class TapStream(EngineStream):
    """Keeps what is played, at the guest's pace; or has the guest record what it was given."""

    def __init__(self, port: PcmPort, signal: bytes) -> None:
        self._clock = ClockPort(port, tap=True)
        self._signal = signal
        self._ended = threading.Event()
        self._tape = bytearray()
        self._thread = threading.Thread(target=self._feed if port.capture else self._take, daemon=True)
        self._thread.start()

    def start(self) -> None:
        self._clock.start()

    def stop(self) -> None:
        self._clock.stop()

    def close(self) -> None:
        self._ended.set()
        self._clock.close()
        self._thread.join()

    def tape(self) -> bytes:
        """All that was played; waits until the stream is closed."""
        self._thread.join(10)
        assert not self._thread.is_alive(), "the stream was not closed"
        return bytes(self._tape)

    def _take(self) -> None:
        while (data := self._clock.take()) is not None:
            self._tape += data

    def _feed(self) -> None:
        at = 0
        while not self._ended.is_set() and at < len(self._signal):
            at += self._clock.feed(self._signal[at : at + 65536], timeout=0.1)


class TapBackend(Backend):
    """Clock-paced; each stream's `tape` is what it played, in the order in which they were opened."""

    name: ClassVar[str] = "tap"

    def __init__(self, signal: bytes = b"") -> None:
        self._signal = signal
        self.streams: list[TapStream] = []
        self.by_id: dict[int, TapStream] = {}

    def capabilities(self, direction: Direction) -> PcmCapabilities:
        return CAPABILITIES

    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> TapStream:
        stream = self.by_id[port.stream_id] = TapStream(port, self._signal)
        self.streams.append(stream)
        return stream
