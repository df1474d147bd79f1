"""A stream is reset, or its ring stops and starts under it: what the engine is asked to do."""

from __future__ import annotations

from vsnd_hybrid.device.life import State

from tests.unit.stream_rig import (
    PREPARE,
    SET_PARAMS,
    START,
    WAY,
    Rig,
)


def test_reset_drops_everything_at_once_also_what_was_to_be_heard(rig: Rig) -> None:
    rig.backend.slow_drain = True
    rig.do(*WAY[State.STOPPED])
    rig.engine_calls()
    rig.stream.reset()
    assert rig.calls[:3] == ["pcm.stop", "pcm.reject", "pcm.flush(IO_ERR)"]
    assert rig.engine_calls() == ["engine0.close"]
    assert rig.stream.state is State.NEW
    rig.loop.advance(10)
    assert rig.engine_calls() == []


def test_reset_while_an_engine_opens_answers_nobody_and_closes_what_was_opened(rig: Rig) -> None:
    rig.backend.blocking = {"open"}
    rig.do(SET_PARAMS)
    answers = rig.send(PREPARE)
    rig.backend.entered.acquire()
    rig.stream.reset()
    rig.backend.blocking = set()
    rig.backend.release.release()
    assert rig.engine_calls() == ["engine0.open", "engine0.close"]
    rig.loop.advance(10)
    assert answers == []
    assert rig.stream.state is State.NEW
    assert "pcm.accept" not in rig.calls


def test_a_paused_machine_pauses_the_engine_and_continues_it(rig: Rig) -> None:
    rig.do(*WAY[State.RUNNING])
    rig.engine_calls()
    rig.stream.ring_stopping()
    assert rig.engine_calls() == ["engine0.stop"]
    assert rig.stream.state is State.RUNNING
    rig.stream.ring_started()
    assert rig.engine_calls() == ["engine0.start"]


def test_pauses_that_follow_each_other_faster_than_the_engine_leave_it_running(rig: Rig) -> None:
    rig.do(*WAY[State.RUNNING])
    rig.engine_calls()
    for _ in range(3):
        rig.stream.ring_stopping()
        rig.stream.ring_started()
    calls = rig.engine_calls()
    assert calls[-1] == "engine0.start"
    assert "engine0.close" not in calls
    rig.stream.ring_stopping()
    assert rig.engine_calls() == ["engine0.stop"]


def test_a_pause_while_the_engine_is_being_continued_stops_it(rig: Rig) -> None:
    rig.do(*WAY[State.RUNNING])
    rig.stream.ring_stopping()
    rig.backend.blocking = {"start"}
    rig.stream.ring_started()
    rig.backend.entered.acquire()
    rig.stream.ring_stopping()
    rig.backend.blocking = set()
    rig.backend.release.release()
    rig.loop.settle(lambda: rig.calls[-1] == "engine0.stop")
    rig.engine_calls()
    rig.stream.ring_started()
    assert rig.engine_calls() == ["engine0.start"]


def test_a_stream_that_does_not_run_is_left_alone_by_a_pause(rig: Rig) -> None:
    rig.do(*WAY[State.PREPARED])
    rig.engine_calls()
    rig.stream.ring_stopping()
    rig.stream.ring_started()
    assert rig.engine_calls() == []


def test_start_while_the_ring_is_stopped_starts_the_engine_with_the_ring(rig: Rig) -> None:
    rig.do(*WAY[State.PREPARED])
    rig.engine_calls()
    rig.stream.ring_stopping()
    rig.do(START)
    assert rig.engine_calls() == []
    rig.stream.ring_started()
    assert rig.engine_calls() == ["engine0.start"]
