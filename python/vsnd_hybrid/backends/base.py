"""What the device asks of an audio engine, and what an engine may tell the device.

A backend is a class registered under the entry point group ``vsnd_hybrid.backends``. The device makes one instance for
each set of options, and calls every method of it and of its streams on that instance's own control thread, one at a time:
they may block (`Backend.blocks`), but an answer later than 900 ms is IO_ERR for the guest. Audio does not pass through these methods: it
is pulled from, or pushed into, the `PcmPort` by the engine's own thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import ClassVar, Final, NamedTuple

from vsnd_hybrid._core import PcmPort


class Direction(Enum):
    """Which way a stream carries audio, from the guest's point of view."""

    OUTPUT = 0
    INPUT = 1


class BackendError(Exception):
    """An engine refused, or is not there. The message is one line: what was wrong, and what to do."""


class EngineUnavailable(BackendError):
    """The engine is not installed or not running: `auto` goes on to the next one."""


class PcmCapabilities(NamedTuple):
    """What an engine really takes, in one direction: the guest is offered nothing else.

    Formats are names of the specification (5.14.6.6.2.1) such as ``"S16"``; rates in Hz.
    """

    formats: frozenset[str]
    rates: frozenset[int]
    channels_min: int = 1
    channels_max: int = 2
    #: Somebody looks at the guest's messages without being told of them, so the guest need not (MSG_POLLING).
    polling: bool = True


class PcmParams(NamedTuple):
    """What the guest chose (SET_PARAMS, 5.14.6.6.3), and the wishes of the configuration."""

    direction: Direction
    format: str
    rate: int
    channels: int
    frame_bytes: int
    period_bytes: int
    buffer_bytes: int
    #: Positions as names of the specification (5.14.6.7.1): ``("FL", "FR")``.
    positions: tuple[str, ...] = ()
    #: The engine's device to use; empty for its default.
    target: str = ""
    #: How often the engine shall wake up (`backends.latency`); empty for the backend's own.
    latency: str = ""
    #: How the stream is called in the engine's user interfaces.
    name: str = "vsnd"
    #: Options of this stream from the configuration, beyond the backend's own.
    options: Mapping[str, str] = MappingProxyType({})

    @property
    def period_frames(self) -> int:
        return self.period_bytes // self.frame_bytes

    @property
    def buffer_frames(self) -> int:
        return self.buffer_bytes // self.frame_bytes


class EngineDevice(NamedTuple):
    """One endpoint of the engine."""

    id: str
    direction: Direction
    description: str = ""


class Needs(NamedTuple):
    """What a backend uses of the host: the sandbox leaves it that and nothing else (docs/security.md).

    The system's libraries and data below /usr, and whatever Python can import, need not be named. Paths that do not exist
    are left out.
    """

    #: Files that it reads, and directories with all that is below them.
    read: tuple[str, ...] = ()
    #: Files that it writes, and directories in which it makes, reads, writes and removes files.
    write: tuple[str, ...] = ()
    #: ``local-sockets`` (connects to Unix sockets), ``real-time`` (sets scheduling and limits), ``network`` (Internet
    #: sockets), ``devices`` (ioctl of device files), ``processes`` (starts programs), ``executable-memory`` (makes code).
    permits: frozenset[str] = frozenset(("local-sockets", "real-time"))
    #: Modules to import before the sandbox stands: they start programs or look around when they are imported.
    modules: tuple[str, ...] = ()

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.read + other.read,
            self.write + other.write,
            self.permits | other.permits,
            self.modules + other.modules,
        )


#: For a backend that does what its user tells it, such as starting any command: a sandbox that lets through nearly all.
EVERYTHING: Final = Needs(
    read=("/",),
    write=("/",),
    permits=frozenset(("local-sockets", "real-time", "network", "devices", "processes", "executable-memory")),
)


class EngineEvent(Enum):
    """What an engine tells of its own accord."""

    LOST = "lost"  # the engine went away; the stream goes on as paced silence
    RECOVERED = "recovered"
    DEVICE_ADDED = "device-added"
    DEVICE_REMOVED = "device-removed"
    FAILED = "failed"  # this stream is dead: detail says why


class EventSink(ABC):
    """Where an engine's stream posts what happens to it."""

    @abstractmethod
    def post(self, event: EngineEvent, detail: object = None) -> None:
        """Enqueue; any thread may call, also an engine's loop thread with its locks held."""


class EngineStream(ABC):
    """A stream of the engine, connected to one `PcmPort`. Made inactive by `Backend.open`."""

    #: Nobody moves audio through the port: at PREPARE the device calls `PcmStream.discard` in place of
    #: `PcmStream.accept`, so that every message is answered at once. Fixed once `Backend.open` returned.
    discards: bool = False

    @abstractmethod
    def start(self) -> None:
        """START: begin to move audio. Does not wait for the engine's first callback. It may come while a `drain` goes on,
        and ends it; its `done` may then be called late or never.
        """

    @abstractmethod
    def stop(self) -> None:
        """STOP: pause. What is queued in the port stays there."""

    def drain(self, done: Callable[[], None]) -> None:
        """STOP of playback: have what was handed over to the engine heard to its end, then call `done`, on any thread.

        Does not wait. Nothing more comes from the guest. `stop` follows when `done` was called, or when that took too
        long; `start` or `close` may come before. The default is for engines that hold nothing back.
        """
        done()

    @abstractmethod
    def close(self) -> None:
        """RELEASE or reset. When it returns no callback runs and none will."""


class Backend(ABC):
    """An audio engine. Keyword arguments of the constructor are the options of ``--backend NAME,key=value``.

    The constructor connects to the engine and raises `EngineUnavailable` if it is not there, `BackendError` if an
    option makes no sense. Options arrive as strings; an unknown one is reported by the registry.
    """

    #: The name for ``--backend``.
    name: ClassVar[str]
    #: Its methods, or its streams', may wait: for another process, a disk, a thread. False: each returns within microseconds. Then
    #: they are called on the device's own thread, which saves two changes of threads before a request is answered.
    blocks: ClassVar[bool] = True
    #: What it uses of the host. By default: audio servers by their sockets, real-time threads, and no files of its own.
    uses: ClassVar[Needs] = Needs()
    #: What a stream's configuration may say to it: of ``target`` and ``latency``, and keys of `PcmParams.options`. Anything else
    #: is refused before the daemon starts. None (the default): not declared, `open` refuses what it does not know.
    stream_options: ClassVar[frozenset[str] | None] = None

    @classmethod
    def needs(cls, options: Mapping[str, str]) -> Needs:
        """What an instance with these options uses of the host: `uses`, unless the options have a say in it.

        Asked before the instance is made, so the options may be wrong.
        """
        return cls.uses

    @classmethod
    def preload(cls) -> None:
        """Load what all processes of a host can share: libraries and modules. Many guests' daemons are forked behind it, so no
        thread, no connection and no file may be left open. What is missing is found by the constructor.
        """

    @abstractmethod
    def capabilities(self, direction: Direction) -> PcmCapabilities:
        """What the engine takes; asked once, when the daemon starts."""

    def devices(self) -> Sequence[EngineDevice]:
        """The engine's endpoints now."""
        return ()

    @abstractmethod
    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> EngineStream:
        """PREPARE: make an inactive stream. Raises `BackendError` if the engine refuses."""

    def close(self) -> None:
        """The daemon ends; every stream was closed before."""
