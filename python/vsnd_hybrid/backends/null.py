"""The engine that hears nothing: playback is dropped, capture is silence; for tests, benchmarks and silent machines."""

from __future__ import annotations

from typing import ClassVar

from vsnd_hybrid._core import ClockPort, PcmPort
from vsnd_hybrid.backends.base import Backend, Direction, EngineStream, EventSink, Needs, PcmCapabilities, PcmParams
from vsnd_hybrid.backends.formats import CHANNELS_MAX, RATES, SAMPLE_BYTES
from vsnd_hybrid.backends.options import boolean


class NullBackend(Backend):
    """Parameters: `paced` (true): at the stream's rate, by the clock; false: as fast as the guest can."""

    name: ClassVar[str] = "null"
    blocks: ClassVar[bool] = False
    uses: ClassVar[Needs] = Needs(permits=frozenset())

    def __init__(self, *, paced: str = "true") -> None:
        self._paced = boolean("paced", paced)

    def capabilities(self, direction: Direction) -> PcmCapabilities:
        return PcmCapabilities(frozenset(SAMPLE_BYTES), RATES, 1, CHANNELS_MAX, polling=self._paced)

    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> EngineStream:
        return ClockStream(port) if self._paced else DiscardStream()


class ClockStream(EngineStream):
    """Paced by the clock in Rust."""

    def __init__(self, port: PcmPort) -> None:
        self._clock = ClockPort(port)

    def start(self) -> None:
        self._clock.start()

    def stop(self) -> None:
        self._clock.stop()

    def close(self) -> None:
        self._clock.close()


class DiscardStream(EngineStream):
    """Not paced: the device answers every message itself."""

    discards = True

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass
