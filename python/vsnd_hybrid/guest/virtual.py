"""`VirtualGuest`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Self, TypeVar

from vsnd_hybrid import wire
from vsnd_hybrid._core import GuestError, SoundDriver
from vsnd_hybrid.guest.application import Application
from vsnd_hybrid.guest.infos import ChmapInfo, GuestEvent, JackInfo, StreamInfo, name_of
from vsnd_hybrid.guest.monitor import Monitor
from vsnd_hybrid.guest.queue import Queue
from vsnd_hybrid.guest.samples import rate_code
from vsnd_hybrid.layout import Layout
from vsnd_hybrid.wire import PcmFormat, Request, Status

if TYPE_CHECKING:
    from typing_extensions import Buffer

_T = TypeVar("_T")
_L = TypeVar("_L", bound=Layout)


class VirtualGuest(Application, Monitor):
    """A guest without a machine, connected to a vhost-user sound device. Any thread may call it.

    A context manager: at the end of the block the rings are stopped and the connection is closed.

    Parameters
    ----------
    socket
        Path, or descriptor of a connected socket (which is duplicated).
    event_idx, indirect
        Accept these features of the transport if they are offered.
    queue_size
        Entries of each queue, a power of two up to 32768.
    memory_mib
        Memory in one region at address 0.
    regions
        Instead: `(address, bytes)` of each region, ascending. Rings lie in the first, buffers in the last.
    features
        Exactly these feature bits instead of those that are offered and known.
    protocol_features
        Protocol features to accept of those that are offered.
    need_reply
        Ask for an answer to every message, as cloud-hypervisor does.
    kick_at_start
        Kick each queue once when it starts, as QEMU does.
    events
        Fill the event queue and collect events; without, queue 1 is free for raw use.
    connect_timeout
        Seconds to wait until somebody listens on the socket, and for each answer of vhost-user.
    request_timeout
        Seconds to wait for the answer to a sound request. Linux waits for one.

    Raises
    ------
    GuestError
        Nobody listens, or the device does not speak the protocol.
    """

    def __init__(
        self,
        socket: str | PathLike[str] | int,
        *,
        event_idx: bool = True,
        indirect: bool = True,
        queue_size: int = 64,
        memory_mib: int = 16,
        regions: Sequence[tuple[int, int]] | None = None,
        features: int | None = None,
        protocol_features: int | None = None,
        need_reply: bool = False,
        kick_at_start: bool = True,
        events: bool = True,
        connect_timeout: float = 5.0,
        request_timeout: float = 1.0,
    ) -> None:
        self.driver = SoundDriver(
            socket,
            event_idx=event_idx,
            indirect=indirect,
            queue_size=queue_size,
            regions=[(0, memory_mib << 20)] if regions is None else list(regions),
            features=features,
            protocol_features=protocol_features,
            need_reply=need_reply,
            kick_at_start=kick_at_start,
            events=events,
            connect_timeout=connect_timeout,
            request_timeout=request_timeout,
        )
        self._events: list[GuestEvent] = []
        self._queues: dict[int, Queue] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(GuestError):
            self.close()

    # ------------------------------------------------------------ what the device has

    @property
    def features(self) -> int:
        """Feature bits agreed on."""
        return self.driver.features

    @cached_property
    def config(self) -> wire.Config:
        """The configuration space, read when connecting (5.14.4). `controls` is 0 without the feature CTLS."""
        raw = self.driver.config
        if not raw:
            raise GuestError("the device shows no configuration space: it does not offer the protocol feature CONFIG")
        return wire.Config.unpack(raw.ljust(wire.Config.SIZE, b"\0"))

    @cached_property
    def streams(self) -> tuple[StreamInfo, ...]:
        """The PCM streams; asked for once (5.14.6.6.2)."""
        return self._info(Request.PCM_INFO, self.config.streams, wire.PcmInfo, StreamInfo.decode)

    @cached_property
    def jacks(self) -> tuple[JackInfo, ...]:
        """The jacks; asked for once (5.14.6.4.1)."""
        return self._info(Request.JACK_INFO, self.config.jacks, wire.JackInfo, JackInfo.decode)

    @cached_property
    def chmaps(self) -> tuple[ChmapInfo, ...]:
        """The channel maps; asked for once (5.14.6.9.1)."""
        return self._info(Request.CHMAP_INFO, self.config.chmaps, wire.ChmapInfo, ChmapInfo.decode)

    def _info(self, request: Request, count: int, layout: type[_L], decode: Callable[[int, _L], _T]) -> tuple[_T, ...]:
        if not count:
            return ()
        size = layout.SIZE
        reply = self.request(wire.QueryInfo(request, 0, count, size).pack(), 4 + count * size)
        status = int.from_bytes(reply[:4], "little")
        if status != Status.OK:
            raise GuestError(f"the device refused {request.name}: {name_of(Status, status)}")
        if len(reply) != 4 + count * size:
            raise GuestError(f"{request.name} was answered with {len(reply)} bytes instead of {4 + count * size}")
        return tuple(decode(i, layout.unpack(reply, 4 + i * size)) for i in range(count))

    # ------------------------------------------------------------ requests

    def request(
        self, data: Buffer, reply_bytes: int = 4, *, pieces: Sequence[int] = (), indirect: bool = True
    ) -> bytes:
        """Send any control request; returns the bytes that the device says it wrote of the `reply_bytes` it had room for.

        `pieces`: sizes in bytes into which request and reply are cut, used over and over. Raises GuestError if there is no
        answer in time.
        """
        return self.driver.request(data, reply_bytes, pieces=list(pieces), indirect=indirect)[0]

    def _command(self, request: Request, stream: int) -> int:
        status = self.driver.request(wire.ItemHdr(request, stream).pack(), 4)[0]
        return _status(status)

    def set_params(
        self,
        stream: int,
        *,
        buffer_bytes: int,
        period_bytes: int,
        features: int = 0,
        channels: int = 2,
        format: str | int = "S16",
        rate: int = 48000,
    ) -> int:
        """SET_PARAMS; returns the status. `format` is a name, or any code; `rate` is in Hz, or any code below 256."""
        code = format if isinstance(format, int) else PcmFormat[format]
        request = wire.PcmSetParams(
            Request.PCM_SET_PARAMS, stream, buffer_bytes, period_bytes, features, channels, code, rate_code(rate)
        )
        return _status(self.driver.request(request.pack(), 4)[0])

    def prepare(self, stream: int) -> int:
        """PREPARE; returns the status."""
        return self._command(Request.PCM_PREPARE, stream)

    def start(self, stream: int) -> int:
        """START; returns the status."""
        return self._command(Request.PCM_START, stream)

    def stop(self, stream: int) -> int:
        """STOP; returns the status."""
        return self._command(Request.PCM_STOP, stream)

    def release(self, stream: int) -> int:
        """RELEASE; returns the status."""
        return self._command(Request.PCM_RELEASE, stream)

    # ------------------------------------------------------------ events, queues, memory

    @property
    def events(self) -> list[GuestEvent]:
        """Everything that the device has told on the event queue so far."""
        self._events += (GuestEvent.decode(*event) for event in self.driver.take_events())
        return list(self._events)

    def wait_event(self, name: str | None = None, *, timeout: float = 1.0, after: int = 0) -> GuestEvent:
        """Wait for an event (of this name), beginning with the `after`-th. Raises TimeoutError."""
        seen = after
        while True:
            for event in self.events[seen:]:
                seen += 1
                if name in (None, event.name):
                    return event
            if not self.driver.wait_event(timeout):
                raise TimeoutError(f"no event {name or ''} within {timeout} s")

    def queue(self, index: int) -> Queue:
        """A virtqueue (0 control, 1 event, 2 tx, 3 rx): to look at, or to misuse. ValueError if there is none."""
        if index not in self._queues:
            self._queues[index] = Queue(self.driver, index)
        return self._queues[index]

    def __repr__(self) -> str:
        return f"<VirtualGuest: features {self.features:#x}>"


def _status(reply: bytes) -> int:
    code = int.from_bytes(reply[:4], "little")
    return Status(code) if code in Status.__members__.values() else code
