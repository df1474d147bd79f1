"""The life of a stream: every command in every state, and what it means for the guest's side and the engine's."""

from __future__ import annotations

import pytest
from vsnd_hybrid.backends.base import Direction
from vsnd_hybrid.device.life import State
from vsnd_hybrid.wire import PcmSetParams, Request, Status

from tests.unit.stream_rig import (
    BAD_MSG,
    NOT_SUPP,
    OK,
    POLLING,
    PREPARE,
    RELEASE,
    SET_PARAMS,
    START,
    STOP,
    WAY,
    XRUNS,
    Rig,
    params,
)

#: The state after each command (SET_PARAMS, PREPARE, START, STOP, RELEASE); None where it is refused.
TABLE: dict[State, tuple[State | None, ...]] = {
    State.NEW: (State.PARAMS_SET, None, None, None, None),
    State.PARAMS_SET: (State.PARAMS_SET, State.PREPARED, None, None, State.RELEASED),
    State.PREPARED: (State.PARAMS_SET, State.PREPARED, State.RUNNING, None, State.RELEASED),
    State.RUNNING: (None, None, None, State.STOPPED, None),
    State.STOPPED: (None, State.PREPARED, State.RUNNING, None, State.RELEASED),
    State.RELEASED: (State.PARAMS_SET, State.PREPARED, None, None, None),
}
CELLS = [
    (before, command, after)
    for before, row in TABLE.items()
    for command, after in zip((SET_PARAMS, PREPARE, START, STOP, RELEASE), row, strict=True)
]


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize(("before", "command", "after"), CELLS, ids=lambda value: getattr(value, "name", "refused"))
def test_a_command_leads_from_state_to_state_or_is_refused(
    direction: Direction, before: State, command: Request, after: State | None
) -> None:
    rig = Rig(direction)
    try:
        rig.do(*WAY[before])
        assert rig.stream.state is before
        rig.engine_calls()
        assert rig.ask(command) is (BAD_MSG if after is None else OK)
        assert rig.stream.state is (after or before)
        if after is None:
            assert rig.calls == [], "a refused command does nothing"
    finally:
        rig.close()


@pytest.mark.parametrize(
    ("chosen", "status"),
    [
        (params(format=17), NOT_SUPP),
        (params(format=0xFF), NOT_SUPP),
        (params(rate=6), OK),
        (params(rate=8), NOT_SUPP),
        (params(rate=0xFF), NOT_SUPP),
        (params(channels=0), NOT_SUPP),
        (params(channels=3), NOT_SUPP),
        (params(features=POLLING | XRUNS), OK),
        (params(features=1 << 0), NOT_SUPP),
        (params(features=1 << 1), NOT_SUPP),
        (params(features=1 << 3), NOT_SUPP),
        (params(features=1 << 31), NOT_SUPP),
        (params(buffer=0xFFFFF000), NOT_SUPP),
        (params(period=0), BAD_MSG),
        (params(buffer=0, period=0), BAD_MSG),
        (params(buffer=0), BAD_MSG),
        (params(buffer=1024, period=4096), BAD_MSG),
        (params(buffer=4096, period=1000), BAD_MSG),
        (params(buffer=4092, period=1023), BAD_MSG),
        (params(buffer=8, period=2), BAD_MSG),
        (params(buffer=4096, period=4096), OK),
        (params(buffer=4, period=4), OK),
        (params(buffer=3, period=1, channels=1, format=4), OK),
    ],
    ids=repr,
)
def test_set_params_takes_what_was_offered_and_whole_periods_and_frames(
    rig: Rig, chosen: PcmSetParams, status: Status
) -> None:
    assert rig.ask(SET_PARAMS, chosen) is status
    assert rig.stream.state is (State.PARAMS_SET if status is OK else State.NEW)


def test_refused_params_leave_the_earlier_ones(rig: Rig) -> None:
    rig.do(SET_PARAMS)
    before = rig.stream.params
    assert rig.ask(SET_PARAMS, params(format=17)) is NOT_SUPP
    assert rig.stream.params is before
    assert rig.stream.state is State.PARAMS_SET


def test_the_data_path_is_told_the_shape_of_the_stream(rig: Rig) -> None:
    assert rig.ask(SET_PARAMS, params(features=POLLING, format=4, channels=1, rate=6)) is OK
    rig.do(PREPARE)
    assert rig.pcm.shape == {
        "buffer_bytes": 4096,
        "period_bytes": 1024,
        "frame_bytes": 1,
        "rate": 44100,
        "silence": 0x80,
        "polling": True,
    }


def test_messages_are_queued_from_prepare_on_and_consumed_from_start_on(rig: Rig) -> None:
    rig.do(SET_PARAMS)
    rig.calls.clear()
    rig.do(PREPARE)
    assert rig.calls == ["pcm.configure", "engine0.open", "pcm.accept"]
    rig.calls.clear()
    rig.do(START)
    assert rig.calls == ["pcm.start", "engine0.start", "pcm.watch"]


def test_an_engine_that_discards_has_its_messages_answered_at_once(rig: Rig) -> None:
    rig.backend.discards = True
    rig.do(SET_PARAMS, PREPARE)
    assert "pcm.discard" in rig.calls
    assert "pcm.accept" not in rig.calls


def test_stop_ends_consuming_before_its_answer_and_lets_the_engine_play_its_rest(rig: Rig) -> None:
    rig.backend.slow_drain = True
    rig.do(SET_PARAMS, PREPARE, START)
    rig.calls.clear()
    assert rig.send(STOP) == [OK], "STOP does not wait for the engine"
    assert rig.calls[0] == "pcm.stop"
    assert rig.engine_calls() == ["engine0.drain"]
    assert rig.backend.streams[0].done is not None
    rig.backend.streams[0].done()
    assert rig.engine_calls() == ["engine0.stop"]


def test_an_engine_that_never_gets_to_the_end_is_stopped_after_a_while(rig: Rig) -> None:
    rig.backend.slow_drain = True
    rig.do(*WAY[State.STOPPED])
    rig.engine_calls()
    rig.loop.advance(1.9)
    assert rig.engine_calls() == []
    rig.loop.advance(0.2)
    assert rig.engine_calls() == ["engine0.stop"]


def test_start_while_the_rest_is_played_goes_on_and_the_late_end_of_it_stops_nothing(rig: Rig) -> None:
    rig.backend.slow_drain = True
    rig.do(*WAY[State.STOPPED])
    rig.engine_calls()
    rig.do(START)
    assert rig.engine_calls() == ["engine0.start"]
    assert rig.backend.streams[0].done is not None
    rig.backend.streams[0].done()
    rig.loop.advance(10)
    assert rig.engine_calls() == []


def test_release_gives_everything_back_before_its_answer_and_is_not_held_up_by_the_engine(rig: Rig) -> None:
    rig.backend.slow_drain = True
    rig.do(*WAY[State.STOPPED])
    rig.engine_calls()
    assert rig.send(RELEASE) == [OK]
    assert rig.calls == ["pcm.flush(OK)", "pcm.reject", "pcm.flush(IO_ERR)"]
    rig.calls.clear()
    assert rig.engine_calls() == []
    assert rig.backend.streams[0].done is not None
    rig.backend.streams[0].done()
    assert rig.engine_calls() == ["engine0.stop"]
    rig.loop.advance(1)
    assert rig.engine_calls() == ["engine0.close"]


def test_recovery_from_an_xrun_keeps_the_engines_stream(rig: Rig) -> None:
    rig.do(*WAY[State.RUNNING])
    rig.engine_calls()
    rig.do(STOP, RELEASE, PREPARE, START)
    calls = rig.engine_calls()
    assert "engine0.close" not in calls
    assert len(rig.backend.streams) == 1
    rig.loop.advance(10)
    assert rig.engine_calls() == [], "nor is it closed later"
    assert calls[-1] == "engine0.start"


def test_new_params_after_release_wait_for_the_rest_and_then_open_another_stream(rig: Rig) -> None:
    rig.backend.slow_drain = True
    rig.do(*WAY[State.RELEASED], SET_PARAMS)
    rig.engine_calls()
    answers = rig.send(PREPARE)
    assert rig.engine_calls() == []
    assert answers == []
    assert rig.backend.streams[0].done is not None
    rig.backend.streams[0].done()
    rig.loop.settle(lambda: answers == [OK])
    assert rig.engine_calls() == ["engine0.close", "engine1.open"]


def test_a_rest_that_does_not_end_costs_the_next_stream_half_a_second_and_no_error(rig: Rig) -> None:
    rig.backend.slow_drain = True
    rig.do(*WAY[State.RELEASED], SET_PARAMS)
    answers = rig.send(PREPARE)
    rig.loop.advance(0.6)
    rig.loop.settle(lambda: bool(answers))
    assert answers == [OK]
    assert rig.engine_calls()[-2:] == ["engine0.close", "engine1.open"]


def test_set_params_from_prepared_gives_messages_back_and_closes_the_engines_stream(rig: Rig) -> None:
    rig.do(*WAY[State.PREPARED])
    rig.calls.clear()
    rig.do(SET_PARAMS)
    assert [call for call in rig.calls if call.startswith("pcm.")] == ["pcm.reject", "pcm.flush(IO_ERR)"]
    assert rig.engine_calls() == ["engine0.close"]


def test_prepare_from_stopped_is_as_if_released_before(rig: Rig) -> None:
    rig.do(*WAY[State.STOPPED])
    rig.engine_calls()
    rig.do(PREPARE)
    assert rig.calls == ["pcm.flush(OK)", "pcm.reject", "pcm.flush(IO_ERR)", "pcm.accept"]


def test_capture_stops_at_once_without_a_rest(capture: Rig) -> None:
    capture.do(*WAY[State.RUNNING])
    capture.calls.clear()
    assert capture.send(STOP) == [OK]
    assert capture.calls[0] == "pcm.stop"
    assert capture.engine_calls() == ["engine0.stop"]


def test_an_xrun_is_told_to_a_driver_that_wants_to_know_at_most_once_a_period(rig: Rig) -> None:
    assert rig.ask(SET_PARAMS, params(features=XRUNS, period=1024, buffer=4096)) is OK  # 256 frames: 5.3 ms
    rig.do(PREPARE)
    rig.stream.xrun()
    assert rig.told == [], "it does not run"
    rig.do(START)
    rig.stream.xrun()
    rig.loop.advance(0.005)
    rig.stream.xrun()
    assert rig.told == [0]
    rig.loop.advance(0.001)
    rig.stream.xrun()
    assert rig.told == [0, 0]


def test_an_xrun_is_not_told_to_a_driver_that_did_not_ask(rig: Rig) -> None:
    rig.do(*WAY[State.RUNNING])
    rig.stream.xrun()
    assert rig.told == []
