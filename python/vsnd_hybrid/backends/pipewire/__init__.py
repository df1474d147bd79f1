"""PipeWire as an engine, by cffi on libpipewire. Its data thread calls native code; Python only sets up and watches."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar

from vsnd_hybrid._core import PcmPort
from vsnd_hybrid.backends.base import (
    Backend,
    BackendError,
    Direction,
    EngineDevice,
    EngineStream,
    EngineUnavailable,
    EventSink,
    Needs,
    PcmCapabilities,
    PcmParams,
)
from vsnd_hybrid.backends.formats import CHANNELS_MAX, RATES
from vsnd_hybrid.backends.latency import DEFAULT, check
from vsnd_hybrid.backends.pipewire import library, pod
from vsnd_hybrid.backends.pipewire.node import Node, quantum
from vsnd_hybrid.backends.pipewire.stream import GuestStream
from vsnd_hybrid.backends.pipewire.supervisor import DRAIN_S, Supervisor

__all__ = ["PipeWireBackend"]

_CAPABILITIES = PcmCapabilities(frozenset(pod.FORMATS), RATES, 1, CHANNELS_MAX)


class PipeWireBackend(Backend):
    """Native streams of a PipeWire server, each with the guest's own format and rate.

    Parameters
    ----------
    target
        ``node.name`` or ``object.serial`` of the device to use; a stream's own target wins. Default: the session
        manager's choice.
    latency
        How often to wake up: ``low``, ``balanced``, ``power``, or the frames between wake-ups (`backends.latency`); a
        stream's own latency wins.
    remote
        Name of the server's socket. Default: PIPEWIRE_REMOTE, or ``pipewire-0``.
    props
        More properties of the streams, as PipeWire writes them: ``{ node.force-quantum = 256 }``.

    A stream's options may be the same but `remote`.
    """

    name: ClassVar[str] = "pipewire"
    stream_options: ClassVar[frozenset[str]] = frozenset(("target", "latency", "props"))

    def __init__(self, *, target: str = "", latency: str = DEFAULT, remote: str = "", props: str = "") -> None:
        self._options = {"target": target, "latency": latency, "props": props}
        check(latency)
        self._supervisor = Supervisor(remote)

    @classmethod
    def needs(cls, options: Mapping[str, str]) -> Needs:
        own = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        moved = ("PIPEWIRE_CONFIG_DIR", "PIPEWIRE_MODULE_DIR", "SPA_PLUGIN_DIR", "SPA_DATA_DIR")
        paths = [path for name in moved for path in os.environ.get(name, "").split(":") if path]
        return Needs(read=("/etc/pipewire", f"{own}/pipewire", "/etc/machine-id", *paths))

    @classmethod
    def preload(cls) -> None:
        with suppress(EngineUnavailable):
            library.opened()

    def capabilities(self, direction: Direction) -> PcmCapabilities:
        return _CAPABILITIES

    def devices(self) -> Sequence[EngineDevice]:
        return self._supervisor.session.devices()

    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> EngineStream:
        options = self._options | dict(params.options)
        if unknown := options.keys() - self._options.keys():
            raise BackendError(f"no option {min(unknown)!r} of a stream: it knows {', '.join(self._options)}")
        latency = check(params.latency or options["latency"])
        properties = {
            "node.name": params.name,
            "node.description": params.name,
            "media.name": params.name,
            "media.role": "Music",
            "application.name": "vsnd-hybrid",
            "target.object": params.target or options["target"],
        } | quantum(params, latency)
        supervisor = self._supervisor

        def make(stream: GuestStream) -> Node:
            return Node(
                supervisor.session,
                port,
                params,
                properties,
                options["props"],
                lambda node, state, error: supervisor.on_state(stream, node, state, error),
                lambda node: supervisor.on_drained(stream, node),
            )

        stream = GuestStream(port, params, events, make)
        with supervisor.lock:
            supervisor.add(stream)
        return PipeWireStream(supervisor, stream)

    def close(self) -> None:
        self._supervisor.close()


class PipeWireStream(EngineStream):
    """What the device sees of a `GuestStream`: its methods, under the supervisor's lock."""

    def __init__(self, supervisor: Supervisor, stream: GuestStream) -> None:
        self._supervisor, self._stream = supervisor, stream

    @property
    def stats(self) -> dict[str, int]:
        """See `PipeWirePort.stats`; empty while there is no server."""
        with self._supervisor.lock:
            return self._stream.node.stats if self._stream.node else {}

    def start(self) -> None:
        with self._supervisor.lock:
            given_up = self._stream.finish_drain()
            self._stream.start()
            self._supervisor.started(self._stream)
        if given_up:
            given_up()

    def stop(self) -> None:
        with self._supervisor.lock:
            self._stream.stop()

    def drain(self, done: Callable[[], None]) -> None:
        with self._supervisor.lock:
            waits = self._stream.drain(done)
            if waits:
                self._supervisor.expect(self._stream, DRAIN_S)
        if not waits:
            done()

    def close(self) -> None:
        with self._supervisor.lock:
            self._supervisor.remove(self._stream)
