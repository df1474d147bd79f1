"""Stand-ins for what the device's policy talks to, for tests of the policy alone; everything else is tested with real things."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from vsnd_hybrid._core import PcmPort
from vsnd_hybrid.backends.base import (
    Backend,
    BackendError,
    Direction,
    EngineStream,
    EventSink,
    PcmCapabilities,
    PcmParams,
)
from vsnd_hybrid.loop import Loop

Calls = list[str]


class FakePcm:
    """Notes what a `PcmStream` is asked to do."""

    def __init__(self, calls: Calls, stream_id: int = 0) -> None:
        self.calls = calls
        self.stream_id = stream_id
        self.stats: dict[str, int] = {}
        self.ahead_bytes = 0
        self.read_ahead = b""

    def configure(self, **shape: Any) -> None:
        self.calls.append("pcm.configure")
        self.shape = shape

    def port(self) -> None:
        return None

    def watch(self) -> None:
        self.calls.append("pcm.watch")

    def stand_in(self) -> None:
        self.calls.append("pcm.stand_in")

    def accept(self) -> None:
        self.calls.append("pcm.accept")

    def discard(self) -> None:
        self.calls.append("pcm.discard")

    def reject(self) -> None:
        self.calls.append("pcm.reject")

    def start(self) -> None:
        self.calls.append("pcm.start")

    def stop(self) -> None:
        self.calls.append("pcm.stop")

    def flush(self, *, ok: bool = True) -> int:
        self.calls.append(f"pcm.flush({'OK' if ok else 'IO_ERR'})")
        return 0


class FakeEngine(EngineStream):
    """Notes what an engine's stream is asked to do; `drain` ends when `drained` is called, or at once."""

    def __init__(self, backend: FakeBackend, name: str) -> None:
        self.backend = backend
        self.name = name
        self.discards = backend.discards
        self.done: Callable[[], None] | None = None

    def _call(self, what: str) -> None:
        self.backend.call(what, self.name)

    def start(self) -> None:
        self._call("start")

    def stop(self) -> None:
        self._call("stop")

    def drain(self, done: Callable[[], None]) -> None:
        self._call("drain")
        self.done = done
        if not self.backend.slow_drain:
            done()

    def close(self) -> None:
        self._call("close")


class FakeBackend(Backend):
    """Opens `FakeEngine`s, fails or blocks where it is told to."""

    name = "fake"

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.streams: list[FakeEngine] = []
        self.sinks: list[EventSink] = []
        self.failing: set[str] = set()
        self.slow_drain = False
        self.discards = False
        #: Calls of this name wait for `release`.
        self.blocking: set[str] = set()
        self.entered = threading.Semaphore(0)
        self.release = threading.Semaphore(0)

    def call(self, what: str, stream: str) -> None:
        self.calls.append(f"{stream}.{what}")
        if what in self.blocking:
            self.entered.release()
            self.release.acquire()
        if what in self.failing:
            raise BackendError(f"{what} refused")

    def capabilities(self, direction: Direction) -> PcmCapabilities:
        return PcmCapabilities(frozenset({"S16", "U8"}), frozenset({44100, 48000}))

    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> FakeEngine:
        stream = FakeEngine(self, f"engine{len(self.streams)}")
        self.sinks.append(events)
        self.streams.append(stream)
        self.call("open", stream.name)
        return stream

    def close(self) -> None:
        self.calls.append("backend.close")


class SteppedLoop(Loop):
    """A loop whose time goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(clock=lambda: self.now)

    def advance(self, seconds: float) -> None:
        """Let time go on, and make the calls that come due, in their order."""
        until = self.now + seconds
        while (due := self.next_due()) is not None and due <= until:
            self.now = due
            self.run_once(0)
        self.now = until

    def settle(self, condition: Callable[[], bool]) -> None:
        """Make the calls that other threads ask for, until `condition` holds; the test's time limit ends a vain wait."""
        while not condition():
            self.run_once(0.01)
