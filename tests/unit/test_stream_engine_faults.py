"""An engine that refuses, fails, blocks or dies: what the guest is answered, and what becomes of the engine's stream."""

from __future__ import annotations

import pytest
from vsnd_hybrid.backends.base import EngineEvent
from vsnd_hybrid.device.life import State
from vsnd_hybrid.device.requests import PcmCommand

from tests.unit.stream_rig import (
    IO_ERR,
    PREPARE,
    RELEASE,
    SET_PARAMS,
    START,
    STOP,
    WAY,
    Rig,
)


def test_an_engine_that_refuses_to_open_is_an_io_error_and_the_state_stays(rig: Rig) -> None:
    rig.backend.failing = {"open"}
    rig.do(SET_PARAMS)
    rig.calls.clear()
    assert rig.ask(PREPARE) is IO_ERR
    assert rig.stream.state is State.PARAMS_SET
    assert "pcm.accept" not in rig.calls
    rig.backend.failing = set()
    rig.do(PREPARE)


def test_an_engine_that_refuses_to_start_is_an_io_error_and_nothing_is_consumed(rig: Rig) -> None:
    rig.do(*WAY[State.PREPARED])
    rig.backend.failing = {"start"}
    rig.calls.clear()
    assert rig.ask(START) is IO_ERR
    assert rig.stream.state is State.PREPARED
    assert rig.calls[:3] == ["pcm.start", "engine0.start", "pcm.stop"]
    assert rig.engine_calls()[-1] == "engine0.close"
    rig.backend.failing = set()
    rig.do(START)
    assert rig.engine_calls() == ["engine1.open", "engine1.start"], "the next START opens another stream"


@pytest.mark.parametrize("what", ["stop", "drain", "close"])
def test_an_engine_that_fails_later_costs_the_guest_nothing(rig: Rig, what: str) -> None:
    rig.backend.failing = {what}
    rig.do(*WAY[State.RELEASED], SET_PARAMS, PREPARE, START)


def test_an_engine_that_blocks_is_an_io_error_and_is_closed_when_it_answers(rig: Rig) -> None:
    rig.backend.blocking = {"open"}
    rig.do(SET_PARAMS)
    answers = rig.send(PREPARE)
    rig.backend.entered.acquire()
    rig.loop.advance(0.89)
    assert answers == []
    rig.loop.advance(0.02)
    assert answers == [IO_ERR]
    assert rig.stream.state is State.PARAMS_SET
    rig.backend.blocking = set()
    rig.backend.release.release()
    assert rig.engine_calls() == ["engine0.open", "engine0.close"]
    assert answers == [IO_ERR], "the late answer is nobody's"
    rig.do(PREPARE)


def test_an_engine_that_blocks_in_start_is_an_io_error_and_nothing_is_consumed_later(rig: Rig) -> None:
    rig.do(*WAY[State.PREPARED])
    rig.backend.blocking = {"start"}
    answers = rig.send(START)
    rig.backend.entered.acquire()
    rig.loop.advance(1)
    assert answers == [IO_ERR]
    assert rig.stream.state is State.PREPARED
    assert rig.calls[-1] == "pcm.stop"
    rig.backend.blocking = set()
    rig.backend.release.release()
    assert rig.engine_calls()[-1] == "engine0.close"
    rig.do(START, STOP)


def test_commands_to_one_stream_wait_for_the_one_before(rig: Rig) -> None:
    rig.backend.blocking = {"open"}
    rig.do(SET_PARAMS)
    order: list[str] = []
    for code in (PREPARE, START, STOP):
        rig.stream.command(PcmCommand(code, 0), lambda status, code=code: order.append(f"{code.name} {status.name}"))  # type: ignore[misc]
    rig.backend.entered.acquire()
    assert order == []
    rig.backend.blocking = set()
    rig.backend.release.release()
    rig.loop.settle(lambda: len(order) == 3)
    assert order == ["PCM_PREPARE OK", "PCM_START OK", "PCM_STOP OK"]


def test_commands_that_wait_behind_a_hung_engine_are_answered_in_time_too(rig: Rig) -> None:
    rig.backend.blocking = {"open"}
    rig.do(SET_PARAMS)
    first = rig.send(PREPARE)
    rig.backend.entered.acquire()
    rig.loop.advance(0.5)
    second = rig.send(PREPARE)
    rig.loop.advance(0.5)
    assert (first, second) == ([IO_ERR], [])
    rig.loop.advance(0.5)
    assert second == [IO_ERR]
    rig.backend.blocking = set()
    rig.backend.release.release()
    assert rig.engine_calls() == ["engine0.open", "engine0.close"], "what nobody waits for is not begun"


def test_an_engine_stream_that_dies_before_start_is_replaced_at_start(rig: Rig) -> None:
    rig.do(*WAY[State.PREPARED])
    rig.backend.sinks[0].post(EngineEvent.FAILED, "unplugged")
    rig.loop.settle(lambda: "engine0.close" in rig.calls)
    rig.engine_calls()
    rig.do(START)
    assert rig.engine_calls() == ["engine1.open", "engine1.start"]


def test_what_an_engine_stream_tells_after_it_was_closed_is_ignored(rig: Rig) -> None:
    rig.do(*WAY[State.PREPARED], RELEASE, SET_PARAMS, PREPARE)
    rig.engine_calls()
    rig.backend.sinks[0].post(EngineEvent.FAILED, "late")
    assert rig.engine_calls() == []
    rig.do(START)
    assert rig.engine_calls() == ["engine1.start"]
