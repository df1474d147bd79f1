"""The engine that hears nothing: playback is dropped, capture is silence; for tests, benchmarks and silent machines."""

from __future__ import annotations

from typing import ClassVar

from vsnd_hybrid._core import ClockPort, EagerPort, PcmPort
from vsnd_hybrid.backends.base import (
    Backend,
    BackendError,
    Direction,
    EngineStream,
    EventSink,
    Needs,
    PcmCapabilities,
    PcmParams,
)
from vsnd_hybrid.backends.formats import CHANNELS_MAX, RATES, SAMPLE_BYTES
from vsnd_hybrid.backends.options import boolean


class NullBackend(Backend):
    """Parameters: `paced` (true): at the stream's rate, by the clock; false: as fast as the guest can, and then with
    `copy` (false) taken out of the guest's memory instead of given back unread.
    """

    name: ClassVar[str] = "null"
    stream_options: ClassVar[frozenset[str]] = frozenset()
    blocks: ClassVar[bool] = False
    uses: ClassVar[Needs] = Needs(permits=frozenset())

    def __init__(self, *, paced: str = "true", copy: str = "false") -> None:
        self._paced = boolean("paced", paced)
        self._copy = boolean("copy", copy)
        if self._copy and self._paced:
            raise BackendError("copy is for paced=false: by the clock everything is copied")

    def capabilities(self, direction: Direction) -> PcmCapabilities:
        return PcmCapabilities(frozenset(SAMPLE_BYTES), RATES, 1, CHANNELS_MAX, polling=self._paced)

    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> EngineStream:
        if self._paced:
            return ClockStream(port)
        return EagerStream(port) if self._copy else DiscardStream()


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


class EagerStream(EngineStream):
    """Not paced: copied out by a thread in Rust."""

    def __init__(self, port: PcmPort) -> None:
        self._port = EagerPort(port)

    def start(self) -> None:
        self._port.start()

    def stop(self) -> None:
        self._port.stop()

    def close(self) -> None:
        self._port.stop()


class DiscardStream(EngineStream):
    """Not paced: the device answers every message itself."""

    discards = True

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass
