"""PCM messages one by one, with an engine that the test plays itself: when they come back, and with what."""

from __future__ import annotations

import pytest
from vsnd_hybrid.wire import Request, Status

from tests.device.conftest import Connect, Serve
from tests.device.driver import FRAME, PERIOD, RX, TX, XRUNS, Driver
from tests.device.engines import HandBackend, HandStream

SET_PARAMS, PREPARE, START = Request.PCM_SET_PARAMS, Request.PCM_PREPARE, Request.PCM_START
STOP, RELEASE = Request.PCM_STOP, Request.PCM_RELEASE
OK, IO_ERR = Status.OK, Status.IO_ERR


def numbered(count: int, first: int = 0) -> bytes:
    """`count` bytes that tell their place."""
    return bytes((first + at) * 7 % 251 for at in range(count))


class Rig:
    """A device, its driver, and the engine in the test's hands."""

    def __init__(self, serve: Serve, connect: Connect, outputs: int = 1, inputs: int = 1) -> None:
        self.backend = HandBackend()
        self.device = serve(self.backend, outputs=outputs, inputs=inputs)
        self.driver: Driver = connect()

    def prepare(self, stream: int = 0, **shape: int) -> HandStream:
        """SET_PARAMS and PREPARE; the engine's stream."""
        assert self.driver.set_params(stream, **shape) is OK
        self.driver.do(PREPARE, stream=stream)
        return self.backend.streams[-1]


@pytest.fixture
def rig(serve: Serve, connect: Connect) -> Rig:
    return Rig(serve, connect)


def test_nothing_is_consumed_before_start(rig: Rig) -> None:
    engine = rig.prepare()
    message = rig.driver.push(numbered(PERIOD))
    rig.driver.publish(TX)
    assert engine.port.read(PERIOD) == b""
    assert rig.driver.returned(TX) == []
    rig.driver.do(START)
    assert engine.port.read(PERIOD) == numbered(PERIOD)
    assert [done.head for done in rig.driver.await_returned(TX, 1)] == [message.head]


def test_a_message_comes_back_when_its_last_byte_was_consumed_and_not_before(rig: Rig) -> None:
    engine = rig.prepare()
    message = rig.driver.push(numbered(PERIOD))
    rig.driver.publish(TX)
    rig.driver.do(START)
    assert engine.port.read(PERIOD - FRAME) == numbered(PERIOD)[:-FRAME]
    assert rig.driver.returned(TX) == []
    assert rig.driver.untouched(message)
    assert engine.port.read(FRAME) == numbered(PERIOD)[-FRAME:]
    (done,) = rig.driver.await_returned(TX, 1)
    assert done.used_length == 8
    assert rig.driver.status_of(message)[0] is OK


def test_latency_is_what_the_engine_plays_before_the_end_of_the_message(rig: Rig) -> None:
    engine = rig.prepare()
    first, second = (rig.driver.push(numbered(480)) for _ in range(2))
    rig.driver.publish(TX)
    rig.driver.do(START)
    engine.port.read(960, delay_bytes=4000)
    rig.driver.await_returned(TX, 2)
    assert rig.driver.status_of(first) == (OK, 4000 + 480)
    assert rig.driver.status_of(second) == (OK, 4000 + 960)


def test_after_stop_nothing_is_consumed_and_start_goes_on_where_it_was(rig: Rig) -> None:
    engine = rig.prepare()
    data = numbered(3 * PERIOD)
    for at in range(0, 3 * PERIOD, PERIOD):
        rig.driver.push(data[at : at + PERIOD])
    rig.driver.publish(TX)
    rig.driver.do(START)
    heard = engine.port.read(PERIOD + 100)
    rig.driver.do(STOP)
    assert engine.port.read(PERIOD) == b""
    assert len(rig.driver.returned(TX)) == 1
    rig.driver.do(START)
    heard += engine.port.read(3 * PERIOD)
    assert heard == data
    assert len(rig.driver.await_returned(TX, 2)) == 2


def test_release_gives_everything_back_first_also_what_nobody_has_looked_at(rig: Rig) -> None:
    rig.prepare()
    told = [rig.driver.push(numbered(PERIOD)) for _ in range(2)]
    rig.driver.publish(TX)
    rig.driver.do(START, STOP)
    silent = [rig.driver.push(numbered(PERIOD)) for _ in range(2)]
    rig.driver.publish(TX, kick=False)
    rig.driver.do(RELEASE)
    # They are looked for without waiting: the answer came behind them.
    assert [done.head for done in rig.driver.returned(TX)] == [message.head for message in told + silent]
    assert {rig.driver.status_of(message)[0] for message in told + silent} == {OK}


def test_a_released_stream_refuses_messages_until_it_is_prepared_again(rig: Rig) -> None:
    rig.prepare()
    rig.driver.do(RELEASE)
    message = rig.driver.push(numbered(PERIOD))
    rig.driver.publish(TX)
    assert rig.driver.await_returned(TX, 1)[0].used_length == 8
    assert rig.driver.status_of(message)[0] is IO_ERR
    rig.driver.do(PREPARE)
    rig.driver.push(numbered(PERIOD))
    rig.driver.publish(TX)
    rig.driver.do(START)
    assert rig.driver.returned(TX) == [], "it waits to be played"


@pytest.mark.parametrize("stream", [1, 2, 0xFFFFFFFF], ids=["a capture stream", "no stream", "no stream at all"])
def test_a_message_for_no_playback_stream_is_an_error_at_once(rig: Rig, stream: int) -> None:
    message = rig.driver.push(numbered(PERIOD), stream)
    rig.driver.publish(TX)
    rig.driver.await_returned(TX, 1)
    assert rig.driver.status_of(message)[0] is IO_ERR


def test_a_message_without_room_for_its_status_comes_back_with_length_0(rig: Rig) -> None:
    rig.prepare()
    rig.driver.push(numbered(PERIOD), status_bytes=7)
    rig.driver.push(numbered(PERIOD), status_bytes=0)
    rig.driver.publish(TX)
    assert [done.used_length for done in rig.driver.await_returned(TX, 2)] == [0, 0]


def test_recorded_messages_come_back_full_with_the_status_behind_the_data(rig: Rig) -> None:
    engine = rig.prepare(1)
    message = rig.driver.push(PERIOD, 1)
    rig.driver.publish(RX)
    rig.driver.do(START, stream=1)
    assert engine.port.write(numbered(PERIOD), delay_bytes=192) == PERIOD
    (done,) = rig.driver.await_returned(RX, 1)
    assert done.used_length == PERIOD + 8
    assert bytes(rig.driver.native.read(message.data, PERIOD)) == numbered(PERIOD)
    assert rig.driver.status_of(message) == (OK, 192)


def test_a_recorded_message_comes_back_short_at_release(rig: Rig) -> None:
    engine = rig.prepare(1)
    messages = [rig.driver.push(PERIOD, 1) for _ in range(3)]
    rig.driver.publish(RX)
    rig.driver.do(START, stream=1)
    assert engine.port.write(numbered(PERIOD + 400)) == PERIOD + 400
    rig.driver.do(STOP, RELEASE, stream=1)
    assert [done.used_length for done in rig.driver.returned(RX)] == [PERIOD + 8, 400 + 8, 8]
    assert bytes(rig.driver.native.read(messages[1].data, 400)) == numbered(PERIOD + 400)[PERIOD:]
    assert {rig.driver.status_of(message)[0] for message in messages} == {OK}


def test_what_does_not_fit_into_the_drivers_buffers_is_dropped(rig: Rig) -> None:
    engine = rig.prepare(1)
    rig.driver.push(PERIOD, 1)
    rig.driver.publish(RX)
    rig.driver.do(START, stream=1)
    assert engine.port.write(numbered(3 * PERIOD)) == PERIOD


def test_underruns_and_overruns_are_told_to_a_driver_that_asked(rig: Rig) -> None:
    playback = rig.prepare(0, features=XRUNS)
    capture = rig.prepare(1, features=XRUNS)
    rig.driver.push(numbered(PERIOD))
    rig.driver.push(PERIOD, 1)
    rig.driver.publish(TX)
    rig.driver.publish(RX)
    rig.driver.do(START, stream=0)
    rig.driver.do(START, stream=1)
    assert len(playback.port.read(3 * PERIOD)) == PERIOD
    playback.port.read(PERIOD)
    assert rig.driver.native.wait_event(10)
    assert [event[:2] for event in rig.driver.native.take_events()] == [(0x1101, 0)]
    capture.port.write(numbered(3 * PERIOD))
    capture.port.write(numbered(PERIOD))
    assert rig.driver.native.wait_event(10)
    assert [event[:2] for event in rig.driver.native.take_events()] == [(0x1101, 1)]


def test_set_params_from_prepared_gives_messages_back_as_not_played(rig: Rig) -> None:
    rig.prepare()
    message = rig.driver.push(numbered(PERIOD))
    rig.driver.publish(TX)
    rig.driver.do(SET_PARAMS)
    assert len(rig.driver.returned(TX)) == 1
    assert rig.driver.status_of(message)[0] is IO_ERR


def test_streams_share_a_ring_without_waiting_for_each_other(serve: Serve, connect: Connect) -> None:
    rig = Rig(serve, connect, outputs=3, inputs=0)
    engines = [rig.prepare(stream) for stream in range(3)]
    messages = {}
    for turn in range(2):
        for stream in range(3):
            message = rig.driver.push(numbered(PERIOD, first=stream * 100 + turn), stream)
            messages[message.head] = (stream, turn)
    rig.driver.publish(TX)
    for stream in range(3):
        rig.driver.do(START, stream=stream)
    for stream in (2, 0, 1):
        assert engines[stream].port.read(PERIOD) == numbered(PERIOD, first=stream * 100)
        assert [messages[done.head] for done in rig.driver.await_returned(TX, 1)] == [(stream, 0)]
    rig.driver.do(STOP, RELEASE, stream=0)
    assert [messages[done.head] for done in rig.driver.returned(TX)] == [(0, 1)]
    assert engines[1].port.read(PERIOD) == numbered(PERIOD, first=101), "the others are not touched by it"
