"""What every control request is answered with as far as its form decides it: the table of the device, row by row."""

from __future__ import annotations

import struct

import pytest
from vsnd_hybrid.device.requests import ANSWER_BYTES, Answer, PcmCommand, Remap, RequestReader
from vsnd_hybrid.wire import ChmapInfo, JackInfo, PcmInfo, Request

OK, BAD_MSG, NOT_SUPP = (struct.pack("<I", code) for code in (0x8000, 0x8001, 0x8002))

JACKS = [JackInfo(nid, 1, 2, 3, 1) for nid in range(3)]
PCMS = [PcmInfo(nid, 20, 1 << 5, 1 << 7, 0, 1, 2) for nid in range(2)]
CHMAPS = [ChmapInfo(nid, 0, 2, b"\x03\x04") for nid in range(4)]

INFOS = [(Request.JACK_INFO, JACKS), (Request.PCM_INFO, PCMS), (Request.CHMAP_INFO, CHMAPS)]
COMMANDS = [
    Request.PCM_SET_PARAMS,
    Request.PCM_PREPARE,
    Request.PCM_START,
    Request.PCM_STOP,
    Request.PCM_RELEASE,
]

any_info = pytest.mark.parametrize(("code", "items"), INFOS, ids=[code.name for code, _ in INFOS])


def read(data: bytes, room: int = 4096) -> Answer | Remap | PcmCommand:
    reader = RequestReader(
        jacks=len(JACKS),
        streams=len(PCMS),
        infos={Request.JACK_INFO: lambda: JACKS, Request.PCM_INFO: lambda: PCMS, Request.CHMAP_INFO: lambda: CHMAPS},
    )
    return reader.read(data, room)


def answer(data: bytes, room: int = 4096) -> bytes:
    decided = read(data, room)
    assert isinstance(decided, Answer)
    return decided.data


def query(code: int, start: int, count: int, size: int) -> bytes:
    return struct.pack("<IIII", code, start, count, size)


@any_info
def test_info_tells_the_items_that_are_asked_for(code: Request, items: list[PcmInfo]) -> None:
    size = items[0].SIZE
    assert answer(query(code, 0, len(items), size)) == OK + b"".join(item.pack() for item in items)
    assert answer(query(code, 1, 1, size)) == OK + items[1].pack()


@any_info
def test_info_with_no_items_is_ok(code: Request, items: list[PcmInfo]) -> None:
    assert answer(query(code, 0, 0, 0), room=4) == OK
    assert answer(query(code, len(items), 0, items[0].SIZE), room=4) == OK


@any_info
def test_info_out_of_range_is_bad_and_does_not_wrap(code: Request, items: list[PcmInfo]) -> None:
    size = items[0].SIZE
    assert answer(query(code, 0, len(items) + 1, size)) == BAD_MSG
    assert answer(query(code, len(items), 1, size)) == BAD_MSG
    assert answer(query(code, 0xFFFFFFFF, 1, size)) == BAD_MSG
    assert answer(query(code, 0xFFFFFFFF, 2, size)) == BAD_MSG
    assert answer(query(code, 1, 0xFFFFFFFF, size)) == BAD_MSG


@any_info
def test_info_with_a_larger_stride_is_padded_with_zeros(code: Request, items: list[PcmInfo]) -> None:
    assert answer(query(code, 0, 2, items[0].SIZE + 9)) == OK + items[0].pack() + bytes(9) + items[1].pack() + bytes(9)


@any_info
def test_info_with_a_smaller_stride_is_bad(code: Request, items: list[PcmInfo]) -> None:
    assert answer(query(code, 0, 1, items[0].SIZE - 1)) == BAD_MSG
    assert answer(query(code, 0, 1, 0)) == BAD_MSG


@any_info
def test_info_whose_answer_does_not_fit_is_bad(code: Request, items: list[PcmInfo]) -> None:
    size = items[0].SIZE
    assert answer(query(code, 0, 2, size), room=4 + 2 * size - 1) == BAD_MSG
    assert answer(query(code, 0, 2, size), room=4 + 2 * size) != BAD_MSG
    assert answer(query(code, 0, 2, 0xFFFFFFFF), room=4096) == BAD_MSG


def test_nobody_makes_us_build_an_answer_of_gigabytes() -> None:
    assert answer(query(Request.PCM_INFO, 0, 1, 1 << 30), room=1 << 32) == BAD_MSG
    assert len(answer(query(Request.PCM_INFO, 0, 1, ANSWER_BYTES - 4), room=1 << 32)) == ANSWER_BYTES


@pytest.mark.parametrize("length", range(4))
def test_a_request_without_a_whole_code_is_bad(length: int) -> None:
    assert answer(bytes(length)) == BAD_MSG


@pytest.mark.parametrize(
    ("code", "length"),
    [(code, 16) for code, _ in INFOS]
    + [(Request.JACK_REMAP, 16)]
    + [(c, 8) for c in COMMANDS[1:]]
    + [(COMMANDS[0], 24)],
)
def test_a_request_shorter_than_its_structure_is_bad(code: int, length: int) -> None:
    data = struct.pack("<I", code) + bytes(length - 4)
    assert answer(data[:-1]) == BAD_MSG
    assert read(data) != Answer(BAD_MSG) or code in dict(INFOS)


@pytest.mark.parametrize("code", [0, 3, 0xFF, 0x106, 0x201, *range(0x300, 0x307), 0x8000, 0x1000, 0xFFFFFFFF])
def test_an_unknown_request_is_not_supported(code: int) -> None:
    assert answer(struct.pack("<I", code) + bytes(60)) == NOT_SUPP


@pytest.mark.parametrize("code", COMMANDS, ids=lambda code: code.name)
def test_a_command_is_for_a_stream_that_is_there(code: Request) -> None:
    def data(stream_id: int) -> bytes:
        return struct.pack("<II", code, stream_id) + bytes(16)

    command = read(data(1))
    assert isinstance(command, PcmCommand)
    assert (command.code, command.stream_id) == (code, 1)
    assert answer(data(2)) == BAD_MSG
    assert answer(data(0xFFFFFFFF)) == BAD_MSG


def test_set_params_brings_what_was_chosen() -> None:
    command = read(struct.pack("<IIIIIBBBB", 0x101, 1, 4096, 1024, 20, 2, 5, 7, 0xFF))
    assert isinstance(command, PcmCommand)
    assert command.params is not None
    chosen = command.params
    assert (chosen.buffer_bytes, chosen.period_bytes, chosen.features) == (4096, 1024, 20)
    assert (chosen.channels, chosen.format, chosen.rate) == (2, 5, 7)


def test_remap_is_for_a_jack_that_is_there() -> None:
    remap = read(struct.pack("<IIII", 2, 2, 4, 5))
    assert isinstance(remap, Remap)
    assert (remap.request.jack_id, remap.request.association, remap.request.sequence) == (2, 4, 5)
    assert answer(struct.pack("<IIII", 2, 3, 4, 5)) == BAD_MSG
