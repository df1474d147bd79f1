"""One `pw_stream` of one connection: made, bound to its native callback, activated, drained, destroyed. No policy.

Methods are for one thread at a time (the backend's lock) and take the loop lock themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from vsnd_hybrid._core import PcmPort, PipeWirePort
from vsnd_hybrid.backends.base import BackendError, Direction, PcmParams
from vsnd_hybrid.backends.latency import largest_frames, wakeup_frames
from vsnd_hybrid.backends.pipewire import library, pod
from vsnd_hybrid.backends.pipewire.library import callback, ffi, text
from vsnd_hybrid.backends.pipewire.session import Session

_STREAM_EVENTS_VERSION: Final = 2
_DIRECTION: Final = {Direction.INPUT: 0, Direction.OUTPUT: 1}
_CATEGORY: Final = {Direction.INPUT: "Capture", Direction.OUTPUT: "Playback"}
_ID_ANY: Final = 0xFFFFFFFF

# enum pw_stream_flags
_AUTOCONNECT, _INACTIVE, _MAP_BUFFERS, _RT_PROCESS = 1 << 0, 1 << 1, 1 << 2, 1 << 4


class State(IntEnum):
    """enum pw_stream_state. STREAMING is the only one in which the data thread calls."""

    ERROR = -1
    UNCONNECTED = 0
    CONNECTING = 1
    PAUSED = 2
    STREAMING = 3


def quantum(params: PcmParams, latency: str) -> dict[str, str]:
    """What the stream asks of the graph: how often it wakes up, and no wake-ups that the guest's buffer cannot feed."""
    frames, largest = wakeup_frames(latency, params), largest_frames(params)
    return {
        "node.latency": f"{frames}/{params.rate}",
        "node.max-latency": f"{max(largest, frames)}/{params.rate}",
        "node.rate": f"1/{params.rate}",
    }


class Node:
    """An inactive stream with the guest's format. Raises `BackendError` if PipeWire refuses.

    Parameters
    ----------
    properties
        Of the node, beyond those of its direction and format; `more` is text as PipeWire reads it, and wins.
    on_state, on_drained
        Called on the loop's thread under its lock, or on the thread that calls a method here: they only enqueue.
    """

    def __init__(
        self,
        session: Session,
        port: PcmPort,
        params: PcmParams,
        properties: dict[str, str],
        more: str,
        on_state: Callable[[Node, State, str], None],
        on_drained: Callable[[Node], None],
    ) -> None:
        lib = session.lib
        self._session = session
        self.state = State.UNCONNECTED
        self.bound = False
        self._native = PipeWirePort(
            port,
            dequeue=library.address(lib, "pw_stream_dequeue_buffer"),
            queue=library.address(lib, "pw_stream_queue_buffer"),
            get_time=library.address(lib, "pw_stream_get_time_n"),
        )

        def state_changed(_: Any, old: int, new: int, error: Any) -> None:
            self.state = State(new)
            on_state(self, self.state, text(error))

        def drained(_: Any) -> None:
            on_drained(self)

        # Two listeners: PipeWire takes callback and userdata of the first one that has `process` for the data thread,
        # and that is the one which has nothing else.
        events = {
            "version": _STREAM_EVENTS_VERSION,
            "state_changed": callback("void(void *, int, int, const char *)", state_changed),
            "drained": callback("void(void *)", drained),
        }
        soft = ffi.new("struct pw_stream_events *", events)
        hard = ffi.new(
            "struct pw_stream_events *",
            {"version": _STREAM_EVENTS_VERSION, "process": ffi.cast("void *", self._native.process)},
        )
        hooks = ffi.new("struct spa_hook[2]")
        body = ffi.new("char[]", pod.enum_format(params.format, params.rate, params.channels, params.positions))
        formats = ffi.new("void *[1]", [body])
        self._keep = [events, soft, hard, hooks]
        category = {"media.type": "Audio", "media.category": _CATEGORY[params.direction]}
        with session.locked():
            made = session.properties(category | properties, more)
            self._stream = lib.pw_stream_new(session.core, params.name.encode(), made)
            if not self._stream:
                self._native.close()
                raise BackendError(f"PipeWire makes no stream: {os.strerror(ffi.errno)}")
            lib.pw_stream_add_listener(self._stream, hooks, soft, ffi.NULL)
            lib.pw_stream_add_listener(self._stream, hooks + 1, hard, ffi.cast("void *", self._native.userdata))
            result = lib.pw_stream_connect(
                self._stream,
                _DIRECTION[params.direction],
                _ID_ANY,
                _AUTOCONNECT | _INACTIVE | _MAP_BUFFERS | _RT_PROCESS,
                ffi.cast("const void **", formats),
                1,
            )
        if result < 0:
            self.destroy()
            raise BackendError(f"PipeWire refuses the stream: {os.strerror(-result)}")

    def bind(self, on: bool) -> None:
        """Let the data thread move audio. Off: when this returns it touches the port no more."""
        self._native.set_stream(library.pointer(self._stream) if on else 0)
        self.bound = on

    def activate(self, on: bool) -> None:
        """Ask to be scheduled, or not. Does not wait for the first callback; after "off" none comes."""
        with self._session.locked():
            self._session.lib.pw_stream_set_active(self._stream, on)

    def drain(self) -> None:
        """Have what was queued played to its end; `on_drained` is called then. Unbind first, or more is queued."""
        with self._session.locked():
            self._session.lib.pw_stream_flush(self._stream, True)

    @property
    def stats(self) -> dict[str, int]:
        """See `PipeWirePort.stats`."""
        return self._native.stats

    def destroy(self) -> None:
        """When this returns no callback runs and none will."""
        with self._session.locked():
            self._session.lib.pw_stream_destroy(self._stream)
        self._native.close()
        self._keep.clear()
