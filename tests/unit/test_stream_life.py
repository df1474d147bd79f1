"""The life of a stream: every command in every state, and what it means for the guest's side and the engine's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import cast

import pytest
from vsnd_hybrid._core import PcmStream
from vsnd_hybrid.backends.base import Direction, EngineEvent
from vsnd_hybrid.device.config import Offer, StreamConfig
from vsnd_hybrid.device.control import ControlThread
from vsnd_hybrid.device.life import State
from vsnd_hybrid.device.notify import Notifier
from vsnd_hybrid.device.requests import PcmCommand
from vsnd_hybrid.device.stream import Stream
from vsnd_hybrid.wire import PcmFormat, PcmSetParams, Request, Status

from tests.unit.fakes import FakeBackend, FakePcm, SteppedLoop

SET_PARAMS, PREPARE, START = Request.PCM_SET_PARAMS, Request.PCM_PREPARE, Request.PCM_START
STOP, RELEASE = Request.PCM_STOP, Request.PCM_RELEASE
OK, BAD_MSG, NOT_SUPP, IO_ERR = Status.OK, Status.BAD_MSG, Status.NOT_SUPP, Status.IO_ERR

XRUNS, POLLING = 1 << 4, 1 << 2


def params(
    buffer: int = 4096, period: int = 1024, features: int = 0, channels: int = 2, format: int = 5, rate: int = 7
) -> PcmSetParams:
    """SET_PARAMS for stereo S16 at 48 kHz, unless told otherwise."""
    return PcmSetParams(0x101, 0, buffer, period, features, channels, format, rate)


class Rig:
    """One stream on a control thread of its own, and all calls that it makes, in order."""

    def __init__(self, direction: Direction) -> None:
        self.calls: list[str] = []
        self.loop = SteppedLoop()
        self.pcm = FakePcm(self.calls)
        self.backend = FakeBackend(self.calls)
        self.told: list[int] = []
        self.control = ControlThread("fake")
        self.stream = Stream(
            StreamConfig(direction=direction, backend=self.backend),
            Offer(direction, 0, frozenset({PcmFormat.S16, PcmFormat.U8}), frozenset({44100, 48000}), 1, 2),
            cast(PcmStream, self.pcm),
            self.control,
            self.loop,
            cast(Notifier, self),
            logging.getLogger("test"),
        )

    def xrun(self, stream_id: int) -> None:
        """The notifier's."""
        self.told.append(stream_id)

    def send(self, code: Request, chosen: PcmSetParams | None = None) -> list[Status]:
        """Send a command; its answer is in the list when there is one."""
        answers: list[Status] = []
        if code is SET_PARAMS:
            chosen = chosen or params()
        self.stream.command(PcmCommand(code, 0, chosen), answers.append)
        return answers

    def ask(self, code: Request, chosen: PcmSetParams | None = None) -> Status:
        """Send a command and wait for its answer."""
        answers = self.send(code, chosen)
        self.loop.settle(lambda: bool(answers))
        return answers[0]

    def do(self, *codes: Request) -> None:
        """Send commands that must succeed."""
        for code in codes:
            assert self.ask(code) is OK, code

    def engine_calls(self) -> list[str]:
        """What the engine was asked to do since this was called last; waits for what it was asked already."""
        done: list[None] = []
        self.control.job(lambda: None, lambda _, __: done.append(None), self.loop.call_soon).begin()
        self.loop.settle(lambda: bool(done))
        done.clear()  # once more, for what the loop asked for when it heard of the former
        self.control.job(lambda: None, lambda _, __: done.append(None), self.loop.call_soon).begin()
        self.loop.settle(lambda: bool(done))
        calls = [call for call in self.calls if not call.startswith("pcm.")]
        self.calls.clear()
        return calls

    def close(self) -> None:
        for _ in range(100):
            self.backend.release.release()
        self.control.close()
        assert self.control.join(10)
        self.loop.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig(Direction.OUTPUT)
    yield made
    made.close()


@pytest.fixture
def capture() -> Iterator[Rig]:
    made = Rig(Direction.INPUT)
    yield made
    made.close()


#: How a stream gets into each state.
WAY = {
    State.NEW: (),
    State.PARAMS_SET: (SET_PARAMS,),
    State.PREPARED: (SET_PARAMS, PREPARE),
    State.RUNNING: (SET_PARAMS, PREPARE, START),
    State.STOPPED: (SET_PARAMS, PREPARE, START, STOP),
    State.RELEASED: (SET_PARAMS, PREPARE, START, STOP, RELEASE),
}

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
