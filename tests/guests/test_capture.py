"""What an engine captures is recorded whole by applications in a real guest."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.guests.audio import Heard, locate, numbered, wav
from tests.guests.engines import Engine
from tests.guests.linux import LinuxGuest
from tests.sessions.pipewire import unless_late

#: Longer than what is spoken, and the silence around it.
SECONDS = 5
#: What is played meanwhile.
FRAMES, FIRST = SECONDS * 48_000, 1_000_000
RUNNING = "grep -q RUNNING /proc/asound/card0/pcm0c/sub0/status"


@pytest.fixture(scope="module")
def guest_files() -> Mapping[str, bytes]:
    return {"signal.wav": wav(numbered(FRAMES, FIRST))}


def record(guest: LinuxGuest, engine: Engine, options: str = "") -> tuple[Heard, bool]:
    """What arecord took of what the engine spoke, and whether that was all spoken."""
    recorder = guest.start_job(f"arecord -q -t raw -f dat -d {SECONDS} {options} take.raw")
    guest.await_guest(RUNNING)
    said = engine.speak()
    recorder.check()
    return locate(guest.read_file("take.raw"), engine.spoken), said


@pytest.mark.parametrize(
    "options",
    [
        pytest.param("", id="default"),
        pytest.param("-D hw:0,0 --period-size=480 --buffer-size=1920", id="480x4"),
        pytest.param("-D hw:0,0 --period-size=1024 --buffer-size=4096", id="1024x4"),
        pytest.param("-D hw:0,0 -M", id="mmap"),
    ],
)
def test_arecord_records_every_frame(guest: LinuxGuest, engine: Engine, options: str) -> None:
    recorded = unless_late(lambda: record(guest, engine, options), engine.spoken)
    assert recorded.holds(engine.spoken), recorded


def test_a_guest_plays_and_records_at_once(guest: LinuxGuest, engine: Engine) -> None:
    def both() -> tuple[Heard, bool]:
        listening = engine.listen()
        player = guest.start_job("aplay -q signal.wav")
        taken = record(guest, engine)
        player.check()
        heard = locate(listening.stop(), FRAMES, FIRST)
        if not (heard.holds(FRAMES, FIRST) or listening.in_time):
            return locate(b"", engine.spoken), False
        assert heard.holds(FRAMES, FIRST), heard
        return taken

    recorded = unless_late(both, engine.spoken)
    assert recorded.holds(engine.spoken), recorded
