"""A guest cannot fill the host's disk with log lines."""

from __future__ import annotations

import logging

import pytest
from vsnd_hybrid.logs import LimitedLog

from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock, caplog: pytest.LogCaptureFixture) -> LimitedLog:
    caplog.set_level(logging.DEBUG)
    return LimitedLog(logging.getLogger("limited"), burst=3, per_minute=60, clock=clock)


def test_a_burst_is_let_through_and_then_a_few_lines_a_minute_with_the_number_of_those_left_out(
    log: LimitedLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(10):
        log.warning("line %d", number)
    clock.now = 1.5
    log.warning("later")
    log.warning("too soon")
    assert caplog.messages == ["line 0", "line 1", "line 2", "7 more lines like the next were left out", "later"]


def test_debugging_is_not_limited(log: LimitedLog, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        log.debug("detail")
    assert len(caplog.messages) == 10


def test_lines_below_the_level_cost_nothing_of_the_allowance(log: LimitedLog, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(10):
        log.info("quiet")
    log.warning("heard")
    assert caplog.messages == ["heard"]
