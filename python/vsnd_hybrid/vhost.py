"""Write a vhost-user device of any kind in Python.

Derive from `Device`, say what it offers, take chains in `chain`, and call `serve`::

    class Rng(Device):
        device_id = 4

        def chain(self, queue, chain):
            chain.complete(chain.write(os.urandom(chain.writable)))

    serve(Rng(), "/run/rng.sock")

Everything here is about devices in general; sound is in `vsnd_hybrid.device`.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from typing import Any, TypeVar

from vsnd_hybrid._core import DescriptorChain, Event, Listener, PcmRouter, Server, Virtqueue
from vsnd_hybrid.logs import LimitedLog
from vsnd_hybrid.loop import Loop

#: Characters of a message that may repeat what a front end sent.
_LINE_MAX = 200
#: Chains handled before other events get their turn.
_BATCH = 64


class Device:
    """A vhost-user device: what it offers, and what it does when something happens.

    The methods do nothing unless overridden (`kicked` calls `chain`). All of them are called on the thread of the loop that
    serves the device. An exception in one of them is one line in the log, with the traceback at level debug; a chain that was being
    handled then is given back with length 0, and the device goes on.
    """

    #: The virtio device type (virtio 1.3, 5). vhost-user does not tell it to anybody; it is for people and tools.
    device_id: int = 0
    #: Number of virtqueues.
    queues: int = 1
    #: Device feature bits to offer; those of the transport are added.
    features: int = 0
    #: Queues whose buffers wait until the device has something to tell (an event queue): see `replenished`.
    device_owned: Sequence[int] = ()
    #: The configuration space.
    config: bytes = b""
    #: Sound's data path (`PcmRouter`); other devices have none.
    router: PcmRouter | None = None

    _server: DeviceServer | None = None

    @property
    def server(self) -> Server:
        """The native server. RuntimeError before the device is served."""
        return self._served().native

    def queue(self, index: int) -> Virtqueue:
        """One of the device's virtqueues."""
        return self.server.queue(index)

    def attached(self, loop: Loop) -> None:
        """The device is going to be served, by this loop."""

    def detached(self) -> None:
        """It is served no more. The last call."""

    def connected(self) -> None:
        """A front end connected."""

    def disconnected(self, reason: str) -> None:
        """The front end is gone; `reason` is empty if it left in an orderly way. Be as after `reset` then."""

    def features_acked(self, features: int) -> None:
        """What the driver chose of the features."""

    def started(self, queue: int, base: int, fresh: bool) -> None:
        """A ring started where its used index is `base`. `fresh`: by a driver that begins anew."""

    def stopping(self, queue: int) -> None:
        """A ring stops: complete the chains of it that are held, at once."""

    def stopped(self, queue: int, forced: int) -> None:
        """A ring has stopped; `forced` chains had not been completed in time and were given back."""

    def reset(self) -> None:
        """The front end resets the device: be as in the beginning."""

    def config_written(self, offset: int, data: bytes) -> None:
        """The driver wrote to the configuration space."""

    def save(self) -> bytes:
        """The state that a later life of this device, in another process, goes on from. Every ring is stopped."""
        return b""

    def restore(self, state: bytes) -> None:
        """Go on from what `save` returned in another process; no ring runs yet. Raises ValueError to refuse: a warning in the log."""
        if state:
            raise ValueError("this device has no state")

    def event(self, event: Event) -> None:
        """Anything that has no method of its own."""

    def fault(self, queue: int, reason: str) -> None:
        """A ring is broken by what its driver wrote (`queue` >= 0), or something inside failed (-1)."""
        self._served().log.warning("%s: %s", "device" if queue < 0 else f"queue {queue}", reason)

    def replenished(self, queue: int) -> None:
        """Buffers may have come to `queue`, one of `device_owned`, that was found empty (`Virtqueue.pop`) before."""

    def kicked(self, queue: int) -> None:
        """Chains may be waiting in `queue`."""
        if queue in self.device_owned:
            self.replenished(queue)
            return
        for chain in self.chains(queue):
            try:
                self.chain(queue, chain)
            except Exception as error:  # noqa: BLE001 - the device goes on
                self._served().report(f"{type(self).__name__}.chain (queue {queue})", error)
                with suppress(RuntimeError):  # it was completed before the exception
                    chain.complete(0)

    def chain(self, queue: int, chain: DescriptorChain) -> None:
        """A chain was popped: read, write, and `complete` it, now or later. By default it is given back unused."""
        chain.complete(0)

    def chains(self, queue: int) -> Iterator[DescriptorChain]:
        """Pop what is waiting in `queue`, one by one; after some dozen the rest has to wait for other events' turn.

        Before a chain is handed out the device is told all that happened before the driver made it available, so that
        a request is never judged by the state of an earlier life.
        """
        server = self._served()
        virtqueue = self.queue(queue)
        for _ in range(_BATCH):
            chain = virtqueue.pop()
            if chain is None:
                return
            if server.native.pending:
                server.catch_up()
            yield chain
        server.kick_later(queue)

    def _served(self) -> DeviceServer:
        if self._server is None:
            raise RuntimeError(f"{type(self).__name__} is not served yet: call serve() or running() first")
        return self._server


class DeviceServer:
    """A `Device` on its native `Server`, in a `Loop`.

    Parameters
    ----------
    device
        It is told what happens on the loop's thread.
    loop
        One loop may serve many devices.
    ended
        Called when no front end can come any more: a connected descriptor was served, and its peer is gone.
    """

    def __init__(self, device: Device, loop: Loop, *, ended: Callable[[], Any] | None = None) -> None:
        self.device = device
        self.loop = loop
        #: Limited, because a guest can cause its lines.
        self.log = LimitedLog(logging.getLogger("vsnd_hybrid.vhost"))
        self._ended = ended
        self._kicks: list[int] = []
        self.native = Server(
            queues=device.queues,
            config=device.config,
            features=device.features,
            device_owned=device.device_owned,
            router=device.router,
        )
        self._closed = False
        device._server = self
        device.attached(loop)
        loop.watch(self.native.fileno(), self._readable)

    def listen(self, socket: str | PathLike[str] | int | Listener, *, mode: int = 0o600) -> None:
        """Serve from now on; see `Server.listen`."""
        self.native.listen(socket, mode=mode)

    def close(self) -> None:
        """Drop the front end, remove the socket, tell the device what was left to tell. Idempotent; on the loop's thread."""
        if self._closed:
            return
        self._closed = True
        self.loop.unwatch(self.native.fileno())
        self.native.close()
        self.catch_up()
        self._guarded(self.device.detached)

    def catch_up(self) -> None:
        """Tell the device what has happened until now; kicks wait."""
        for event in self.native.poll():
            self._tell(event)
        if self._kicks and not self._closed:
            self.loop.call_soon(self._kicked)

    def kick_later(self, queue: int) -> None:
        """Look at `queue` again when other events have had their turn."""
        self._kicks.append(queue)
        self.loop.call_soon(self._kicked)

    def report(self, what: str, error: Exception) -> None:
        """One line about what failed, and its traceback for who wants to know."""
        self.log.error("%s failed: %s: %s", what, type(error).__name__, error)
        self.log.debug("its traceback", exc_info=error)

    def _readable(self) -> None:
        for event in self.native.poll():
            self._tell(event)
        self._kicked()
        if self._ended is not None and not self.native.serving:
            self._ended()

    def _kicked(self) -> None:
        queues, self._kicks = dict.fromkeys(self._kicks), []
        for queue in queues:
            self._guarded(self.device.kicked, queue)

    def _tell(self, event: Event) -> None:
        device = self.device
        match event:
            case Event.Kicked(queue):
                self._kicks.append(queue)
            case Event.Connected():
                self._guarded(device.connected)
            case Event.Disconnected(reason):
                self._guarded(device.disconnected, reason)
            case Event.Features(features):
                self._guarded(device.features_acked, features)
            case Event.Started(queue, base, fresh):
                self._guarded(device.started, queue, base, fresh)
            case Event.Stopping(queue):
                self._guarded(device.stopping, queue)
            case Event.Stopped(queue, forced):
                self._guarded(device.stopped, queue, forced)
            case Event.Reset():
                self._guarded(device.reset)
            case Event.ConfigWritten(offset, data):
                self._guarded(device.config_written, offset, data)
            case Event.StateWanted():
                self._save()
            case Event.StateGiven(state):
                self._restore(state)
            case Event.Fault(queue, reason):
                self._guarded(device.fault, queue, reason)
            case _:
                self._guarded(device.event, event)

    def _save(self) -> None:
        state: bytes | None = None
        try:
            state = self.device.save()
        except Exception as error:  # noqa: BLE001 - the front end is told, the device goes on
            self.report(f"{type(self.device).__name__}.save", error)
        self.native.answer_state(state)

    def _restore(self, state: bytes) -> None:
        answer: bytes | None = b""
        try:
            self.device.restore(state)
        except ValueError as error:  # a front end may give any bytes
            self.log.warning("the state was refused: %s", " ".join(str(error).split())[:_LINE_MAX])
            answer = None
        except Exception as error:  # noqa: BLE001 - as in `_save`
            self.report(f"{type(self.device).__name__}.restore", error)
            answer = None
        self.native.answer_state(answer)

    def _guarded(self, method: Callable[..., None], *values: Any) -> None:
        try:
            method(*values)
        except Exception as error:  # noqa: BLE001 - the device goes on
            self.report(f"{type(self.device).__name__}.{method.__name__}", error)


def serve(device: Device, socket: str | PathLike[str] | int | Listener, *, mode: int = 0o600) -> None:
    """Serve `device` until SIGINT or SIGTERM, or until the only connection of a connected descriptor ends.

    Parameters
    ----------
    socket
        A path to bind, a `Listener`, or a descriptor, listening or connected.
    mode
        Permissions of the socket file.

    Raises
    ------
    OSError
        The socket cannot be served; EADDRINUSE if a living server has the path.
    """
    loop = Loop()
    try:
        with ending_on_signals(loop):
            server = DeviceServer(device, loop, ended=loop.stop)
            try:
                server.listen(socket, mode=mode)
                loop.run()
            finally:
                server.close()
    finally:
        loop.close()


_D = TypeVar("_D", bound=Device)


@contextmanager
def running(device: _D, socket: str | PathLike[str] | int | Listener, *, mode: int = 0o600) -> Iterator[_D]:
    """Serve `device` from a thread of its own, for notebooks and tests: ``with running(Rng(), path) as rng: ...``.

    The socket accepts connections when the block begins, and is gone when it has ended.
    """
    loop = Loop()
    try:
        server = DeviceServer(device, loop)
        thread = threading.Thread(target=loop.run, name=f"vsnd-{type(device).__name__.lower()}", daemon=True)
        try:
            server.listen(socket, mode=mode)
            thread.start()
            yield device
        finally:
            if thread.ident is not None:
                loop.stop()
                thread.join()
            server.close()
    finally:
        loop.close()


@contextmanager
def ending_on_signals(loop: Loop) -> Iterator[None]:
    """Stop `loop` at SIGINT and SIGTERM, while the block runs. Does nothing on other threads than the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A signal that comes just before the loop waits would wait with it, but for the byte that the interpreter writes here.
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    loop.watch(reader, lambda: os.read(reader, 64))
    descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: loop.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(descriptor)
        loop.unwatch(reader)
        os.close(reader)
        os.close(writer)
