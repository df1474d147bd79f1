"""Watches over the streams of one connection: what PipeWire tells of its own accord is acted upon here, and nowhere else.

PipeWire's loop thread only enqueues; a thread of the supervisor's own acts. Its lock guards the session and every stream; it
is taken before the loop lock, never by the loop's thread.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from vsnd_hybrid.backends.base import BackendError, EngineDevice, EngineEvent, EngineUnavailable, PcmParams
from vsnd_hybrid.backends.pipewire.node import Node, State
from vsnd_hybrid.backends.pipewire.session import Session
from vsnd_hybrid.backends.pipewire.stream import Feed, GuestStream

log = logging.getLogger(__name__)

#: How long a drain may take. The device answers within 900 ms.
DRAIN_S: Final = 0.4
#: How long a server may take to tell what there is.
ANSWER_S: Final = 2.0
#: A link is made in two steps, each of which the server asks our own process to do its part of.
ROUND_TRIPS: Final = 2
BACKOFF_S: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)


def grace_s(params: PcmParams) -> float:
    """How long a stream may move nothing before the clock takes over. A new link takes 5 to 20 ms.

    Linux 6.6 and later give up (EIO) when nothing was consumed for 1.1 buffers, or 100 ms if that is more; the clock's
    first period needs one itself.
    """
    patience = max(0.1, 1.1 * params.buffer_frames / params.rate)
    return max(0.05, patience - params.period_frames / params.rate - 0.02)


_Message = Callable[[], None]


class Supervisor:
    """Connects, and keeps the streams going. Raises `EngineUnavailable` if no server answers now."""

    def __init__(self, remote: str) -> None:
        self.lock: Final = threading.Lock()
        self._streams: tuple[GuestStream, ...] = ()  # replaced, not changed: the loop's thread reads it
        self._deadlines: dict[GuestStream, float] = {}
        self._messages: queue.SimpleQueue[_Message | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._connected = False
        self.session: Final = Session(remote, lambda: self._messages.put(self._on_lost), self._on_device)
        self._connected = self.session.connect(ANSWER_S)
        if not self._connected:
            self.session.close()
            which = f"remote {remote!r}" if remote else "its socket"
            raise EngineUnavailable(f"PipeWire does not answer on {which}: is it running for this user?")
        self._thread = threading.Thread(target=self._run, name="pipewire-supervisor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Every stream was closed before."""
        self._closing.set()
        self._messages.put(None)
        self.session.give_up()
        self._thread.join()
        self.session.close()

    # ------------------------------------------------------------ the control thread, under the lock

    def add(self, stream: GuestStream) -> None:
        """Raises `BackendError` if the server is there and refuses."""
        if self._connected:
            stream.attach()
        else:
            stream.tell_lost()
        self._streams += (stream,)

    def remove(self, stream: GuestStream) -> None:
        self._streams = tuple(other for other in self._streams if other is not stream)
        self._deadlines.pop(stream, None)
        stream.close()

    def started(self, stream: GuestStream) -> None:
        """START was told: see that somebody moves the stream's audio."""
        if stream.node:
            self._settle(stream, stream.node, ROUND_TRIPS)
        self.expect(stream, grace_s(stream.params))

    def expect(self, stream: GuestStream, within_s: float) -> None:
        """Look at the stream again if nothing happens to it before."""
        self._deadlines[stream] = time.monotonic() + within_s
        self._messages.put(_nothing)

    # ------------------------------------------------------------ the loop's thread: these enqueue, no more

    def on_state(self, stream: GuestStream, node: Node, state: State, error: str) -> None:
        self._messages.put(lambda: self._state_changed(stream, node, state, error))

    def on_drained(self, stream: GuestStream, node: Node) -> None:
        self._messages.put(lambda: self._drained(stream, node))

    def _on_device(self, device: EngineDevice, there: bool) -> None:
        event = EngineEvent.DEVICE_ADDED if there else EngineEvent.DEVICE_REMOVED
        for stream in self._streams:
            if stream.params.direction is device.direction:
                stream.events.post(event, device)

    # ------------------------------------------------------------ the supervisor's thread

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                message = self._messages.get(timeout=self._patience())
            except queue.Empty:
                message = self._look
            if message:
                message()

    def _patience(self) -> float | None:
        with self.lock:
            if not self._deadlines:
                return None
            return max(0.0, min(self._deadlines.values()) - time.monotonic())

    def _look(self) -> None:
        """Deadlines passed."""
        calls = []
        with self.lock:
            now = time.monotonic()
            for stream in [s for s, due in self._deadlines.items() if due <= now]:
                del self._deadlines[stream]
                if stream.draining:
                    log.debug("%s: not drained in time", stream.params.name)
                    calls.append(stream.finish_drain())
                elif stream.node and stream.node.state is State.ERROR:
                    self._fail(stream, "PipeWire put the stream into its error state")
                elif stream.active and stream.node and stream.node.state is State.STREAMING:
                    stream.to_node()  # links are not all made by now: better a channel late than the guest without sound
                elif stream.active and stream.feed is not Feed.CLOCK:
                    log.warning("%s: PipeWire does not run it (no device?), silence meanwhile", stream.params.name)
                    stream.to_clock()
        for call in calls:
            if call:
                call()

    def _state_changed(self, stream: GuestStream, node: Node, state: State, error: str) -> None:
        with self.lock:
            if stream.node is not node:
                return
            if error:
                log.warning("%s: PipeWire: %s", stream.params.name, error)
            if state is State.STREAMING:
                self._settle(stream, node, 0 if stream.feed is Feed.CLOCK else ROUND_TRIPS)
            elif stream.active or state is State.ERROR:
                self._deadlines.setdefault(stream, time.monotonic() + grace_s(stream.params))

    def _settle(self, stream: GuestStream, node: Node, round_trips: int) -> None:
        """Hand the port to the node when the server has made all links of it; under the lock.

        A node runs as soon as its first link does, so that the other channels would miss the beginning. While the clock
        moves the audio it is lost anyway, and there is nothing to wait for.
        """
        if not stream.active or (round_trips == 0 and node.state is not State.STREAMING):
            return  # when it streams it will be tried again
        if round_trips:
            message = lambda: self._answered(stream, node, round_trips - 1)
            self.session.sync(lambda: self._messages.put(message))
            return
        self._deadlines.pop(stream, None)
        if stream.feed is Feed.CLOCK:
            log.info("%s: on PipeWire again", stream.params.name)
        stream.to_node()
        stream.tell_recovered()

    def _answered(self, stream: GuestStream, node: Node, round_trips: int) -> None:
        with self.lock:
            if stream.node is node:
                self._settle(stream, node, round_trips)

    def _drained(self, stream: GuestStream, node: Node) -> None:
        with self.lock:
            if stream.node is not node:
                return
            self._deadlines.pop(stream, None)
            done = stream.finish_drain()
        if done:
            done()

    def _fail(self, stream: GuestStream, why: str) -> None:
        log.error("%s: %s", stream.params.name, why)
        stream.detach()
        stream.events.post(EngineEvent.FAILED, why)

    def _on_lost(self) -> None:
        """Keep the guests going, then try to connect until the server is back or the daemon ends."""
        calls = []
        with self.lock:
            if not self._connected or self.session.alive:
                return  # told of a connection before this one
            self._connected = False
            log.warning("PipeWire is gone: silence until it is back")
            self._deadlines.clear()
            for stream in self._streams:
                calls.append(stream.finish_drain())
                stream.detach()
                stream.tell_lost()
            self.session.disconnect()
        for call in calls:
            if call:
                call()
        self._reconnect()

    def _reconnect(self) -> None:
        attempt = 0
        while not self._closing.wait(BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]):
            attempt += 1
            # Without the lock: a server that does not answer must not hold up the guests' requests.
            if not self.session.connect(ANSWER_S):
                continue
            with self.lock:
                self._connected = True
                log.info("PipeWire is back")
                for stream in self._streams:
                    try:
                        stream.attach()
                    except BackendError as error:
                        self._fail(stream, str(error))
                        continue
                    if not stream.active:
                        stream.tell_recovered()
            return


def _nothing() -> None:
    """Wakes the supervisor up, so that it sees a new deadline."""
