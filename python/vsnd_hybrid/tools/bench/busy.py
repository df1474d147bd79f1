"""A backend for measurements: PipeWire in a daemon whose Python is kept busy. Found by way of `plugin`, in benches only."""

from __future__ import annotations

import threading
from typing import ClassVar

from vsnd_hybrid._core import PcmPort
from vsnd_hybrid.backends.base import BackendError, EngineStream, EventSink, PcmParams
from vsnd_hybrid.backends.pipewire import PipeWireBackend

#: Objects that live, and cycles that are made and dropped at a time.
_ALIVE, _CYCLES = 300_000, 20_000


class BusyBackend(PipeWireBackend):
    """Parameters: `load`: "thread", which computes for ever, or "heap", which has much to collect."""

    name: ClassVar[str] = "bench-busy"

    def __init__(self, *, load: str = "thread") -> None:
        loads = {"thread": _compute, "heap": _collect}
        if load not in loads:
            raise BackendError(f"load is {load!r}; allowed: {', '.join(loads)}")
        super().__init__()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=loads[load], args=(self._ended,), name="bench-busy", daemon=True)

    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> EngineStream:
        """The load begins with the first stream."""
        if not self._thread.ident:
            self._thread.start()
        return super().open(port, params, events)

    def close(self) -> None:
        self._ended.set()
        super().close()


def _compute(ended: threading.Event) -> None:
    number = 1
    while not ended.is_set():
        for _ in range(100_000):
            number = (number * 6364136223846793005 + 1) % (1 << 64)


def _collect(ended: threading.Event) -> None:
    alive = [[number] for number in range(_ALIVE)]
    while not ended.is_set():
        for _ in range(_CYCLES):
            cycle: list[object] = []
            cycle.append(cycle)
        alive[0] = list(alive[0])
