"""The native part of vsnd-hybrid: a vhost-user server, its virtqueues, and sound's data path.

No class here holds a Python object and no native thread ever enters the interpreter, so any of them may be
used from any thread. Calls that can block release the interpreter lock.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any, ClassVar, final

from typing_extensions import Buffer, disjoint_base

__version__: str

def build_info() -> dict[str, str]:
    """Version, profile ("release" or "debug") and the versions of the rust-vmm crates, for bug reports."""

# ---------------------------------------------------------------- vhost: a device server for any device

@disjoint_base
class Event:
    """Something that `Server.poll` tells. Match on the subclasses: `case Event.Kicked(queue):`."""

    @final
    class Connected(Event):
        """A front end connected, and has said its first message."""

        __match_args__: ClassVar[tuple[str, ...]] = ()
        def __new__(cls) -> Event.Connected: ...

    @final
    class Disconnected(Event):
        """It is gone. `reason` is one line for the log; empty if it closed the connection in an orderly way."""

        __match_args__: ClassVar[tuple[str, ...]] = ("reason",)
        def __new__(cls, reason: str) -> Event.Disconnected: ...
        @property
        def reason(self) -> str: ...

    @final
    class Features(Event):
        """The driver's features (SET_FEATURES)."""

        __match_args__: ClassVar[tuple[str, ...]] = ("features",)
        def __new__(cls, features: int) -> Event.Features: ...
        @property
        def features(self) -> int: ...

    @final
    class Started(Event):
        """A ring started. `fresh`: SET_VRING_BASE said 0, so this is a new driver's ring."""

        __match_args__: ClassVar[tuple[str, ...]] = ("queue", "base", "fresh")
        def __new__(cls, queue: int, base: int, fresh: bool) -> Event.Started: ...
        @property
        def queue(self) -> int: ...
        @property
        def base(self) -> int: ...
        @property
        def fresh(self) -> bool: ...

    @final
    class Stopping(Event):
        """A ring stops: nothing more is popped. Chains of it that Python holds should be completed now."""

        __match_args__: ClassVar[tuple[str, ...]] = ("queue",)
        def __new__(cls, queue: int) -> Event.Stopping: ...
        @property
        def queue(self) -> int: ...

    @final
    class Stopped(Event):
        """A ring has stopped; `forced` chains were given back unanswered because nobody completed them in a second."""

        __match_args__: ClassVar[tuple[str, ...]] = ("queue", "forced")
        def __new__(cls, queue: int, forced: int) -> Event.Stopped: ...
        @property
        def queue(self) -> int: ...
        @property
        def forced(self) -> int: ...

    @final
    class StateWanted(Event):
        """Every ring is stopped, and the front end saves the device: give its state to `Server.answer_state`, soon."""

        __match_args__: ClassVar[tuple[str, ...]] = ()
        def __new__(cls) -> Event.StateWanted: ...

    @final
    class StateGiven(Event):
        """No ring runs yet, and this is the state to go on from: call `Server.answer_state`, with None to refuse, soon."""

        __match_args__: ClassVar[tuple[str, ...]] = ("state",)
        def __new__(cls, state: bytes) -> Event.StateGiven: ...
        @property
        def state(self) -> bytes: ...

    @final
    class Kicked(Event):
        """Chains may be waiting: call `Virtqueue.pop` until it returns None. Many kicks may be told as one."""

        __match_args__: ClassVar[tuple[str, ...]] = ("queue",)
        def __new__(cls, queue: int) -> Event.Kicked: ...
        @property
        def queue(self) -> int: ...

    @final
    class ConfigWritten(Event):
        """The driver wrote into the configuration space (which is not changed by it)."""

        __match_args__: ClassVar[tuple[str, ...]] = ("offset", "data")
        def __new__(cls, offset: int, data: bytes) -> Event.ConfigWritten: ...
        @property
        def offset(self) -> int: ...
        @property
        def data(self) -> bytes: ...

    @final
    class Reset(Event):
        """RESET_DEVICE: every ring is stopped, the device starts from its initial state."""

        __match_args__: ClassVar[tuple[str, ...]] = ()
        def __new__(cls) -> Event.Reset: ...

    @final
    class Xrun(Event):
        """An under- or overrun of the stream with this id. Many may be told as one."""

        __match_args__: ClassVar[tuple[str, ...]] = ("stream",)
        def __new__(cls, stream: int) -> Event.Xrun: ...
        @property
        def stream(self) -> int: ...

    @final
    class Fault(Event):
        """A ring is broken by what its driver wrote (`queue` >= 0), or something inside failed (-1)."""

        __match_args__: ClassVar[tuple[str, ...]] = ("queue", "reason")
        def __new__(cls, queue: int, reason: str) -> Event.Fault: ...
        @property
        def queue(self) -> int: ...
        @property
        def reason(self) -> str: ...

@final
class Server:
    """Serves one vhost-user device to one front end after the other.

    Parameters
    ----------
    queues
        Number of virtqueues.
    config
        The device's configuration space; reads beyond it give zeros.
    features
        Device feature bits to offer besides VERSION_1, INDIRECT_DESC, EVENT_IDX and the protocol bit.
    device_owned
        Queues whose buffers wait for the device to use them (an event queue): the only kick that is told is the first one
        after a `pop` that found nothing.
    router
        Sound's data path. Its queues are served natively and never tell `Event.Kicked`.

    Raises
    ------
    ValueError
        No queues, or more than 256; a router whose queues are not there.
    """

    def __new__(
        cls,
        *,
        queues: int,
        config: Buffer | None = None,
        features: int = 0,
        device_owned: Sequence[int] = ...,
        router: PcmRouter | None = None,
    ) -> Server: ...
    def listen(self, socket: str | PathLike[str] | int | Listener, *, mode: int = 0o600) -> None:
        """Serve from now on, in a thread of its own; returns when the socket accepts connections.

        A path is bound (a stale socket file is replaced, a living server's is not) and removed by `close`.
        A descriptor is taken over (it is duplicated): a listening one is accepted from for ever, a connected one is
        served until it closes. A `Listener` is as a path that was bound before.

        Raises OSError: EADDRINUSE if a living server has the path; ENOTSOCK if the descriptor is no socket.
        """

    def fileno(self) -> int:
        """Readable while `poll` has something."""

    def poll(self, max_events: int = 64) -> list[Event]:
        """What has happened, oldest first. Never blocks."""

    @property
    def pending(self) -> int:
        """Events that wait for `poll`, besides kicks and xruns."""

    def queue(self, index: int) -> Virtqueue:
        """A queue; the same one for the life of the server. IndexError if there is none."""

    def set_config(self, config: Buffer) -> None:
        """Replace the configuration space."""

    @property
    def keeps_state(self) -> bool:
        """Whether `keep_state` has a place."""

    def keep_state(self, state: Buffer) -> bool:
        """Keep the device's state where a later process finds it if this one dies (`Event.StateGiven`).

        False if the front end offers no such place (INFLIGHT_SHMFD), or it is longer than 32 KiB.
        """

    def answer_state(self, state: Buffer | None) -> None:
        """Answer `Event.StateWanted` with the state, or `Event.StateGiven` with anything; None refuses."""

    @property
    def memory(self) -> GuestMemory:
        """The memory of the guest now connected (no regions if there is none)."""

    @property
    def connected(self) -> bool: ...
    @property
    def serving(self) -> bool:
        """False once `close` was called or the only connection of a connected descriptor ended."""

    @property
    def stats(self) -> dict[str, int]:
        """connections, connected (0 or 1), events_pending, memory_updates, messages."""

    def close(self) -> None:
        """Drop the connection, stop listening, remove the socket file, join every thread. Idempotent."""

@final
class Virtqueue:
    """One split virtqueue of a `Server`; usable while its ring runs."""

    @property
    def index(self) -> int: ...
    @property
    def size(self) -> int:
        """Entries; 0 before the front end said."""

    @property
    def running(self) -> bool: ...
    def pop(self) -> DescriptorChain | None:
        """The next available chain; None if there is none, or the ring does not run or is broken."""

    def notify(self) -> bool:
        """Interrupt the driver about chains completed with `notify=False`, if it wants that. True if it was."""

    def suppress_kicks(self, on: bool) -> None:
        """Ask the driver (not) to kick; off again, look at the queue once, for kicks that were not sent."""

    @property
    def stats(self) -> dict[str, int]:
        """popped, completed, signals, kicks, forced, in_flight since the server was made."""

@final
class DescriptorChain:
    """A popped chain: first what the device may read, then what it may write. Complete it exactly once.

    One that is dropped without is given back with length 0.
    """

    @property
    def queue(self) -> int: ...
    @property
    def head(self) -> int: ...
    @property
    def readable(self) -> int:
        """Bytes the device may read."""

    @property
    def writable(self) -> int:
        """Bytes the device may write."""

    @property
    def malformed(self) -> bool:
        """Looped, cut short, or a writable descriptor before a readable one."""

    @property
    def stale(self) -> bool:
        """Its ring was stopped since: nothing can be read, written or completed."""

    def read(self, n: int = ..., offset: int = 0) -> bytes:
        """A copy of up to `n` readable bytes from `offset` on (-1: all, at most 1 MiB).

        Raises BufferError if the driver gave an address outside of its memory.
        """

    def write(self, data: Buffer, offset: int = 0) -> int:
        """Write to the writable part; returns the bytes for which there was room (0 if stale)."""

    def segments(self) -> list[GuestBuffer]:
        """The pieces as buffers, without a copy: readable ones read-only, then the writable ones."""

    def complete(self, written: int, *, notify: bool = True) -> bool:
        """Give the chain back with `written` bytes. False if stale; RuntimeError if it was completed before."""

@final
class GuestMemory:
    """The memory that the front end shares. Addresses are guest-physical."""

    @property
    def regions(self) -> list[tuple[int, int]]:
        """(address, size) of each region, ascending."""

    @property
    def generation(self) -> int:
        """Grows with every change of the memory map."""

    def read(self, addr: int, n: int) -> bytes:
        """A copy. BufferError if any of it is outside of the guest's memory."""

    def view(self, addr: int, n: int) -> GuestBuffer:
        """A read-only window of one region. BufferError if it does not lie in one."""

@final
class GuestBuffer:
    """A window into guest memory (buffer protocol); keeps the memory mapped. The guest may change it meanwhile."""

    @property
    def addr(self) -> int: ...
    @property
    def writable(self) -> bool: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

# ---------------------------------------------------------------- pcm: sound's data path

@final
class PcmRouter:
    """Hands the messages of the I/O queues to streams by their id. Give it to one `Server`.

    Parameters: the streams (ids unique, < 256), and which queues of the server carry control, playback and capture.
    """

    def __new__(
        cls, streams: Sequence[PcmStream], *, control: int = 0, playback: int = 2, capture: int = 3
    ) -> PcmRouter: ...

@final
class PcmStream:
    """The device's side of a PCM stream: a FIFO of guest buffers (not copies).

    It begins as `reject` and not running, and goes back to that when a new driver takes over.
    """

    def __new__(cls, stream_id: int, capture: bool) -> PcmStream: ...
    @property
    def stream_id(self) -> int: ...
    @property
    def capture(self) -> bool: ...
    def configure(
        self,
        *,
        buffer_bytes: int,
        period_bytes: int,
        frame_bytes: int,
        rate: int,
        silence: int = 0,
        polling: bool = False,
    ) -> None:
        """What SET_PARAMS said. ValueError unless 0 < frame <= period <= buffer and rate > 0."""

    def accept(self) -> None:
        """Queue messages from now on (PREPARE)."""

    def reject(self) -> None:
        """Answer messages with IO_ERR at once from now on."""

    def discard(self) -> None:
        """Answer messages with OK at once from now on: no engine, as fast as the guest can."""

    def start(self) -> None:
        """Let the port consume (START). While it pulls the guest is asked not to kick."""

    def stop(self) -> None:
        """Consume nothing more (STOP); what is queued stays."""

    def watch(self) -> None:
        """See that the guest keeps its pace until `stop`, once START was answered.

        If no engine takes a turn (a transfer, of however much) or is in `PcmPort.wait` for nearly as long as Linux would
        put up with (100 ms, or 1.1 guest buffers), the clock stands in: playback passes unheard, capture is silence, and
        both count as xruns. The engine's next turn ends that; never do both move audio. What is played before its first turn is kept
        for it instead (`ahead_bytes`): for a second, after which that is dropped, too.
        """

    def stand_in(self) -> None:
        """The engine is known to be gone: the clock stands in for it at once, until the next turn that one takes."""

    def flush(self, *, ok: bool = True) -> int:
        """Look at the ring, then give every queued message back (RELEASE): with OK, or IO_ERR. Returns their number.

        What was recorded so far is delivered short.
        """

    def port(self) -> PcmPort:
        """The engine's side."""

    @property
    def ahead_bytes(self) -> int:
        """What was read out of the guest and completed for an engine that came late, or whose turns are larger than the guest's
        buffer bears, and is not taken by that yet. It may take it after `stop`, too; `configure`, `discard`ing and a new driver drop it. For capture: what the
        engine gave and the guest has not got yet.
        """

    @property
    def kept(self) -> tuple[list[int], int]:
        """What was not consumed when the ring stopped: the heads of the messages, and the bytes of the first that were.

        Set in another process, before the ring starts, it is gone on with.
        """

    @kept.setter
    def kept(self, kept: tuple[Sequence[int], int]) -> None: ...
    @property
    def read_ahead(self) -> bytes:
        """The `ahead_bytes` themselves; they change no more while the ring is stopped.

        Set in another process, after `configure` and `start`, they are moved before anything else. ValueError unless they are
        whole frames, 8 MiB at most.
        """

    @read_ahead.setter
    def read_ahead(self, data: bytes) -> None: ...
    @property
    def running(self) -> bool: ...
    @property
    def stats(self) -> dict[str, int]:
        """bytes moved, messages completed, xruns, missing_bytes, turns that engines took, stalls (of engines), stood_in_bytes (moved in
        the place of an engine that stood still; missing_bytes has them too), busy (callbacks that found a lock taken),
        queued_bytes, ahead_bytes, latency_bytes (as last told to the guest)."""

@final
class PcmPort:
    """The engine's side of a PCM stream, from a Python thread or (see `native`) a C callback.

    All sizes are bytes of whole frames in the guest's format, interleaved. Playback: `read`/`readinto`; what is missing is
    not filled in. Capture: `write`. Nothing moves unless the stream runs.
    """

    @property
    def stream_id(self) -> int: ...
    @property
    def capture(self) -> bool: ...
    @property
    def running(self) -> bool: ...
    @property
    def frame_bytes(self) -> int: ...
    @property
    def rate(self) -> int: ...
    @property
    def period_bytes(self) -> int: ...
    @property
    def silence(self) -> int:
        """The byte that is silence (0x80 for U8)."""

    def read(self, n: int, *, delay_bytes: int = 0) -> bytes:
        """Up to `n` bytes from the guest. `delay_bytes`: what the engine plays before them. Shorter: an underrun."""

    def readinto(self, buffer: Buffer, *, delay_bytes: int = 0) -> int:
        """As `read`, into a writable buffer; returns the bytes."""

    def write(self, data: Buffer, *, delay_bytes: int = 0) -> int:
        """Hand recorded bytes to the guest; returns how many found room. `delay_bytes`: how old the last one is.

        What does not fit is lost: an overrun.
        """

    def wait(self, timeout: float | None = None) -> bool:
        """Block until something can be read or written. False at the time limit or when the stream stops running
        (and all that was read ahead was taken).

        A thread that waits costs nothing; the guest kicks for it.
        """

    @property
    def queued_bytes(self) -> int:
        """What could be read (what was read ahead included) or written now, as far as the ring was looked at."""

    @property
    def stats(self) -> dict[str, int]:
        """See `PcmStream.stats`."""

    @property
    def native(self) -> NativePort:
        """For an engine that calls C."""

@final
class NativePort:
    """`long transfer(void *context, void *data, unsigned long bytes, unsigned long delay_bytes)`, safe on a real-time thread.

    Playback fills `data` (the rest with silence), capture takes it; returns the bytes that were the guest's. Both addresses stay
    valid until `close`; one that is never closed is leaked rather than left dangling.
    """

    @property
    def transfer(self) -> int: ...
    @property
    def context(self) -> int: ...
    def close(self) -> None:
        """Only after the engine promised not to call again."""

@final
class ClockPort:
    """A port paced by the clock, for engines that have none: one native thread serves all of them, without drift.

    Playback: with `tap`, what was consumed (silence where the guest gave nothing) can be read with `take`, to be written to a
    file; without, it is dropped. Capture: silence, or what was `feed`-ed.

    Parameters
    ----------
    port
        The stream's port; its stream must be configured.
    tap
        Keep what is played for `take`, or record what is fed.
    """

    def __new__(cls, port: PcmPort, *, tap: bool = False) -> ClockPort: ...
    def start(self) -> None:
        """Begin to move a period each period."""

    def stop(self) -> None:
        """Pause; the clock begins anew at the next start."""

    def take(self, timeout: float | None = None) -> bytes | None:
        """Playback: what was consumed since. Blocks up to `timeout`; b"" then; None once closed and empty."""

    def feed(self, data: Buffer, timeout: float | None = None) -> int:
        """Capture: queue what is recorded next (at most about two seconds); returns the bytes taken."""

    @property
    def stats(self) -> dict[str, int]:
        """ticks, bytes, late (wake-ups more than a period late), dropped_bytes (a tap nobody emptied)."""

    def close(self) -> None:
        """Returns when the clock's thread touches the port no more. Idempotent."""

@final
class EagerPort:
    """A port that moves as fast as the guest can, on a native thread of its own: what is played is copied out and dropped,
    what is recorded is silence. For measurements. The stream's port must be configured.
    """

    def __new__(cls, port: PcmPort) -> EagerPort: ...
    def start(self) -> None:
        """Begin to move. OSError if there can be no thread."""

    def stop(self) -> None:
        """Pause; when it returns the thread is gone. Idempotent."""

# ---------------------------------------------------------------- engine: what audio servers call back

@final
class PipeWirePort:
    """PipeWire's process callback for one `pw_stream`. Functions of libpipewire come as addresses.

    `process` and `userdata` go into a `pw_stream_events` of their own listener; `close` after `pw_stream_destroy` returned.
    """

    def __new__(cls, port: PcmPort, *, dequeue: int, queue: int, get_time: int) -> PipeWirePort: ...
    @property
    def process(self) -> int: ...
    @property
    def userdata(self) -> int: ...
    def set_stream(self, address: int) -> None:
        """Bind the `pw_stream`, or (0) unbind it."""

    @property
    def stats(self) -> dict[str, int]:
        """calls, delay_frames (the engine's latency at the last callback), quantum_frames (largest transfer)."""

    def close(self) -> None: ...

# ---------------------------------------------------------------- sandbox: walls around the process

@final
class Listener:
    """A Unix socket that is bound and on which front ends wait: give it to `Server.listen`, which takes it over.

    Who may connect is settled before anyone can: the owner until `mode` and `group` (a number) are set.

    Raises OSError: EADDRINUSE if a living server has the path.
    """

    def __new__(cls, path: str | PathLike[str], *, mode: int = 0o600, group: int | None = None) -> Listener: ...
    def fileno(self) -> int:
        """The socket's descriptor. ValueError once a server has it, or it was closed."""

    def close(self) -> None:
        """Stop listening and remove the socket file, if it is still ours. Nothing happens once a server has it."""

def no_new_privileges() -> None:
    """PR_SET_NO_NEW_PRIVS, for the calling thread and those it makes."""

def end_with_parent(parent: int) -> None:
    """Get SIGTERM when the parent process, `parent`, ends. OSError if it has ended."""

def name_process(name: str) -> None:
    """How lists of processes show this one; 15 bytes are kept."""

def limit_resources(*, open_files: int) -> None:
    """No core dumps, and at most so many descriptors. Limits are only lowered."""

def become_user(uid: int, gid: int) -> None:
    """Be this user for good, on every thread: without supplementary groups and capabilities. OSError; not for root."""

def permit_priority(most: int) -> None:
    """Raise the limit of real-time priorities (RLIMIT_RTPRIO), also for the user that the process becomes. OSError."""

def set_audio_priority(priority: int) -> None:
    """SCHED_FIFO with this priority (1 to 99) for the threads that move audio: the clock's, which is started here and stays, and
    the I/O worker of each device that is made from now on. OSError where it is not permitted: they run as others do then."""

def lock_memory() -> None:
    """Keep in memory what is mapped now, once it was used; what is mapped later, as a guest's memory, is not. OSError."""

def restrict_files(
    permits: Sequence[str],
    *,
    read: Sequence[str | PathLike[str]],
    write: Sequence[str | PathLike[str]],
    sockets: Sequence[str | PathLike[str]],
    required: bool,
) -> int:
    """Reach these files and directories and no others, for ever (Landlock): the calling thread and those it makes.

    Returns the version of Landlock's interface, 0 if the kernel has none. OSError if it is `required` and the kernel does
    not guard every access to files; ValueError if a permit (`backends.base.Needs`) is unknown. `sockets`: directories in which
    sockets are made and removed.
    """

def restrict_calls(permits: Sequence[str]) -> None:
    """Make no system calls but those that the daemon and the `permits` need, for ever, on every thread (seccomp).

    Needs `no_new_privileges` before. ValueError if a permit is unknown; OSError if the kernel refuses.
    """

# ---------------------------------------------------------------- guest: the other side

class GuestError(Exception):
    """The device refused, did not answer, or is gone. One line says which."""

def numbered_frames(first: int, frames: int, frame_bytes: int) -> bytes:
    """`frames` frames of `frame_bytes` that count from `first`, little-endian."""

@final
class SoundDriver:
    """A vhost-user front end with memory, queues and a virtio-snd driver; `vsnd_hybrid.guest` makes it pleasant.

    Numbers are codes of the specification. Features and so on are explained at `VirtualGuest`. Calls that wait for the
    device release the interpreter lock; those that fail raise GuestError.
    """

    def __new__(
        cls,
        socket: str | PathLike[str] | int,
        *,
        queue_size: int = 64,
        regions: Sequence[tuple[int, int]] | None = None,
        event_idx: bool = True,
        indirect: bool = True,
        features: int | None = None,
        protocol_features: int | None = None,
        need_reply: bool = False,
        kick_at_start: bool = True,
        events: bool = True,
        handshake: bool = True,
        rings_in: int | None = None,
        buffers_in: int | None = None,
        connect_timeout: float = 5.0,
        request_timeout: float = 1.0,
    ) -> SoundDriver:
        """Without `handshake` nothing is sent of its own accord: the caller is the front end (`slots`, `DriverQueue.user_parts`,
        `kick_fd`, `call_fd` tell what it needs) and gives the `features` that it agreed on. `rings_in`, `buffers_in`:
        regions to allocate from.
        """

    @property
    def offered(self) -> int:
        """Feature bits that the device offered."""

    @property
    def features(self) -> int:
        """Feature bits agreed on."""

    @property
    def protocol_features(self) -> int:
        """Protocol features agreed on."""

    @property
    def config(self) -> bytes:
        """The configuration space as read at the start; empty without the protocol feature CONFIG."""

    def queue(self, index: int) -> DriverQueue:
        """ValueError if there is none."""

    def request(
        self, data: Buffer, reply_bytes: int, *, pieces: Sequence[int] = ..., indirect: bool = True
    ) -> tuple[bytes, int, int]:
        """A control request: the bytes written, the used length, nanoseconds from the offer to the completion."""

    def start_stream(
        self,
        stream: int,
        capture: bool,
        data: Buffer,
        total_bytes: int,
        *,
        buffer_bytes: int,
        period_bytes: int,
        features: int,
        channels: int,
        format: int,
        rate: int,
        message_bytes: int | None = None,
        pieces: Sequence[int] = ...,
        indirect: bool = True,
        starve: tuple[int, float] | None = None,
        stall: float = 5.0,
    ) -> PcmRun:
        """SET_PARAMS, PREPARE, the first messages, START. `starve`: after so many bytes, for so many seconds."""

    def flood(
        self,
        stream: int,
        messages: int,
        *,
        buffer_bytes: int,
        period_bytes: int,
        features: int,
        channels: int,
        format: int,
        rate: int,
        depth: int = 32,
        batch: int = 16,
        message_bytes: int | None = None,
        capture: bool = False,
        indirect: bool = True,
        limit: float | None = None,
        stall: float = 5.0,
    ) -> dict[str, int]:
        """Messages as fast as they come back, `depth` in flight, woken for `batch` of them; after `limit` seconds no more
        are offered: messages, elapsed_ns, kicks, signals, failed."""

    def take_events(self) -> list[tuple[int, int, int]]:
        """Code, data and time (CLOCK_MONOTONIC ns) of the events since the last call."""

    def wait_event(self, timeout: float) -> bool:
        """Wait until there is an event to take."""

    @property
    def regions(self) -> list[tuple[int, int]]:
        """(address, size) of each memory region, ascending."""

    @property
    def slots(self) -> list[tuple[int, int, int, int]]:
        """(address, size, address in this process, memfd) of each memory region, ascending. The memfd stays ours."""

    def place_buffers(self, region: int | None = None) -> None:
        """Allocate buffers from this region from now on; None: the highest place."""

    def alloc(self, n: int, align: int = 16) -> int:
        """Take memory for a buffer; returns its guest-physical address."""

    def free(self, addr: int, n: int) -> None: ...
    def read(self, addr: int, n: int) -> bytes: ...
    def write(self, addr: int, data: Buffer) -> None: ...
    def stop_rings(self) -> list[int]: ...
    def start_rings(self, bases: Sequence[int]) -> None: ...
    def stop_ring(self, index: int) -> int: ...
    def start_ring(self, index: int, base: int) -> None: ...
    def enable(self, index: int, on: bool) -> None: ...
    def hold(self, on: bool) -> None:
        """Keep running streams from taking and offering anything, or let them go on."""

    def reset(self, style: str = "qemu") -> None:
        """ValueError unless qemu, crosvm, libkrun or reset-device."""

    def reboot(self, *, zero: bool = True) -> None:
        """The guest's part of a reset: streams cut off, new rings; with `zero` in empty memory. The device is not told."""

    def remap(self) -> None: ...
    def add_region(self, region: int) -> None:
        """ADD_MEM_REG of a region that was removed."""

    def remove_region(self, region: int) -> None:
        """REM_MEM_REG."""

    def replace_kick(self, index: int) -> None: ...
    def replace_call(self, index: int) -> None: ...
    def message(
        self, code: int, body: Buffer, *, flags: int = 0, fds: Sequence[int] = ..., reply: bool = False
    ) -> bytes:
        """Any vhost-user message; with `reply`, the body of the answer."""

    def send_bytes(self, data: Buffer) -> None:
        """Bytes that need not be a message."""

    def wait_closed(self, timeout: float = 1.0) -> bool:
        """Wait until the device closed the connection."""

    def kill(self) -> None: ...
    def close(self) -> None: ...

@final
class DriverQueue:
    """The driver's side of one split virtqueue, as primitives. Addresses are guest-physical."""

    @property
    def index(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def free(self) -> int:
        """Descriptors that are free."""

    @property
    def avail_index(self) -> int: ...
    @property
    def used_index(self) -> int: ...
    @property
    def reaped_index(self) -> int:
        """The used index up to which completions were taken."""

    @property
    def avail_event(self) -> int:
        """The available index at which the device wants a kick (EVENT_IDX)."""

    @property
    def kicks_off(self) -> bool:
        """The device asks for no kicks by the used ring's flags."""

    @property
    def kicks(self) -> int: ...
    @property
    def signals(self) -> int:
        """Interrupts received, as far as somebody waited for them."""

    @property
    def parts(self) -> tuple[int, int, int]:
        """Addresses of descriptor table, available ring and used ring."""

    @property
    def user_parts(self) -> tuple[int, int, int]:
        """The same as addresses in this process, for SET_VRING_ADDR."""

    @property
    def kick_fd(self) -> int:
        """The eventfd; it stays ours."""

    @property
    def call_fd(self) -> int:
        """The eventfd; it stays ours."""

    def new_kick(self) -> None:
        """Use a new kick eventfd; the device must be told."""

    def new_call(self) -> None:
        """Use a new call eventfd; the device must be told."""

    def push(self, pieces: Sequence[tuple[int, int, bool]], *, indirect: bool = True) -> int:
        """A chain of (address, length, writable); returns its head. Not published."""

    def push_raw(self, raw: Sequence[tuple[int, int, int, int]]) -> int:
        """Descriptors (address, length, flags, next) as they are; `next` is a position in the list. Not published."""

    def write_descriptor(self, index: int, raw: tuple[int, int, int, int]) -> None: ...
    def write_table(self, addr: int, raw: Sequence[tuple[int, int, int, int]]) -> None: ...
    def offer(self, head: int) -> None:
        """Put any head into the available ring. Not published."""

    def set_avail_index(self, index: int) -> None:
        """Publish any available index; pushing goes on from there."""

    def publish(self, kick: bool | None = None) -> bool:
        """Show the device what was pushed; None: kick if it wants it. True if it was kicked."""

    def kick(self) -> None: ...
    def reap(self) -> list[tuple[int, int, bool]]:
        """(head, length, whether the device had it) of what came back since."""

    def wait(self, n: int = 1, timeout: float = 1.0) -> bool:
        """Wait until `n` completions are there to reap."""

@final
class PcmRun:
    """A stream that plays or records in the background. Stop it; dropped, it is left running with nothing to play."""

    @property
    def progress(self) -> tuple[int, int]:
        """Messages that came back, and bytes offered or recorded."""

    def wait_done(self, timeout: float | None = None) -> bool: ...
    def wait_messages(self, n: int, timeout: float | None = None) -> bool: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def starve(self, on: bool) -> None: ...
    def stop(self, *, release: bool = True) -> dict[str, Any]:
        """STOP, and RELEASE; the report. Again: the same report."""
