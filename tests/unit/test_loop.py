"""The loop: what it waits for, and what a failing callback does to it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator

import pytest
from vsnd_hybrid.loop import Loop

from tests.unit.fakes import SteppedLoop


@pytest.fixture
def loop() -> Iterator[SteppedLoop]:
    made = SteppedLoop()
    yield made
    made.close()


def test_calls_from_other_threads_are_made_in_order_on_the_loops_thread(loop: SteppedLoop) -> None:
    made: list[tuple[int, int]] = []

    def ask() -> None:
        for number in range(3):
            loop.call_soon(lambda number=number: made.append((number, threading.get_ident())))  # type: ignore[misc]
        loop.call_soon(loop.stop)

    thread = threading.Thread(target=ask)
    thread.start()
    loop.run()
    thread.join()
    assert made == [(number, threading.get_ident()) for number in range(3)]


def test_timers_fire_in_the_order_of_their_time_unless_cancelled(loop: SteppedLoop) -> None:
    fired: list[str] = []
    loop.call_later(0.3, lambda: fired.append("late"))
    loop.call_later(0.1, lambda: fired.append("early"))
    loop.call_later(0.2, lambda: fired.append("never")).cancel()
    loop.advance(0.25)
    assert fired == ["early"]
    loop.advance(0.1)
    assert fired == ["early", "late"]
    assert loop.next_due() is None


def test_a_descriptor_is_watched_until_it_is_not() -> None:
    loop = Loop()
    read_fd, write_fd = os.pipe()
    try:
        seen: list[bytes] = []
        loop.watch(read_fd, lambda: seen.append(os.read(read_fd, 1)))
        os.write(write_fd, b"ab")
        loop.run_once(0)
        loop.run_once(0)
        loop.run_once(0)
        assert seen == [b"a", b"b"]
        loop.unwatch(read_fd)
        os.write(write_fd, b"c")
        loop.run_once(0)
        assert seen == [b"a", b"b"]
    finally:
        os.close(read_fd)
        os.close(write_fd)
        loop.close()


def test_a_callback_that_fails_is_one_line_in_the_log_and_the_loop_goes_on(
    loop: SteppedLoop, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[None] = []

    def fail() -> None:
        raise KeyError("what")

    loop.call_soon(fail)
    loop.call_soon(lambda: done.append(None))
    with caplog.at_level(logging.INFO):
        loop.run_once(0)
    assert done == [None]
    assert [record.getMessage() for record in caplog.records] == ["a callback failed: KeyError: 'what'"]
    assert caplog.records[0].exc_info is None


def test_stop_before_run_is_not_lost(loop: SteppedLoop) -> None:
    loop.stop()
    loop.run()


def test_a_closed_loop_may_still_be_called_from_other_threads(loop: SteppedLoop) -> None:
    loop.close()
    loop.call_soon(lambda: None)
    loop.stop()
    loop.close()
