"""Notifications when there are event buffers, and when there are none."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import pytest
from vsnd_hybrid.device.notify import Notifier
from vsnd_hybrid.wire import EventMsg

from tests.unit.fakes import SteppedLoop


class EventBuffer:
    """A buffer of the driver, and what it got."""

    def __init__(self, writable: int = 8) -> None:
        self.writable = writable
        self.got: bytes | None = None

    def write(self, data: bytes, offset: int = 0, /) -> int:
        self._data = data
        return len(data)

    def complete(self, written: int, /) -> bool:
        self.got = self._data[:written] if written else b""
        return True

    @property
    def event(self) -> EventMsg | None:
        return EventMsg.unpack(self.got) if self.got else None


class EventRing:
    """The driver's event queue: what it put there, and how often the device looked."""

    def __init__(self) -> None:
        self.waiting: deque[EventBuffer] = deque()
        self.looks = 0

    def put(self, *buffers: EventBuffer) -> None:
        self.waiting.extend(buffers)

    def pop(self) -> EventBuffer | None:
        self.looks += 1
        return self.waiting.popleft() if self.waiting else None


@pytest.fixture
def loop() -> Iterator[SteppedLoop]:
    made = SteppedLoop()
    yield made
    made.close()


@pytest.fixture
def ring() -> EventRing:
    return EventRing()


@pytest.fixture
def notifier(loop: SteppedLoop, ring: EventRing) -> Notifier:
    return Notifier(loop, ring.pop)


def test_an_event_is_told_at_once_to_a_buffer_that_was_there_before(notifier: Notifier, ring: EventRing) -> None:
    buffer = EventBuffer()
    ring.put(buffer)
    notifier.xrun(3)
    assert buffer.event == EventMsg(0x1101, 3)


def test_jacks_are_told_by_what_happened_to_them(notifier: Notifier, ring: EventRing) -> None:
    first, second = EventBuffer(), EventBuffer()
    ring.put(first, second)
    notifier.jack(1, False)
    notifier.jack(1, True)
    assert (first.event, second.event) == (EventMsg(0x1001, 1), EventMsg(0x1000, 1))


def test_buffers_are_left_alone_when_nothing_happens(notifier: Notifier, ring: EventRing, loop: SteppedLoop) -> None:
    ring.put(EventBuffer())
    notifier.buffers_may_have_come()
    loop.advance(60)
    assert ring.looks == 0
    assert loop.next_due() is None


def test_without_a_buffer_the_newest_state_of_each_thing_is_told_when_one_comes(
    notifier: Notifier, ring: EventRing, loop: SteppedLoop
) -> None:
    notifier.jack(0, False)
    notifier.jack(1, False)
    notifier.xrun(0)
    notifier.jack(0, True)
    buffers = [EventBuffer() for _ in range(4)]
    ring.put(*buffers)
    loop.advance(2)
    assert [buffer.event for buffer in buffers] == [
        EventMsg(0x1000, 0),
        EventMsg(0x1001, 1),
        EventMsg(0x1101, 0),
        None,
    ]
    assert len(notifier) == 0


def test_a_driver_that_gives_no_buffers_costs_a_look_a_second(
    notifier: Notifier, ring: EventRing, loop: SteppedLoop
) -> None:
    notifier.xrun(0)
    loop.advance(60)
    ring.looks = 0
    loop.advance(60)
    assert ring.looks <= 60


def test_many_events_without_a_buffer_do_not_make_it_look_more_often(notifier: Notifier, ring: EventRing) -> None:
    for _ in range(100):
        notifier.xrun(0)
    assert ring.looks == 1


def test_a_buffer_that_is_too_small_is_given_back_and_the_event_kept(notifier: Notifier, ring: EventRing) -> None:
    small, good = EventBuffer(writable=7), EventBuffer()
    ring.put(small, good)
    notifier.xrun(0)
    assert small.got == b""
    assert good.event == EventMsg(0x1101, 0)


def test_a_new_driver_is_told_nothing_of_the_time_before_it(
    notifier: Notifier, ring: EventRing, loop: SteppedLoop
) -> None:
    notifier.xrun(0)
    notifier.reset()
    buffer = EventBuffer()
    ring.put(buffer)
    loop.advance(60)
    assert buffer.got is None
