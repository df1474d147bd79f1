"""A guest's stream on PipeWire: on the server's node while that runs, on the clock while it does not. One of them at a time.

No method here waits for PipeWire. All of them are called with the supervisor's lock held.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import Final

from vsnd_hybrid._core import ClockPort, PcmPort
from vsnd_hybrid.backends.base import Direction, EngineEvent, EventSink, PcmParams
from vsnd_hybrid.backends.pipewire.node import Node, State

log = logging.getLogger(__name__)


class Feed(Enum):
    """Who moves the stream's audio."""

    NOBODY = "nobody"
    NODE = "node"
    CLOCK = "clock"


class GuestStream:
    """What a guest's stream needs of PipeWire, across losses of the server.

    The node moves audio while the server schedules it. When the server is gone, or runs but has nothing to play to, the
    clock does: playback is dropped and capture is silence at the stream's pace, so the guest's applications go on.
    """

    def __init__(
        self, port: PcmPort, params: PcmParams, events: EventSink, make: Callable[[GuestStream], Node]
    ) -> None:
        self.port: Final = port
        self.params: Final = params
        self.events: Final = events
        self._make = make
        self.node: Node | None = None
        self._clock: ClockPort | None = None
        #: Between START and STOP.
        self.active = False
        #: The server was lost since RECOVERED was told.
        self.lost = False
        #: Bytes may be in the node that nobody heard yet.
        self._played = False
        self._drained: Callable[[], None] | None = None

    @property
    def feed(self) -> Feed:
        """Who moves the audio now."""
        if not self.active:
            return Feed.NOBODY
        if self._clock:
            return Feed.CLOCK
        return Feed.NODE if self.node and self.node.bound else Feed.NOBODY

    @property
    def draining(self) -> bool:
        return self._drained is not None

    def attach(self) -> None:
        """The server is there: make the node. If audio moves, it goes over to it when it streams. Raises `BackendError`."""
        self.node = self._make(self)
        if self.active:
            self.node.activate(True)

    def detach(self) -> None:
        """The server is gone: the clock goes on."""
        if self.node:
            self.node.destroy()
            self.node = None
        if self.active:
            self.to_clock()

    def start(self) -> None:
        """START. Without a node the clock begins at once, with one nobody does before `to_node`."""
        self.active = True
        if self.node:
            self.node.activate(True)
        else:
            self.to_clock()

    def stop(self) -> None:
        """STOP. What the node holds stays there."""
        self.active = False
        self._close_clock()
        if self.node:
            self.node.activate(False)
            self.node.bind(False)

    def to_clock(self) -> None:
        """The node does not run: hand the port to the clock."""
        if self._clock:
            return
        if self.node:
            self.node.bind(False)
        self._clock = ClockPort(self.port)
        self._clock.start()

    def to_node(self) -> None:
        """The node runs with all its links: hand the port to it."""
        self._close_clock()
        if self.node:
            self.node.bind(True)
            self._played = self.params.direction is Direction.OUTPUT

    def drain(self, done: Callable[[], None]) -> bool:
        """Have the node play what it holds; then nobody moves audio until `start`. False if there is nothing to wait for (then `done` is the caller's)."""
        if not (self.node and self._played) or self._clock or self.node.state < State.PAUSED:
            return False
        self._played = self.active = False
        self._drained = done
        self.node.bind(False)
        self.node.activate(True)
        self.node.drain()
        return True

    def finish_drain(self) -> Callable[[], None] | None:
        """The node has played everything, or nobody waits for it any more. Gives back what is to be called."""
        done, self._drained = self._drained, None
        if done and self.node:
            # Only this ends PipeWire's drain before its time: it would ask for no audio after a start.
            self.node.activate(False)
        return done

    def close(self) -> None:
        """When this returns nobody touches the port any more."""
        self.active = False
        self._drained = None
        self._close_clock()
        if self.node:
            self.node.destroy()
            self.node = None

    def tell_lost(self) -> None:
        if not self.lost:
            self.lost = True
            self.events.post(EngineEvent.LOST)

    def tell_recovered(self) -> None:
        if self.lost:
            self.lost = False
            self.events.post(EngineEvent.RECOVERED)

    def _close_clock(self) -> None:
        if self._clock:
            self._clock.close()
            self._clock = None
