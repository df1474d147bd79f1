"""What every control request must be read as, said a second time from the specification, with none of the device's code.

Shared by the fuzz target (`fuzz_requests`) and the test that replays its corpus.
"""

from __future__ import annotations

from collections.abc import Sequence

from vsnd_hybrid.device.requests import ANSWER_BYTES, Answer, PcmCommand, Remap, RequestReader
from vsnd_hybrid.layout import Layout
from vsnd_hybrid.wire import ChmapInfo, JackInfo, PcmInfo, Request

JACKS = [JackInfo(nid, 1, 2, 3, 1) for nid in range(3)]
PCMS = [PcmInfo(nid, 20, 1 << 5, 1 << 7, 0, 1, 2) for nid in range(2)]
CHMAPS = [ChmapInfo(nid, 0, 2, b"\x03\x04") for nid in range(4)]

READER = RequestReader(
    jacks=len(JACKS),
    streams=len(PCMS),
    infos={Request.JACK_INFO: lambda: JACKS, Request.PCM_INFO: lambda: PCMS, Request.CHMAP_INFO: lambda: CHMAPS},
)

OK, BAD_MSG, NOT_SUPP = 0x8000, 0x8001, 0x8002
#: Number of items and bytes of one, for each INFO request.
_INFO = {0x0001: (3, 24), 0x0100: (2, 32), 0x0200: (4, 24)}
_REMAP, _SET_PARAMS = 0x0002, 0x0101
_COMMANDS = range(0x0101, 0x0106)


def check(data: bytes) -> None:
    """Input: the bytes of room for the answer (le32), then the request. AssertionError if it is read as something else."""
    room, request = max(4, _word(data, 0)), data[4:]
    decided = READER.read(request, room)
    match decided:
        case Answer():
            code = _word(decided.data, 0)
            assert code == _status(request, room), f"answered with {code:#x}"
            assert decided.data == _answer(request, code)
        case Remap():
            assert _status(request, room) is None
            remap = decided.request
            assert (remap.jack_id, remap.association, remap.sequence) == tuple(_word(request, at) for at in (4, 8, 12))
        case PcmCommand():
            assert _status(request, room) is None
            assert (decided.code, decided.stream_id) == (_word(request, 0), _word(request, 4))
            assert (decided.params is None) == (decided.code != _SET_PARAMS)
            if decided.params is not None:
                params = decided.params
                words = (params.buffer_bytes, params.period_bytes, params.features)
                assert words == tuple(_word(request, at) for at in (8, 12, 16))
                assert bytes((params.channels, params.format, params.rate)) == request[20:23]


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _status(request: bytes, room: int) -> int | None:
    """The answer that the form of a request decides; None: it is a command for somebody who is there."""
    if len(request) < 4:
        return BAD_MSG
    code = _word(request, 0)
    if code in _INFO:
        return _info_status(request, room, *_INFO[code])
    if code == _REMAP:
        return None if len(request) >= 16 and _word(request, 4) < len(JACKS) else BAD_MSG
    if code not in _COMMANDS:
        return NOT_SUPP
    needed = 24 if code == _SET_PARAMS else 8
    return None if len(request) >= needed and _word(request, 4) < len(PCMS) else BAD_MSG


def _info_status(request: bytes, room: int, items: int, item_bytes: int) -> int:
    if len(request) < 16:
        return BAD_MSG
    start, count, size = (_word(request, at) for at in (4, 8, 12))
    if start + count > items:
        return BAD_MSG
    fits = 4 + count * size <= min(room, ANSWER_BYTES)
    return OK if count == 0 or (size >= item_bytes and fits) else BAD_MSG


def _answer(request: bytes, status: int) -> bytes:
    head = status.to_bytes(4, "little")
    if status != OK:
        return head
    start, count, size = (_word(request, at) for at in (4, 8, 12))
    items: dict[int, Sequence[Layout]] = {0x0001: JACKS, 0x0100: PCMS, 0x0200: CHMAPS}
    chosen = items[_word(request, 0)][start : start + count]
    return head + b"".join(item.pack() + bytes(size - item.SIZE) for item in chosen)
