"""One virtqueue from the driver's side, for tests and the curious: chains of any shape, and the raw ring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vsnd_hybrid._core import DriverQueue, SoundDriver

#: A raw descriptor: address, length, flags (1 NEXT, 2 WRITE, 4 INDIRECT), next.
Raw = tuple[int, int, int, int]


class Token:
    """A chain that was pushed."""

    def __init__(self, head: int) -> None:
        self.head = head
        #: The used length; None while the device has it.
        self.used_len: int | None = None
        #: The device-writable parts' content, joined, when it came back.
        self.content = b""

    @property
    def done(self) -> bool:
        return self.used_len is not None

    @property
    def written(self) -> bytes:
        """As much of `content` as the device says it wrote."""
        return self.content[: self.used_len or 0]

    def __repr__(self) -> str:
        state = "with the device" if self.used_len is None else f"{self.used_len} bytes written"
        return f"<Token {self.head}: {state}>"


class Used(NamedTuple):
    """An entry of the used ring."""

    head: int
    length: int
    #: The chain, if it was pushed here.
    token: Token | None
    #: The device had this head. If not, it gave back something that it did not have.
    known: bool


class _Parts(NamedTuple):
    token: Token
    areas: list[tuple[int, int, bool]]


class Queue:
    """A split virtqueue (virtio 1.3, 2.7). `native` has the primitives.

    A queue that streams use at the same time should only be looked at.
    """

    def __init__(self, driver: SoundDriver, index: int) -> None:
        self.native: DriverQueue = driver.queue(index)
        self._driver = driver
        self._pushed: dict[int, _Parts] = {}

    @property
    def index(self) -> int:
        return self.native.index

    @property
    def size(self) -> int:
        return self.native.size

    @property
    def avail_index(self) -> int:
        """The available index that the device sees."""
        return self.native.avail_index

    @property
    def used_index(self) -> int:
        """The used index that the device published."""
        return self.native.used_index

    @property
    def kicks(self) -> int:
        """Notifications sent."""
        return self.native.kicks

    @property
    def signals(self) -> int:
        """Interrupts received, as far as somebody waited for them."""
        return self.native.signals

    def push(
        self,
        parts: Sequence[bytes | int],
        *,
        indirect: bool = True,
        publish: bool = True,
        kick: bool | None = None,
    ) -> Token:
        """Push a chain with a descriptor for each part: bytes for the device to read, or a number of bytes to write.

        Parameters
        ----------
        indirect
            One slot and a table elsewhere, if the device accepted that.
        publish
            Show it to the device at once; else `publish` does so for all that were pushed.
        kick
            None: if the device wants it. True, False: in any case, never.

        Raises GuestError if the queue or the memory is full, ValueError for an empty chain.
        """
        areas = []
        for part in parts:
            n = part if isinstance(part, int) else len(part)
            addr = self._driver.alloc(n)
            self._driver.write(addr, bytes(n) if isinstance(part, int) else part)
            areas.append((addr, n, isinstance(part, int)))
        try:
            token = Token(self.native.push(areas, indirect=indirect))
        except Exception:
            self._free(areas)
            raise
        self._pushed[token.head] = _Parts(token, areas)
        if publish:
            self.native.publish(kick)
        return token

    def push_raw(self, descriptors: Sequence[Raw], *, publish: bool = True, kick: bool | None = None) -> Token:
        """Push descriptors as they are. `next` is a position in the list; one beyond its end is written as it is."""
        token = Token(self.native.push_raw(list(descriptors)))
        self._pushed[token.head] = _Parts(token, [])
        if publish:
            self.native.publish(kick)
        return token

    def offer(self, head: int, *, publish: bool = True, kick: bool | None = None) -> None:
        """Put any head into the available ring."""
        self.native.offer(head)
        if publish:
            self.native.publish(kick)

    def publish(self, kick: bool | None = None) -> bool:
        """Show the device what was pushed. True if it was kicked."""
        return self.native.publish(kick)

    def kick(self) -> None:
        self.native.kick()

    def reap(self) -> list[Used]:
        """Take what the device gave back, oldest first. Never blocks."""
        taken = []
        for head, length, known in self.native.reap():
            parts = self._pushed.pop(head, None) if known else None
            if parts is not None:
                content = (self._driver.read(addr, n) for addr, n, writable in parts.areas if writable)
                parts.token.content = b"".join(content)
                parts.token.used_len = length
                self._free(parts.areas)
            taken.append(Used(head, length, parts.token if parts else None, known))
        return taken

    def wait(self, n: int = 1, timeout: float = 1.0) -> bool:
        """Wait until `n` chains are there to `reap`. False: not within `timeout` s. GuestError: the device is gone."""
        return self.native.wait(n, timeout)

    def exchange(self, parts: Sequence[bytes | int], *, indirect: bool = True, timeout: float = 1.0) -> Token:
        """Push a chain and wait for it. Raises TimeoutError if it does not come back within `timeout` s."""
        token = self.push(parts, indirect=indirect)
        while not token.done:
            if not self.wait(1, timeout):
                raise TimeoutError(f"queue {self.index} did not give back a chain within {timeout} s")
            self.reap()
        return token

    def _free(self, areas: Sequence[tuple[int, int, bool]]) -> None:
        for addr, n, _ in areas:
            self._driver.free(addr, n)

    def __repr__(self) -> str:
        return repr(self.native).replace("DriverQueue", "Queue")
