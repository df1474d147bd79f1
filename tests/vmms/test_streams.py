"""A guest behind every monitor plays and records, to the frame."""

from __future__ import annotations

import pytest

from tests.guests.audio import locate, numbered
from tests.vmms.conftest import UNHURRIED, HostFactory, spoken
from tests.vmms.dialects import DIALECTS
from tests.vmms.vmm import Vmm

FRAMES = 9600
dialects = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


@dialects
def test_what_a_guest_plays_is_heard(host: HostFactory, dialect: type[Vmm]) -> None:
    computer = host()
    with dialect(computer.socket) as vmm:
        assert vmm.config.streams == 2
        assert vmm.play(numbered(FRAMES)).ok
    assert locate(computer.take(), FRAMES).holds(FRAMES)


@dialects
def test_what_is_spoken_a_guest_records(host: HostFactory, dialect: type[Vmm]) -> None:
    with dialect(host().socket) as vmm:
        recording = vmm.record(frames=FRAMES, periods=UNHURRIED)
    assert recording.frames == FRAMES
    assert spoken(recording.data).in_order


@dialects
def test_a_guest_plays_and_records_at_once(host: HostFactory, dialect: type[Vmm]) -> None:
    computer = host()
    with dialect(computer.socket) as vmm:
        recording, playing = vmm.start_record(frames=FRAMES, periods=UNHURRIED), vmm.start_play(numbered(FRAMES))
        assert playing.wait().ok
        assert spoken(recording.wait().data).in_order
    assert locate(computer.take(), FRAMES).holds(FRAMES)


@dialects
def test_a_guest_is_told_of_its_underruns(host: HostFactory, dialect: type[Vmm]) -> None:
    with dialect(host().socket) as vmm:
        playback = vmm.play(numbered(FRAMES), starve=(FRAMES // 2, 0.1))
        assert playback.xruns > 0
        assert vmm.wait_event("PCM_XRUN").data == playback.stream


@dialects
@pytest.mark.parametrize("polling", [True, False], ids=["polled", "kicked"])
def test_replaced_eventfds_cost_no_frame(host: HostFactory, dialect: type[Vmm], polling: bool) -> None:
    computer = host()
    with dialect(computer.socket) as vmm:
        run = vmm.start_play(numbered(FRAMES), polling=polling)
        for messages in (2, 5, 8):
            assert run.wait_messages(messages, 10)
            for queue in range(4):
                vmm.replace_kick(queue)
                vmm.replace_call(queue)
        assert run.wait().ok
        assert vmm.record(frames=480).frames == 480
    assert locate(computer.take(), FRAMES).holds(FRAMES)
