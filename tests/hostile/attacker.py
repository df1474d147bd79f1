"""A driver that keeps account of what it offered, so that what the device does can be judged whatever was offered."""

from __future__ import annotations

import os
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vsnd_hybrid._core import DriverQueue, GuestError, SoundDriver

from tests.hostile.chains import LONGEST, Chain, Places, Shape
from tests.vmms.link import NEED_REPLY, Message

CONTROL, EVENT, TX, RX = range(4)
QUEUES = (CONTROL, EVENT, TX, RX)
#: Directions of SET_DEVICE_STATE_FD, and its good answer: the device uses the descriptor that it was given.
SAVE, LOAD = 0, 1
NO_DESCRIPTOR = 0x100
#: Generous: the machine may be busy with other things.
LIMIT_S = 60.0
#: Protocol features: whatever is offered.
ALL_FEATURES = (1 << 64) - 1
#: What hostile chains name as address 0, rings, buffers. A chain that had the device write over a ring would be its driver's own fault.
REGIONS = [(0, 4 << 20), (1 << 24, 4 << 20), (1 << 32, 4 << 20)]
RINGS, BUFFERS = 1, 2


class Attacker:
    """A connection of its own, with raw queues. One thread."""

    def __init__(self, socket: Path, **options: Any) -> None:
        self.driver = SoundDriver(
            str(socket),
            events=False,
            regions=REGIONS,
            rings_in=RINGS,
            buffers_in=BUFFERS,
            connect_timeout=LIMIT_S,
            protocol_features=ALL_FEATURES,
            **options,
        )
        #: The memory for what is in flight, if the device has one.
        self._inflight = -1
        #: What was done last, for whoever reads of a failure that does not come again.
        self.history: deque[str] = deque(maxlen=80)
        self._begin()

    def _begin(self) -> None:
        alloc = self.driver.alloc
        self.places = Places(alloc(4096, 4096), alloc(16 * LONGEST, 4096), REGIONS[-1][0] + REGIONS[-1][1])
        self._request, self._answer = alloc(4096, 4096), alloc(4096, 4096)
        #: Queues on which the rules of the ring were broken: what comes back there says nothing.
        self.wild: set[int] = set()
        #: Queues whose last offer was kept from the device.
        self.owed: set[int] = set()
        #: Queues that stand still, and their used ring then.
        self.stopped: dict[int, bytes] = {}
        #: Queues that stand still, and where.
        self.bases: dict[int, int] = {}
        #: Chains that came back from each queue.
        self.back: dict[int, dict[int, int]] = {queue: {} for queue in QUEUES}

    def queue(self, index: int) -> DriverQueue:
        return self.driver.queue(index)

    # ------------------------------------------------------------ offering

    def push(self, index: int, shape: Shape, kick: bool | None) -> int | None:
        """Offer a chain; its head, or None if the ring is full."""
        chain: Chain = shape(self.places)
        self.history.append(f"push {index} {chain} {kick}")
        if chain.table:
            table = b"".join(struct.pack("<QIHH", *raw) for raw in chain.table)
            self.driver.write(self.places.table, table)
        raw = [(self.places.table if addr < 0 else addr, *rest) for addr, *rest in chain.ring]
        return self._offer(index, lambda queue: queue.push_raw(raw), kick)  # type: ignore[arg-type]

    def push_pieces(self, index: int, pieces: list[tuple[int, int, bool]]) -> int | None:
        return self._offer(index, lambda queue: queue.push(pieces), None)

    def _offer(self, index: int, push: Callable[[DriverQueue], int], kick: bool | None) -> int | None:
        try:
            head = push(self.queue(index))
        except GuestError:
            return None
        self.back[index].pop(head, None)
        # Held back once, with EVENT_IDX it is not asked for again: the next offer owes it.
        self.queue(index).publish(True if kick is None and index in self.owed else kick)
        (self.owed.add if kick is False else self.owed.discard)(index)
        return head

    def play(self, stream: int, size: int) -> None:
        """A message of stream `stream`, as it should be."""
        self.driver.write(self._request, struct.pack("<I", stream))
        data = (self._request, 4, False), (self.places.buffer, size, False), (self._answer + 2048, 8, True)
        self.push_pieces(TX, list(data))

    # ------------------------------------------------------------ what came back

    def reap(self) -> None:
        """Take what came back. AssertionError if something did that was not away."""
        for index in QUEUES:
            for head, length, known in self.queue(index).reap():
                assert known or index in self.wild, f"queue {index} gave back head {head}, which it did not have"
                self.back[index][head] = length

    def await_back(self, index: int, head: int) -> int:
        """The used length of a chain that must come back."""
        end = time.monotonic() + LIMIT_S
        while head not in self.back[index]:
            assert time.monotonic() < end, f"queue {index} does not give back head {head}"
            self.queue(index).wait(1, 1.0)
            self.reap()
        return self.back[index].pop(head)

    def request(self, data: bytes, room: int = 4) -> bytes | None:
        """The answer to a control request; None if the ring is full."""
        self.history.append(f"request {data.hex()} {room}")
        self.driver.write(self._request, data)
        self.driver.write(self._answer, bytes(room))
        head = self.push_pieces(CONTROL, [(self._request, len(data), False), (self._answer, room, True)])
        if head is None:
            return None
        return bytes(self.driver.read(self._answer, self.await_back(CONTROL, head)))

    def usable(self, index: int) -> bool:
        """It runs, and nobody broke its rules."""
        return index not in self.wild and index not in self.bases

    def check_alive(self) -> None:
        """Each ring that was left in order answers."""
        if self.usable(CONTROL):
            answer = self.request(struct.pack("<IIII", 0x0100, 0, 0, 0))
            assert answer in (None, struct.pack("<I", 0x8000)), f"{answer!r} after {list(self.history)}"
        if self.usable(TX):
            self.driver.write(self._request + 64, struct.pack("<I", 99))
            status = self._answer + 64
            head = self.push_pieces(TX, [(self._request + 64, 4, False), (status, 8, True)])
            if head is not None:
                assert self.await_back(TX, head) == 8
                assert bytes(self.driver.read(status, 4)) == struct.pack("<I", 0x8003)

    # ------------------------------------------------------------ stopping

    def _used_ring(self, index: int) -> bytes:
        _, _, used = self.queue(index).parts
        return bytes(self.driver.read(used, 6 + 8 * self.queue(index).size))

    def stop(self, index: int) -> None:
        """GET_VRING_BASE. The base is the used index, or the ring's rules were broken."""
        base = self.driver.stop_ring(index)
        self.history.append(f"stop {index} at {base}")
        if index not in self.wild:
            assert base == self.queue(index).used_index, f"queue {index}"
        self.bases[index] = base
        self.stopped[index] = self._used_ring(index)

    def start(self, index: int) -> None:
        self.history.append(f"start {index}")
        del self.stopped[index]
        self.driver.start_ring(index, self.bases.pop(index))

    def check_stillness(self) -> None:
        """Nothing came back from a queue that stands still."""
        for index, before in self.stopped.items():
            assert self._used_ring(index) == before, f"queue {index} was written to while stopped"

    def reset(self, style: str) -> None:
        """A new driver finds everything in order, whatever the last one did."""
        self.history.append(f"reset {style}")
        self.driver.reset(style)
        self._begin()

    # ------------------------------------------------------------ the monitor's descriptors

    def message(self, message: Message, body: bytes, fds: Sequence[int] = ()) -> bytes | None:
        """The answer to a message that asks for one; None if the device ended the connection."""
        self.history.append(f"{message.name} {body.hex()}")
        try:
            return self.driver.message(message, body, flags=NEED_REPLY, fds=fds, reply=True)
        except GuestError:
            return None

    def save_state(self) -> bytes:
        """The device's state; its rings stand still."""
        reading, writing = os.pipe()
        self._transfer(SAVE, writing)
        with open(reading, "rb") as pipe:
            state = pipe.read()
        assert self.is_state_good()
        return state

    def load_state(self, state: bytes) -> bool:
        """Whether the device takes it; its rings stand still."""
        reading, writing = os.pipe()
        self._transfer(LOAD, reading)
        with suppress(BrokenPipeError), open(writing, "wb") as pipe:
            pipe.write(state)
        return self.is_state_good()

    def is_state_good(self) -> bool:
        return self.message(Message.CHECK_DEVICE_STATE, b"") == bytes(8)

    def _transfer(self, direction: int, fd: int) -> None:
        answer = self.message(Message.SET_DEVICE_STATE_FD, struct.pack("<2I", direction, 0), [fd])
        os.close(fd)
        assert answer == struct.pack("<Q", NO_DESCRIPTOR)

    def new_inflight(self, queue_size: int) -> None:
        """Let the device note what is in flight in new memory."""
        asked = struct.pack("<2Q2H4x", 0, 0, len(QUEUES), queue_size)
        about = self.message(Message.GET_INFLIGHT_FD, asked)
        assert about is not None
        size, offset, queues, entries = struct.unpack_from("<2Q2H", about)
        assert (offset, queues, entries) == (0, len(QUEUES), queue_size)
        self._forget_inflight()
        self._inflight = os.memfd_create("inflight")
        os.truncate(self._inflight, size)
        assert self.message(Message.SET_INFLIGHT_FD, about, [self._inflight]) == bytes(8)

    def _forget_inflight(self) -> None:
        if self._inflight >= 0:
            os.close(self._inflight)
            self._inflight = -1

    def close(self) -> None:
        self.driver.kill()
        self._forget_inflight()
