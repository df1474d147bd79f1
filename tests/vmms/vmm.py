"""A virtual machine monitor and its guest: memory, rings and a virtio-snd driver; what it says is left to a dialect."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from vsnd_hybrid._core import SoundDriver
from vsnd_hybrid.guest import VirtualGuest
from vsnd_hybrid.guest.infos import GuestEvent
from vsnd_hybrid.guest.queue import Queue
from vsnd_hybrid.wire import CONFIG_BYTES, Config

from tests.vmms.link import Link, Message, Protocol, Region

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
QUEUES = range(4)
CONTROL, EVENT, TX, RX = QUEUES
#: Where the memory of a restored machine lies, against where it was.
_ELSEWHERE = 1 << 40
INDIRECT_DESC, EVENT_IDX, PROTOCOL_FEATURES, VERSION_1 = 1 << 28, 1 << 29, 1 << 30, 1 << 32


class Vmm(VirtualGuest):
    """A monitor whose guest drives a sound device. Its subclasses say the words; here is what all of them do.

    A guest plays and records with the methods of `VirtualGuest`. Regions of memory beyond `plugged` are there, but the device
    is not told of them before they are plugged in.

    Parameters
    ----------
    device
        The daemon's socket, or a connected one.
    queue_size
        Entries of each queue; the monitor's default.
    rings_in, buffers_in
        Regions where rings and buffers lie.
    """

    #: For test reports.
    name: ClassVar[str]
    #: Protocol features that it takes if they are offered.
    wants: Protocol
    #: Device features that its guest is not shown.
    hides: ClassVar[int] = 0
    #: Messages that ask for an acknowledgement.
    acked: ClassVar[frozenset[Message]] = frozenset()
    #: Entries of a queue, as it has them by default.
    size: ClassVar[int] = 64
    #: Guest-physical address and size of each memory region. Small ones, where the real ones lie.
    memory: ClassVar[tuple[tuple[int, int], ...]] = ((0, 640 * KIB), (MIB, 16 * MIB), (4 * GIB, 4 * MIB))
    #: Regions that are there from the start; the others can be plugged in.
    plugged: ClassVar[int] = 3
    #: Kick descriptors have been written to when the device gets them.
    kicked_before: ClassVar[bool] = False
    #: One call descriptor for all queues.
    one_call: ClassVar[bool] = False
    protocol = Protocol(0)
    _moved = 0

    def __init__(
        self,
        device: Path | socket.socket,
        *,
        queue_size: int | None = None,
        rings_in: int | None = 1,
        buffers_in: int | None = None,
    ) -> None:
        self._connect(device)
        self.acked_features = 0
        self.negotiate()
        # The guest does not see the connection: one device may go, and another come.
        self._guest_line, line = socket.socketpair()
        self.driver = SoundDriver(
            line.fileno(),
            handshake=False,
            features=self.acked_features,
            queue_size=queue_size or self.size,
            regions=self.memory,
            rings_in=rings_in,
            buffers_in=self.plugged - 1 if buffers_in is None else buffers_in,
            request_timeout=10.0,
        )
        line.close()
        self._events: list[GuestEvent] = []
        self._queues: dict[int, Queue] = {}
        self._call = _SharedCall(self.driver) if self.one_call else None
        self.regions = [Region(*slot) for slot in self.driver.slots][: self.plugged]
        self.config = self.read_config()
        self.activate([0] * len(QUEUES))

    def _connect(self, device: Path | socket.socket) -> None:
        if isinstance(device, socket.socket):
            sock = device
        else:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(device))
        self.link = Link(sock, self.acked)

    # ------------------------------------------------------------ the dialect

    def negotiate(self) -> None:
        """Everything from the connection to the features agreed on (`agree` helps)."""
        raise NotImplementedError

    def read_config(self) -> Config:
        """The guest's driver reads the configuration space."""
        raise NotImplementedError

    def activate(self, bases: Sequence[int]) -> None:
        """The guest's driver is ready: memory and rings."""
        raise NotImplementedError

    def deactivate(self) -> list[int]:
        """The guest's driver, or the machine, stops: every ring does. Returns the bases as far as they are asked for."""
        raise NotImplementedError

    def restart(self) -> None:
        """The rings of a guest that was reset begin at 0."""
        self.activate([0] * len(QUEUES))

    def suspend(self) -> None:
        """The machine is paused."""
        raise NotImplementedError

    def wake(self) -> None:
        """It goes on."""
        raise NotImplementedError

    def snapshot(self) -> bytes:
        """The machine is paused: the device's part of its snapshot."""
        raise NotImplementedError

    def negotiate_again(self) -> None:
        """As `negotiate`, with a device that is to have the features of an earlier one."""
        raise NotImplementedError

    def load(self, state: bytes) -> None:
        """The rest of what is said to a new device before the machine goes on."""
        raise NotImplementedError

    # ------------------------------------------------------------ what all of them do

    def restore(self, device: Path, state: bytes) -> None:
        """Another process of the monitor takes the paused machine up, at another device; its memory lies elsewhere there."""
        self.link.socket.close()
        self._moved += _ELSEWHERE
        self.regions = [region._replace(user_address=region.user_address + _ELSEWHERE) for region in self.regions]
        self._connect(device)
        self.negotiate_again()
        self.load(state)

    def agree(self, *, ask: bool = True) -> None:
        """The protocol features: what is wanted of what is offered; without `ask` what was agreed on before."""
        offered = self.link.ask_u64(Message.GET_PROTOCOL_FEATURES) if ask else self.protocol or self.wants
        agreed = self.wants & offered
        self.link.tell(Message.SET_PROTOCOL_FEATURES, agreed.to_bytes(8, "little"))
        self.protocol = agreed
        self.link.reply_ack = Protocol.REPLY_ACK in agreed

    def accept(self, offered: int) -> None:
        """The features that the guest's driver takes; the device is not told yet."""
        self.acked_features = offered & (INDIRECT_DESC | EVENT_IDX | PROTOCOL_FEATURES | VERSION_1) & ~self.hides

    def say_features(self) -> None:
        self.link.tell(Message.SET_FEATURES, self.acked_features.to_bytes(8, "little"))

    def say_address(self, index: int) -> None:
        desc, avail, used = self.driver.queue(index).user_parts
        numbers = (index, desc + self._moved, used + self._moved, avail + self._moved, 0)
        self.link.tell(Message.SET_VRING_ADDR, b"".join(n.to_bytes(8, "little") for n in numbers))

    def say_kick(self, index: int) -> None:
        queue = self.driver.queue(index)
        if self.kicked_before:
            queue.kick()
        self.link.ring_fd(Message.SET_VRING_KICK, index, queue.kick_fd)

    def say_call(self, index: int) -> None:
        self.link.ring_fd(
            Message.SET_VRING_CALL, index, self._call.fd if self._call else self.driver.queue(index).call_fd
        )

    def config_bytes(self, *widths: int, flags: int = 0) -> Config:
        """Read the configuration space in accesses of these widths."""
        data, offset = b"", 0
        for width in widths:
            data += self.link.config(offset, width, flags)
            offset += width
        return Config.unpack(data[:CONFIG_BYTES].ljust(Config.SIZE, b"\0"))

    def settle(self) -> None:
        """Wait until the device has taken all that was said."""
        self.link.ask(Message.GET_FEATURES)

    def pause(self) -> None:
        """Stop the processors and the device."""
        self.driver.hold(True)
        self.suspend()
        self.settle()

    def resume(self) -> None:
        """Let both go on."""
        self.wake()
        self.settle()
        self.driver.hold(False)

    def reset(self, style: str = "machine") -> None:
        """The guest is reset in whatever it does: ``"machine"`` empties its memory, ``"kernel"`` (kexec) does not."""
        self.deactivate()
        self.settle()
        self.driver.reboot(zero=style == "machine")
        self._events.clear()
        self.restart()
        self.settle()

    def replace_kick(self, index: int) -> None:
        self.driver.queue(index).new_kick()
        self.say_kick(index)

    def replace_call(self, index: int) -> None:
        self.driver.queue(index).new_call()
        self.say_call(index)

    def kill(self) -> None:
        """Die without a word."""
        self.driver.kill()
        self._close()

    def close(self) -> None:
        """Stop the rings and the connection."""
        self.driver.hold(True)
        self.deactivate()
        assert self.link.silent, "the device said something that nobody asked for"
        self.kill()

    def _close(self) -> None:
        if self._call:
            self._call.close()
        self.link.socket.close()
        self._guest_line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *what: object) -> None:
        if self.link.socket.fileno() < 0:
            return
        if what[0] is None:
            self.close()
        else:
            self.kill()

    def __repr__(self) -> str:
        return f"<{self.name}>"


class _SharedCall:
    """One eventfd for all queues: every interrupt makes the guest look at each."""

    def __init__(self, driver: SoundDriver) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._queues = [driver.queue(i) for i in QUEUES]
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        if not self._ended:
            self._ended = True
            os.eventfd_write(self.fd, 1)
            self._thread.join()
            os.close(self.fd)

    def _run(self) -> None:
        while os.eventfd_read(self.fd) and not self._ended:
            for queue in self._queues:
                os.eventfd_write(queue.call_fd, 1)
