"""In which order answers leave."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from vsnd_hybrid.device.answers import AnswerQueue

from tests.unit.fakes import SteppedLoop


class Ring:
    """Chains whose completion is noted."""

    def __init__(self) -> None:
        self.used: list[tuple[str, int]] = []

    def chain(self, name: str, *, bad_address: bool = False) -> RingChain:
        return RingChain(self, name, bad_address)

    def names(self) -> str:
        return "".join(name for name, _ in self.used)


class RingChain:
    def __init__(self, ring: Ring, name: str, bad_address: bool) -> None:
        self._ring, self._name, self._bad_address = ring, name, bad_address

    def write(self, data: bytes, offset: int = 0, /) -> int:
        if self._bad_address:
            raise BufferError("outside of memory")
        return len(data)

    def complete(self, written: int, /) -> bool:
        self._ring.used.append((self._name, written))
        return True


@pytest.fixture
def loop() -> Iterator[SteppedLoop]:
    made = SteppedLoop()
    yield made
    made.close()


@pytest.fixture
def ring() -> Ring:
    return Ring()


@pytest.fixture
def queue(loop: SteppedLoop) -> AnswerQueue:
    return AnswerQueue(loop)


def test_an_answer_leaves_at_once_when_nothing_is_before_it(queue: AnswerQueue, ring: Ring) -> None:
    queue.add(ring.chain("a"), 0).answer(b"1234")
    assert ring.used == [("a", 4)]


def test_an_empty_answer_gives_the_buffer_back_with_length_0(queue: AnswerQueue, ring: Ring) -> None:
    queue.add(ring.chain("a")).answer(b"")
    assert ring.used == [("a", 0)]


def test_answers_leave_in_the_order_of_the_requests(queue: AnswerQueue, ring: Ring) -> None:
    first, second, third = (queue.add(ring.chain(name), i) for i, name in enumerate("abc"))
    third.answer(b"3")
    second.answer(b"2")
    assert ring.used == []
    first.answer(b"1")
    assert ring.names() == "abc"
    assert len(queue) == 0


def test_a_slow_answer_is_overtaken_by_those_of_other_streams_after_the_grace(
    queue: AnswerQueue, ring: Ring, loop: SteppedLoop
) -> None:
    slow = queue.add(ring.chain("a"), 0)
    queue.add(ring.chain("b"), 1).answer(b"2")
    queue.add(ring.chain("c")).answer(b"3")
    loop.advance(0.019)
    assert ring.names() == ""
    loop.advance(0.002)
    assert ring.names() == "bc"
    queue.add(ring.chain("d"), 1).answer(b"4")
    assert ring.names() == "bcd", "it is known to be slow by now"
    slow.answer(b"1")
    assert ring.names() == "bcda"


def test_a_slow_answer_is_never_overtaken_by_one_of_its_own_stream(
    queue: AnswerQueue, ring: Ring, loop: SteppedLoop
) -> None:
    slow = queue.add(ring.chain("a"), 0)
    queue.add(ring.chain("b"), 0).answer(b"2")
    loop.advance(0.8)
    assert ring.names() == ""
    slow.answer(b"1")
    assert ring.names() == "ab"


def test_each_of_several_slow_answers_is_given_its_grace(queue: AnswerQueue, ring: Ring, loop: SteppedLoop) -> None:
    queue.add(ring.chain("a"), 0)
    loop.advance(0.015)
    queue.add(ring.chain("b"), 1)
    queue.add(ring.chain("c"), 2).answer(b"3")
    loop.advance(0.015)
    assert ring.names() == ""
    loop.advance(0.006)
    assert ring.names() == "c"


def test_an_answer_that_cannot_be_written_gives_the_buffer_back_with_length_0(queue: AnswerQueue, ring: Ring) -> None:
    queue.add(ring.chain("a", bad_address=True)).answer(b"1234")
    queue.add(ring.chain("b")).answer(b"1234")
    assert ring.used == [("a", 0), ("b", 4)]


def test_cleared_requests_are_never_answered(queue: AnswerQueue, ring: Ring, loop: SteppedLoop) -> None:
    slow = queue.add(ring.chain("a"), 0)
    queue.add(ring.chain("b"), 1).answer(b"2")
    queue.clear()
    slow.answer(b"1")
    loop.advance(1)
    assert ring.used == []
