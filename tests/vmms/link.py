"""vhost-user messages as a front end sends them: a header, a body, descriptors; and how it waits for answers."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple

#: The lowest bits of the flags, in every message.
VERSION = 1
REPLY = 1 << 2
NEED_REPLY = 1 << 3
#: A device that needs longer for an answer is taken for dead.
ANSWER_S = 10.0


class Message(IntEnum):
    """Requests of the front end, as far as any of these monitors sends them."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    GET_CONFIG = 24
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_DEVICE_STATE_FD = 42
    CHECK_DEVICE_STATE = 43


class Protocol(IntFlag):
    """Protocol features that these monitors know."""

    MQ = 1 << 0
    LOG_SHMFD = 1 << 1
    RARP = 1 << 2
    REPLY_ACK = 1 << 3
    MTU = 1 << 4
    BACKEND_REQ = 1 << 5
    CROSS_ENDIAN = 1 << 6
    CRYPTO_SESSION = 1 << 7
    PAGEFAULT = 1 << 8
    CONFIG = 1 << 9
    BACKEND_SEND_FD = 1 << 10
    HOST_NOTIFIER = 1 << 11
    INFLIGHT_SHMFD = 1 << 12
    RESET_DEVICE = 1 << 13
    INBAND_NOTIFICATIONS = 1 << 14
    CONFIGURE_MEM_SLOTS = 1 << 15
    STATUS = 1 << 16
    XEN_MMAP = 1 << 17
    SHARED_OBJECT = 1 << 18
    DEVICE_STATE = 1 << 19


class Region(NamedTuple):
    """A memory region as the front end describes it."""

    address: int
    size: int
    user_address: int
    fd: int

    def pack(self) -> bytes:
        return struct.pack("<4Q", self.address, self.size, self.user_address, 0)


#: The body of the messages about what is in flight, as the vhost crate pads it.
_INFLIGHT_BYTES = 24


#: Directions of SET_DEVICE_STATE_FD, and its answer: taken, and no descriptor of the device's own.
_SAVE, _LOAD = 0, 1
_TAKEN = 0x100


class Inflight(NamedTuple):
    """The device's note of what it has in flight: what it said about the memory, and the memory."""

    about: bytes
    fd: int


class Refused(Exception):
    """The device answered a message that asked for it with an error."""


class Link:
    """The connection. `acked` are the messages that carry NEED_REPLY once `reply_ack` is set."""

    def __init__(self, sock: socket.socket, acked: frozenset[Message] = frozenset()) -> None:
        self.socket = sock
        self.reply_ack = False
        self._acked = acked

    def tell(self, message: Message, body: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Send a message without an answer of its own. Raises `Refused` if one was asked for, and is an error."""
        if self._send(message, body, fds):
            error = int.from_bytes(self._answer(message), "little")
            if error:
                raise Refused(f"{message.name}: {error}")

    def ask(self, message: Message, body: bytes = b"") -> bytes:
        """Send a message that is always answered, by one message: also if an acknowledgement is asked for."""
        self._send(message, body, ())
        return self._answer(message)

    def ask_u64(self, message: Message) -> int:
        return int.from_bytes(self.ask(message), "little")

    @property
    def silent(self) -> bool:
        """The device has said nothing that nobody asked for."""
        return not select.select([self.socket], [], [], 0)[0]

    def inflight(self, queues: int, size: int) -> Inflight:
        """GET_INFLIGHT_FD: memory in which the device notes what it has in flight."""
        self._send(Message.GET_INFLIGHT_FD, struct.pack("<2Q2H", 0, 0, queues, size).ljust(_INFLIGHT_BYTES, b"\0"), ())
        self.socket.settimeout(ANSWER_S)
        header, fds, _, _ = socket.recv_fds(self.socket, 12, 1)
        code, flags, length = struct.unpack("<3I", header)
        assert (code, flags, len(fds)) == (Message.GET_INFLIGHT_FD, VERSION | REPLY, 1)
        return Inflight(self._receive(length, Message.GET_INFLIGHT_FD), fds[0])

    def set_inflight(self, inflight: Inflight) -> None:
        """SET_INFLIGHT_FD."""
        self.tell(Message.SET_INFLIGHT_FD, inflight.about, [inflight.fd])

    def save_state(self) -> bytes:
        """SET_DEVICE_STATE_FD and CHECK_DEVICE_STATE: the device's state. Its rings are stopped."""
        reading, writing = os.pipe()
        self.transfer(_SAVE, writing)
        with open(reading, "rb") as pipe:
            state = pipe.read()
        self._check_state()
        return state

    def load_state(self, state: bytes) -> None:
        """The same, into a device that has not started yet. Raises `Refused`."""
        reading, writing = os.pipe()
        self.transfer(_LOAD, reading)
        with open(writing, "wb") as pipe:
            pipe.write(state)
        self._check_state()

    def transfer(self, direction: int, fd: int) -> None:
        """SET_DEVICE_STATE_FD. `direction`: 0 saves, 1 loads; `fd` is closed."""
        self._send(Message.SET_DEVICE_STATE_FD, struct.pack("<2I", direction, 0), [fd])
        os.close(fd)
        if int.from_bytes(self._answer(Message.SET_DEVICE_STATE_FD), "little") != _TAKEN:
            raise Refused(Message.SET_DEVICE_STATE_FD.name)

    def _check_state(self) -> None:
        if int.from_bytes(self.ask(Message.CHECK_DEVICE_STATE), "little"):
            raise Refused(Message.CHECK_DEVICE_STATE.name)

    def ring(self, message: Message, index: int, value: int = 0) -> None:
        """A message about one ring that carries a number."""
        self.tell(message, struct.pack("<2I", index, value))

    def ring_fd(self, message: Message, index: int, fd: int) -> None:
        """A message about one ring that carries an eventfd."""
        self.tell(message, struct.pack("<Q", index), [fd])

    def ring_base(self, index: int) -> int:
        """GET_VRING_BASE."""
        answered, base = struct.unpack("<2I", self.ask(Message.GET_VRING_BASE, struct.pack("<2I", index, 0)))
        assert answered == index
        return int(base)

    def memory(self, regions: Sequence[Region]) -> None:
        """SET_MEM_TABLE."""
        body = struct.pack("<2I", len(regions), 0) + b"".join(region.pack() for region in regions)
        self.tell(Message.SET_MEM_TABLE, body, [region.fd for region in regions])

    def add_memory(self, region: Region) -> None:
        self.tell(Message.ADD_MEM_REG, bytes(8) + region.pack(), [region.fd])

    def remove_memory(self, region: Region) -> None:
        self.tell(Message.REM_MEM_REG, bytes(8) + region.pack())

    def config(self, offset: int, size: int, flags: int = 0) -> bytes:
        """GET_CONFIG."""
        answer = self.ask(Message.GET_CONFIG, struct.pack("<3I", offset, size, flags) + bytes(size))
        assert struct.unpack_from("<2I", answer) == (offset, size)
        return answer[12:]

    def _send(self, message: Message, body: bytes, fds: Sequence[int]) -> bool:
        ack = self.reply_ack and message in self._acked
        header = struct.pack("<3I", message, VERSION | (NEED_REPLY if ack else 0), len(body))
        socket.send_fds(self.socket, [header + body], list(fds))
        return ack

    def _answer(self, message: Message) -> bytes:
        code, flags, size = struct.unpack("<3I", self._receive(12, message))
        assert (code, flags) == (message, VERSION | REPLY)
        return self._receive(size, message)

    def _receive(self, size: int, message: Message) -> bytes:
        data = b""
        self.socket.settimeout(ANSWER_S)
        while len(data) < size:
            got = self.socket.recv(size - len(data))
            if not got:
                raise ConnectionError(f"the device closed the connection in answer to {message.name}")
            data += got
        return data
