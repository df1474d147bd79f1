"""Control requests over the real socket: however they lie in memory, and whatever becomes of the others."""

from __future__ import annotations

import struct

import pytest
from vsnd_hybrid.device import answers
from vsnd_hybrid.wire import CHMAP_MAX_SIZE, ChmapInfo, JackInfo, PcmInfo, QueryInfo, Request, Status

from tests.device.conftest import Connect, Serve
from tests.device.driver import Requests
from tests.device.engines import HandBackend

SET_PARAMS, PREPARE, START = Request.PCM_SET_PARAMS, Request.PCM_PREPARE, Request.PCM_START
STOP, RELEASE = Request.PCM_STOP, Request.PCM_RELEASE

event_idx = pytest.mark.parametrize("event_idx", [True, False], ids=["event_idx", "flags"])
indirect = pytest.mark.parametrize("indirect", [True, False], ids=["indirect", "direct"])
pieces = pytest.mark.parametrize("pieces", [[], [1], [3], [7]], ids=["whole", "1", "3", "7"])


def test_the_configuration_counts_what_the_requests_tell(serve: Serve, connect: Connect) -> None:
    serve(HandBackend(), outputs=2, inputs=1)
    driver = connect()
    jacks, streams, chmaps = struct.unpack_from("<III", driver.native.config)
    assert (jacks, streams, chmaps) == (3, 3, 3 * 8)
    for code, count, size in (
        (Request.JACK_INFO, jacks, JackInfo.SIZE),
        (Request.PCM_INFO, streams, PcmInfo.SIZE),
        (Request.CHMAP_INFO, chmaps, ChmapInfo.SIZE),
    ):
        answer, items = driver.info(code, 0, count, size)
        assert answer is Status.OK
        assert len(items) == count
        assert driver.info(code, count, 1, size)[0] is Status.BAD_MSG


def test_pcm_info_tells_what_the_engine_can_do(serve: Serve, connect: Connect) -> None:
    serve(HandBackend(), outputs=1, inputs=1)
    answer, items = connect().info(Request.PCM_INFO, 0, 2, PcmInfo.SIZE)
    assert answer is Status.OK
    playback, capture = (PcmInfo.unpack(item) for item in items)
    assert (playback.direction, capture.direction) == (0, 1)
    assert playback.formats == 1 << 4 | 1 << 5 | 1 << 17
    assert playback.rates == 1 << 1 | 1 << 6 | 1 << 7
    assert (playback.channels_min, playback.channels_max) == (1, 8)
    assert playback.features == 1 << 2 | 1 << 4
    assert playback.hda_fn_nid == capture.hda_fn_nid


@event_idx
@indirect
@pieces
def test_a_request_may_be_cut_into_any_descriptors(
    serve: Serve, connect: Connect, event_idx: bool, indirect: bool, pieces: list[int]
) -> None:
    serve(HandBackend())
    driver = connect(event_idx=event_idx, indirect=indirect, queue_size=256)
    whole = driver.info(Request.PCM_INFO, 0, 2, PcmInfo.SIZE)
    assert whole[0] is Status.OK
    assert driver.info(Request.PCM_INFO, 0, 2, PcmInfo.SIZE, pieces=pieces, indirect=indirect) == whole


def test_a_larger_stride_is_padded_with_zeros(serve: Serve, connect: Connect) -> None:
    serve(HandBackend())
    driver = connect()
    _, plain = driver.info(Request.CHMAP_INFO, 0, 3, ChmapInfo.SIZE)
    _, wide = driver.info(Request.CHMAP_INFO, 0, 3, ChmapInfo.SIZE + 5)
    assert wide == [item + bytes(5) for item in plain]
    assert len(plain[0]) == 6 + CHMAP_MAX_SIZE


@pytest.mark.parametrize("room", range(1, 4))
def test_an_answer_without_room_for_a_status_comes_back_with_length_0_and_the_queue_goes_on(
    serve: Serve, connect: Connect, room: int
) -> None:
    serve(HandBackend())
    driver = connect()
    assert driver.request(struct.pack("<II", PREPARE, 0), room) == (b"", 0)
    assert driver.request(b"", room) == (b"", 0)
    assert driver.set_params() is Status.OK


def test_a_bad_request_costs_no_other_one_its_answer(serve: Serve, connect: Connect) -> None:
    serve(HandBackend())
    driver = connect()
    assert driver.request(b"\x01") == (struct.pack("<I", Status.BAD_MSG), 4)
    assert driver.request(struct.pack("<I", 0x300) + bytes(12)) == (struct.pack("<I", Status.NOT_SUPP), 4)
    assert driver.request(QueryInfo(Request.PCM_INFO, 0xFFFFFFFF, 2, 32).pack(), 64)[0] == struct.pack(
        "<I", Status.BAD_MSG
    )
    assert driver.command(START, stream=9) is Status.BAD_MSG
    driver.do(SET_PARAMS, PREPARE, START, STOP, RELEASE)


def test_requests_that_are_sent_together_are_answered_in_their_order(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine an engine that does nothing can be slow, and be overtaken.
    monkeypatch.setattr(answers, "GRACE_S", 10.0)
    serve(HandBackend(), outputs=2, inputs=2)
    driver = connect()
    for stream in range(4):
        driver.do(SET_PARAMS, stream=stream)
    requests = Requests(driver)
    for stream in range(4):
        requests.push(f"prepare {stream}", struct.pack("<II", PREPARE, stream))
        requests.push(f"start {stream}", struct.pack("<II", START, stream))
    requests.send()
    assert requests.answered(8) == [f"{what} {stream}" for stream in range(4) for what in ("prepare", "start")]
    assert {requests.status(name) for name in requests.answers} == {Status.OK}


def test_an_engine_that_hangs_delays_neither_another_stream_nor_questions(serve: Serve, connect: Connect) -> None:
    backend = HandBackend()
    serve(backend, outputs=2, inputs=0)
    driver = connect()
    driver.do(SET_PARAMS)
    backend.may_open.clear()
    requests = Requests(driver)
    requests.push("hangs", struct.pack("<II", PREPARE, 0))
    requests.push("behind it", struct.pack("<II", START, 0))
    requests.push("question", QueryInfo(Request.PCM_INFO, 0, 0, 0).pack())
    requests.push("other stream", struct.pack("<II", STOP, 1))
    requests.send()
    assert requests.answered(2) == ["question", "other stream"]
    assert requests.answered(2) == ["hangs", "behind it"]
    assert requests.status("hangs") is Status.IO_ERR
    assert requests.status("behind it") is Status.BAD_MSG, "it was never prepared"
    backend.may_open.set()
    driver.do(PREPARE, START)
    assert [stream.closed for stream in backend.streams] == [True, False], "the late one is closed"


def test_jacks_are_remapped_until_the_driver_is_reset(serve: Serve, connect: Connect) -> None:
    serve(HandBackend())
    driver = connect()
    _, before = driver.info(Request.JACK_INFO, 0, 2, JackInfo.SIZE)
    assert driver.request(struct.pack("<IIII", Request.JACK_REMAP, 1, 7, 3))[0] == struct.pack("<I", Status.OK)
    _, after = driver.info(Request.JACK_INFO, 0, 2, JackInfo.SIZE)
    assert JackInfo.unpack(after[1]).hda_reg_defconf & 0xFF == 0x73
    assert after[0] == before[0]
    driver.native.reset()
    assert driver.info(Request.JACK_INFO, 0, 2, JackInfo.SIZE)[1] == before
