"""The connection to a PipeWire server: thread loop, context, core and registry; told when it is lost, can be made anew.

Locks: C's loop lock is taken last. The loop's thread calls the callbacks here with that lock held, so they take no Python
lock that anyone holds who waits for it: they only enqueue, set an event, or replace an attribute.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from vsnd_hybrid.backends.base import Direction, EngineDevice, EngineUnavailable
from vsnd_hybrid.backends.pipewire import library
from vsnd_hybrid.backends.pipewire.library import callback, ffi, text

log = logging.getLogger(__name__)

_CORE_EVENTS_VERSION, _REGISTRY_EVENTS_VERSION, _REGISTRY_VERSION = 1, 0, 3
_ID_CORE: Final = 0
_NODE: Final = "PipeWire:Interface:Node"

#: media.class of a node that is an endpoint: which streams can be connected to it.
_ENDPOINTS: Final = {
    "Audio/Sink": (Direction.OUTPUT,),
    "Audio/Source": (Direction.INPUT,),
    "Audio/Source/Virtual": (Direction.INPUT,),
    "Audio/Duplex": (Direction.OUTPUT, Direction.INPUT),
}


class Session:
    """At most one connection at a time, on a loop thread that lives as long as the session.

    Parameters
    ----------
    remote
        Name of the server's socket; empty: PIPEWIRE_REMOTE, or the default one.
    on_lost
        Called on the loop's thread, under its lock, when the server is gone.
    on_device
        Likewise when an endpoint came (True) or went.

    `connect`, `disconnect` and `close` are for one thread at a time; nothing here may be called by a callback.
    """

    def __init__(
        self, remote: str, on_lost: Callable[[], None], on_device: Callable[[EngineDevice, bool], None]
    ) -> None:
        self.lib: Final = library.load()
        self._remote, self._on_lost, self._on_device = remote, on_lost, on_device
        self.core: Any = ffi.NULL
        #: By the node's id: one node is an endpoint in one direction, or in both.
        self._endpoints: dict[int, tuple[EngineDevice, ...]] = {}
        #: The server has told everything, or (`_alive` false) never will.
        self._answered = threading.Event()
        self._alive = self._given_up = False
        #: What to call when the server has answered a `sync`, by its number.
        self._syncs: dict[int, Callable[[], None]] = {}
        # What C sees must outlive the C object: of this connection, and of the one before, whose proxies may linger.
        self._keep: list[Any] = []
        self._keep_before: list[Any] = []
        self._loop = self.lib.pw_thread_loop_new(b"vsnd-pipewire", ffi.NULL)
        self._context = self._new_context()
        self.lib.pw_thread_loop_start(self._loop)

    def _new_context(self) -> Any:
        loop = self.lib.pw_thread_loop_get_loop(self._loop)
        # Before 1.4 the module that makes the data thread a real-time one was only in client-rt.conf.
        configurations = ["client-rt.conf", ""] if library.version(self.lib) < (1, 4) else [""]
        for name in configurations:
            about = {"application.name": "vsnd-hybrid", "config.name": name}
            context = self.lib.pw_context_new(loop, self.properties(about), 0)
            if context:
                return context
        self.lib.pw_thread_loop_destroy(self._loop)
        raise EngineUnavailable("PipeWire's client configuration cannot be loaded: is pipewire installed whole?")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the loop lock. cffi lets go of the interpreter lock while it waits."""
        self.lib.pw_thread_loop_lock(self._loop)
        try:
            yield
        finally:
            self.lib.pw_thread_loop_unlock(self._loop)

    def properties(self, values: Mapping[str, str], more: str = "") -> Any:
        """A `pw_properties` of all that is not empty; `more` is text as PipeWire reads it and wins."""
        known = json.dumps({k: v for k, v in values.items() if v}, ensure_ascii=False)
        made = self.lib.pw_properties_new_string(known.encode())
        if more:
            encoded = more.encode()
            self.lib.pw_properties_update_string(made, encoded, len(encoded))
        return made

    def connect(self, timeout_s: float) -> bool:
        """Connect, and wait until the server has told everything that there is. False if it does not answer."""
        with self.locked():
            self._answered.clear()
            self._alive = not self._given_up
            properties = self.properties({"remote.name": self._remote})
            self.core = self.lib.pw_context_connect(self._context, properties, 0)
            if self.core:
                self._listen()
        if self.core and self._answered.wait(timeout_s) and self._alive:
            return True
        self.disconnect()
        return False

    @property
    def alive(self) -> bool:
        """The connection, if there is one, was not lost."""
        return self._alive

    def give_up(self) -> None:
        """Have a `connect` that waits return False, and every later one. Any thread."""
        with self.locked():
            self._given_up, self._alive = True, False
            self._answered.set()

    def disconnect(self) -> None:
        """Drop the connection; every stream of it was destroyed before."""
        with self.locked():
            if self.core:
                self.lib.pw_core_disconnect(self.core)
                self.core = ffi.NULL
            self._syncs.clear()
            gone, self._endpoints = self._endpoints, {}
        for endpoint in (device for devices in gone.values() for device in devices):
            self._on_device(endpoint, False)
        self._keep_before, self._keep = self._keep, []

    def close(self) -> None:
        """Disconnect and end the thread."""
        self.disconnect()
        self.lib.pw_thread_loop_stop(self._loop)  # never with its lock held
        self.lib.pw_context_destroy(self._context)
        self.lib.pw_thread_loop_destroy(self._loop)

    def sync(self, answered: Callable[[], None]) -> None:
        """Have `answered` called when the server has done everything that it was asked until now; as the callbacks are."""
        with self.locked():
            if self.core:
                self._send_sync(answered)

    def devices(self) -> list[EngineDevice]:
        """The endpoints that are there now."""
        with self.locked():
            return [device for devices in self._endpoints.values() for device in devices]

    def _listen(self) -> None:
        def done(_: Any, ident: int, seq: int) -> None:
            if ident == _ID_CORE and (answered := self._syncs.pop(seq, None)):
                answered()

        def error(_: Any, ident: int, seq: int, result: int, message: Any) -> None:
            if ident == _ID_CORE and result in (-errno.EPIPE, -errno.ECONNRESET):
                self._alive = False
                self._answered.set()
                self._on_lost()
            else:
                log.debug("PipeWire: object %d: %s", ident, text(message))

        def added(_: Any, ident: int, permissions: int, kind: Any, version: int, properties: Any) -> None:
            if text(kind) == _NODE and properties:
                items = (properties.items[i] for i in range(properties.n_items))
                self._add(ident, {text(item.key): text(item.value) for item in items})

        def removed(_: Any, ident: int) -> None:
            for device in self._endpoints.pop(ident, ()):
                self._on_device(device, False)

        core = {
            "version": _CORE_EVENTS_VERSION,
            "done": callback("void(void *, uint32_t, int)", done),
            "error": callback("void(void *, uint32_t, int, int, const char *)", error),
        }
        nodes = {
            "version": _REGISTRY_EVENTS_VERSION,
            "global": callback(
                "void(void *, uint32_t, uint32_t, const char *, uint32_t, const struct spa_dict *)", added
            ),
            "global_remove": callback("void(void *, uint32_t)", removed),
        }
        core_events = ffi.new("struct pw_core_events *", core)
        registry_events = ffi.new("struct pw_registry_events *", nodes)
        hooks = ffi.new("struct spa_hook[2]")
        self._keep = [core, nodes, core_events, registry_events, hooks]
        library.call(self.core, "pw_core_methods", "add_listener", hooks, core_events, ffi.NULL)
        registry = library.call(self.core, "pw_core_methods", "get_registry", _REGISTRY_VERSION, 0)
        library.call(registry, "pw_registry_methods", "add_listener", hooks + 1, registry_events, ffi.NULL)
        self._send_sync(self._answered.set)

    def _send_sync(self, answered: Callable[[], None]) -> None:
        self._syncs[library.call(self.core, "pw_core_methods", "sync", _ID_CORE, 0)] = answered

    def _add(self, ident: int, properties: Mapping[str, str]) -> None:
        name = properties.get("node.name", "")
        description = properties.get("node.description", "")
        directions = _ENDPOINTS.get(properties.get("media.class", ""), ())
        devices = tuple(EngineDevice(name, direction, description) for direction in directions)
        if devices:
            self._endpoints[ident] = devices
            for device in devices:
                self._on_device(device, True)
