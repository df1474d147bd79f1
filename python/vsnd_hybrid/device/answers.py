"""Answers to control requests leave in the order in which the requests came, but a slow one does not hold up all others."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from vsnd_hybrid.loop import Loop, Timer

#: So long an answer waits for an earlier one that concerns another stream.
GRACE_S = 0.02


class Chain(Protocol):
    """What is needed of a `DescriptorChain`."""

    def write(self, data: bytes, offset: int = 0, /) -> int: ...
    def complete(self, written: int, /) -> bool: ...


class Pending:
    """A request that waits for its answer."""

    __slots__ = ("_queue", "chain", "data", "since", "stream_id")

    def __init__(self, queue: AnswerQueue, chain: Chain, stream_id: int | None, since: float) -> None:
        self._queue = queue
        self.chain = chain
        self.stream_id = stream_id
        self.since = since
        self.data: bytes | None = None

    def answer(self, data: bytes) -> None:
        """This is the answer; it leaves when it is its turn. Empty: the buffer goes back with used length 0."""
        self.data = data
        self._queue.pump()


class AnswerQueue:
    """The requests that have not been answered, oldest first. For the loop's thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._clock = loop.clock
        self._waiting: deque[Pending] = deque()
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, chain: Chain, stream_id: int | None = None) -> Pending:
        """A request came, for a stream or for none."""
        pending = Pending(self, chain, stream_id, self._clock())
        self._waiting.append(pending)
        return pending

    def clear(self) -> None:
        """Forget all: their ring is gone."""
        self._waiting.clear()
        self._cancel()

    def pump(self) -> None:
        """Let go what may go."""
        while self._waiting and self._waiting[0].data is not None:
            _send(self._waiting.popleft())
        self._cancel()
        if any(pending.data is not None for pending in self._waiting):
            self._overtake()

    def _overtake(self) -> None:
        """The oldest answer is not there yet: let others pass once they waited long enough for it."""
        now = self._clock()
        undecided: list[Pending] = []
        stay: deque[Pending] = deque()
        wait_s = 0.0
        for pending in self._waiting:
            if pending.data is None:
                undecided.append(pending)
            else:
                left_s = max(earlier.since for earlier in undecided) + GRACE_S - now
                same = any(earlier.stream_id == pending.stream_id for earlier in undecided)
                if left_s <= 0 and not same:
                    _send(pending)
                    continue
                if not same:
                    wait_s = min(wait_s or left_s, left_s)
            stay.append(pending)
        self._waiting = stay
        if wait_s > 0:
            self._timer = self._loop.call_later(wait_s, self.pump)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _send(pending: Pending) -> None:
    assert pending.data is not None
    try:
        written = pending.chain.write(pending.data) if pending.data else 0
    except BufferError:  # the driver gave an address outside of its memory
        written = 0
    pending.chain.complete(written)
