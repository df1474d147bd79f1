"""An engine that does what engines should not: refuse, hang, stall, die. Tests say when, from within or by files from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from vsnd_hybrid._core import PcmPort
from vsnd_hybrid.backends.base import (
    Backend,
    BackendError,
    Direction,
    EngineEvent,
    EngineStream,
    EventSink,
    Needs,
    PcmCapabilities,
    PcmParams,
)

CAPABILITIES = PcmCapabilities(frozenset({"S16"}), frozenset({48000}))
#: What it moves in one turn.
TURN_FRAMES, RATE = 240, 48000


class Faults:
    """What is wrong with the engine now. Everything may be changed at any time, from any thread."""

    def __init__(self) -> None:
        #: The engine's thread takes turns.
        self.moving = threading.Event()
        self.moving.set()
        #: Names of calls that do not return before `release`.
        self.hanging: set[str] = set()
        self.release = threading.Event()
        #: Names of calls that fail.
        self.failing: set[str] = set()
        #: A pause of `stall_s` before every so many turns.
        self.stall_every = 0
        self.stall_s = 0.2
        #: The names of the calls so far.
        self.calls: list[str] = []
        self.entered = threading.Condition()

    def call(self, name: str) -> None:
        with self.entered:
            self.calls.append(name)
            self.entered.notify_all()
        if name in self.hanging:
            self.release.wait()
        if name in self.failing:
            raise BackendError(f"{name} is refused, as the test wants it")

    def await_call(self, name: str, count: int = 1) -> None:
        """Wait until there were so many calls of this name."""
        with self.entered:
            assert self.entered.wait_for(lambda: self.calls.count(name) >= count, 20), f"no {name} in {self.calls}"


class FaultyStream(EngineStream):
    """Keeps what it plays in `heard`; records a constant."""

    def __init__(self, port: PcmPort, faults: Faults, events: EventSink) -> None:
        self._port = port
        self._faults = faults
        self._events = events
        self._running = threading.Event()
        self._closed = False
        self._idle = threading.Event()
        self.heard = bytearray()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def start(self) -> None:
        self._faults.call("start")
        self._running.set()

    def stop(self) -> None:
        self._faults.call("stop")
        self._running.clear()

    def close(self) -> None:
        self._faults.call("close")
        self._closed = True
        self._running.set()

    def fail(self) -> None:
        """Die in mid-play."""
        self._closed = True
        self._running.set()
        self._thread.join(1)
        self._events.post(EngineEvent.FAILED, "unplugged by the test")

    def _run(self) -> None:
        size, turns, due = TURN_FRAMES * self._port.frame_bytes, 0, time.monotonic()
        while True:
            self._running.wait()
            self._faults.moving.wait()
            if self._closed:
                return
            turns += 1
            if self._faults.stall_every and turns % self._faults.stall_every == 0:
                time.sleep(self._faults.stall_s)
            if self._port.capture:
                self._port.write(b"\x11" * size)
            else:
                self.heard += self._port.read(size).ljust(size, b"\0")
            due = max(due + TURN_FRAMES / RATE, time.monotonic() - 0.02)
            time.sleep(max(0.0, due - time.monotonic()))


class FaultyBackend(Backend):
    """Parameters: `hang`, the name of a call that never returns; `thread=stubborn`, a thread that no exit waits out."""

    name: ClassVar[str] = "faulty"

    def __init__(self, *, hang: str = "", refuse: str = "", thread: str = "", entered: str = "") -> None:
        self.faults = Faults()
        self.faults.hanging = {hang} - {""}
        self.faults.failing = {refuse} - {""}
        self.streams: list[FaultyStream] = []
        self._entered = Path(entered) if entered else None
        if thread == "stubborn":
            threading.Thread(target=threading.Event().wait, name="stubborn").start()

    @classmethod
    def needs(cls, options: Mapping[str, str]) -> Needs:
        return Needs(write=(str(Path(options["entered"]).parent),) if "entered" in options else ())

    def capabilities(self, direction: Direction) -> PcmCapabilities:
        return CAPABILITIES

    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> FaultyStream:
        if self._entered:
            self._entered.touch()
        self.faults.call("open")
        self.streams.append(FaultyStream(port, self.faults, events))
        return self.streams[-1]
