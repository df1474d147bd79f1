"""`VirtualGuest`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from os import PathLike
from typing import Any, Self, TypeVar

from typing_extensions import Buffer

from vsnd_hybrid import wire
from vsnd_hybrid._core import GuestError, SoundDriver
from vsnd_hybrid.guest.infos import ChmapInfo, GuestEvent, JackInfo, StreamInfo, name_of
from vsnd_hybrid.guest.monitor import Monitor
from vsnd_hybrid.guest.queue import Queue
from vsnd_hybrid.guest.reports import Message, Playback, Recording, StreamReport
from vsnd_hybrid.guest.run import StreamRun
from vsnd_hybrid.guest.samples import as_bytes, frame_bytes, numbered
from vsnd_hybrid.wire import PcmFeature, PcmFormat, Request, Status

_T = TypeVar("_T")
_L = TypeVar("_L", bound=wire.Layout)
_R = TypeVar("_R", bound=StreamReport)
_ENDLESS = 1 << 62


class VirtualGuest(Monitor):
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
        """SET_PARAMS; returns the status. `format` is a name, or any code; `rate` is in Hz, or any code below 64."""
        code = format if isinstance(format, int) else PcmFormat[format]
        rate_code = wire.RATE_CODES.get(rate, rate)
        request = wire.PcmSetParams(
            Request.PCM_SET_PARAMS, stream, buffer_bytes, period_bytes, features, channels, code, rate_code
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

    # ------------------------------------------------------------ sound

    def play(self, data: Buffer, **options: Any) -> Playback:
        """Play to the end and release the stream. Parameters: see `start_play`."""
        return _finish(self.start_play(data, **options))

    def record(self, seconds: float | None = None, **options: Any) -> Recording:
        """Record `seconds`, or `frames=`, and release the stream. Parameters: see `start_record`."""
        return _finish(self.start_record(seconds, **options))

    def start_play(
        self,
        data: Buffer,
        *,
        format: str | None = None,
        channels: int | None = None,
        stream: int | None = None,
        total_frames: int | None = None,
        **options: Any,
    ) -> StreamRun[Playback]:
        """Begin to play, as an application over Linux's virtio_snd: the buffer is filled, then the stream starts.

        Parameters
        ----------
        data
            Bytes (S16 stereo unless said otherwise), or an array of mono samples or of the shape (frames, channels), whose
            type tells the format; floating point is converted where FLOAT is not offered.
        rate
            Frames a second; 48000.
        format, channels
            Names of the specification such as ``"S16"``.
        period_frames, periods
            Frames of a period (480), periods of the buffer (4).
        stream
            The stream's id; the first output.
        total_frames
            Frames to play: `data` is played over and over.
        message_bytes
            Bytes of a message; a period.
        pieces, indirect
            Sizes in bytes into which messages are cut, used over and over; whether chains are indirect.
        polling
            MSG_POLLING, never to kick; if it is offered, as Linux does.
        xruns
            EVT_XRUNS; if it is offered.
        starve
            `(frames, seconds)`: after so many frames nothing is offered for so long.
        stall
            Seconds without a message coming back after which waiting gives up; 5.

        Raises
        ------
        GuestError
            The device refuses, or does not answer.
        """
        info = self._pick(stream, capture=False)
        raw, format, channels = as_bytes(data, format, channels, info.formats if info else ())
        size = frame_bytes(format, channels)
        total = len(raw) if total_frames is None else total_frames * size
        return self._start(info, stream, raw, total, Playback, format=format, channels=channels, **options)

    def start_record(
        self, seconds: float | None = None, *, frames: int | None = None, stream: int | None = None, **options: Any
    ) -> StreamRun[Recording]:
        """Begin to record `seconds`, or `frames`, or until it is stopped. Other parameters: see `start_play`."""
        info = self._pick(stream, capture=True)
        format, channels = options.pop("format", "S16"), options.pop("channels", 2)
        if frames is None:
            frames = _ENDLESS // 64 if seconds is None else round(seconds * options.get("rate", 48000))
        total = frames * frame_bytes(format, channels)
        return self._start(info, stream, b"", total, Recording, format=format, channels=channels, **options)

    @contextmanager
    def playing(self, **options: Any) -> Iterator[StreamRun[Playback]]:
        """Play without end inside the block, numbered frames. Parameters: see `start_play`.

        At the end the stream is stopped and released; nothing is said if the device is gone by then.
        """
        options.setdefault("total_frames", _ENDLESS // 64)
        size = frame_bytes(options.get("format", "S16"), options.get("channels", 2))
        run = self.start_play(numbered(48000, size), **options)
        try:
            yield run
        finally:
            with suppress(GuestError):
                run.stop()

    def _pick(self, stream: int | None, *, capture: bool) -> StreamInfo | None:
        """The stream that is meant; None if the device does not have it, and shall say so itself."""
        for info in self.streams:
            if info.id == stream or (stream is None and info.capture == capture):
                return info
        if stream is None:
            raise GuestError(f"the device has no {'input' if capture else 'output'} stream")
        return None

    def _start(
        self,
        info: StreamInfo | None,
        stream: int | None,
        data: bytes,
        total_bytes: int,
        kind: type[_R],
        *,
        format: str,
        channels: int,
        rate: int = 48000,
        period_frames: int = 480,
        periods: int = 4,
        message_bytes: int | None = None,
        pieces: Sequence[int] = (),
        indirect: bool = True,
        polling: bool | None = None,
        xruns: bool | None = None,
        starve: tuple[int, float] | None = None,
        stall: float = 5.0,
    ) -> StreamRun[_R]:
        features = 0
        for feature, wanted in (PcmFeature.MSG_POLLING, polling), (PcmFeature.EVT_XRUNS, xruns):
            if wanted or (wanted is None and info is not None and feature.name in info.features):
                features |= 1 << feature
        size = frame_bytes(format, channels)
        about = {
            "stream": info.id if info else stream,
            "format": format,
            "channels": channels,
            "rate": rate,
            "period_bytes": period_frames * size,
            "buffer_bytes": period_frames * size * periods,
        }
        run = self.driver.start_stream(
            about["stream"],
            kind is Recording,
            data,
            total_bytes,
            buffer_bytes=about["buffer_bytes"],
            period_bytes=about["period_bytes"],
            features=features,
            channels=channels,
            format=PcmFormat[format],
            rate=wire.RATE_CODES.get(rate, rate),
            message_bytes=message_bytes,
            pieces=list(pieces),
            indirect=indirect,
            starve=starve and (starve[0] * size, starve[1]),
            stall=stall,
        )
        return StreamRun(run, partial(_report, kind, about, total_bytes))

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


def _finish(run: StreamRun[_R]) -> _R:
    try:
        return run.wait()
    except BaseException:
        # Also after Ctrl-C the stream should not go on; what went wrong first is what matters.
        with suppress(GuestError):
            run.stop()
        raise


def _report(kind: type[_R], about: dict[str, Any], total_bytes: int, raw: dict[str, Any]) -> _R:
    recorded: bytes = raw.pop("recorded")
    raw.pop("bytes")
    raw["messages"] = tuple(Message(*row) for row in raw["messages"])
    if kind is Recording:
        about = about | {"data": recorded[:total_bytes], "tail": recorded[total_bytes:]}
    return kind(**about, **raw)
