"""A backend that keeps the interpreter of its daemon busy: what a plug-in may do. It plays into PipeWire as `pipewire` does, by the
clock as `null` does (``engine=clock``), or as a backend in pure Python does, from a thread of its own (``engine=python``).

``load``: ``compute`` (a thread that never waits), ``collect`` (a thread that makes cycles over 300 000 live objects), or both
with a ``+``. What a stream has counted is logged five times a second.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable

from vsnd_hybrid._core import PcmPort
from vsnd_hybrid.backends import base
from vsnd_hybrid.backends.null import NullBackend
from vsnd_hybrid.backends.pipewire import PipeWireBackend

log = logging.getLogger("hog")


def compute() -> None:
    while True:
        sum(range(10_000))


def collect() -> None:
    live = [[i] for i in range(300_000)]
    while live:
        batch = []  # alive together, so that they reach the oldest generation
        for _ in range(20_000):
            cycle: list[object] = []
            cycle.append(cycle)
            batch.append(cycle)


LOADS = {"compute": compute, "collect": collect}


class HogBackend(PipeWireBackend):
    name = "hog"

    def __init__(self, *, load: str = "", engine: str = "native", latency: str = "low") -> None:
        super().__init__(latency=latency)
        self._engine = engine
        for name in load.split("+") if load else ():
            threading.Thread(target=LOADS[name], daemon=True).start()

    def open(self, port: PcmPort, params: base.PcmParams, events: base.EventSink) -> base.EngineStream:
        if self._engine == "python":
            return Told(PythonStream(port), port)
        if self._engine == "clock":
            return Told(NullBackend().open(port, params, events), port)
        return Told(super().open(port, params, events), port)


class Told(base.EngineStream):
    """Another stream; tells its port's counters."""

    def __init__(self, stream: base.EngineStream, port: PcmPort) -> None:
        self._stream, self._port = stream, port
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._tell)
        self._thread.start()

    def _tell(self) -> None:
        while not self._closed.wait(0.2):
            late = getattr(self._stream, "late", 0)
            log.warning("counted %s", json.dumps(self._port.stats | {"late": late}))

    def start(self) -> None:
        self._stream.start()

    def stop(self) -> None:
        self._stream.stop()

    def drain(self, done: Callable[[], None]) -> None:
        self._stream.drain(done)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        self._stream.close()


class PythonStream(base.EngineStream):
    """Takes a period each period of the clock, as well as Python can: an engine that holds two periods."""

    def __init__(self, port: PcmPort) -> None:
        self._port = port
        self._running = threading.Event()
        self._closed = False
        #: Wake-ups more than a period late.
        self.late = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        port = self._port
        period_s = port.period_bytes / port.frame_bytes / port.rate
        while self._running.wait() and not self._closed:
            due = time.monotonic()
            while self._running.is_set() and not self._closed:
                due += period_s
                time.sleep(max(0.0, due - time.monotonic()))
                behind = time.monotonic() - due
                if behind > period_s:
                    self.late += 1
                    due += behind  # what was missed is missed
                port.read(port.period_bytes)

    def start(self) -> None:
        self._running.set()

    def stop(self) -> None:
        self._running.clear()

    def close(self) -> None:
        self._closed = True
        self._running.set()
        self._thread.join()
