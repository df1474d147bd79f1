"""What applications in a real guest play is heard whole: every frame, in order, through each engine."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.guests.audio import numbered, wav
from tests.guests.engines import Engine
from tests.guests.linux import LinuxGuest

FRAMES = 72_000
SIGNAL = numbered(FRAMES)


@pytest.fixture(scope="module")
def guest_files() -> Mapping[str, bytes]:
    return {"signal.raw": SIGNAL, "signal.wav": wav(SIGNAL)}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param("", id="default"),
        pytest.param("-D hw:0,0 --period-size=480 --buffer-size=1920", id="480x4"),
        pytest.param("-D hw:0,0 --period-size=480 --buffer-size=960", id="480x2"),
        pytest.param("-D hw:0,0 --period-size=1024 --buffer-size=4096", id="1024x4"),
        pytest.param("-D hw:0,0 --period-size=777 --buffer-size=2331", id="777x3"),
        pytest.param("-D hw:0,0 -M", id="mmap"),
    ],
)
def test_aplay_is_heard_whole(guest: LinuxGuest, engine: Engine, options: str) -> None:
    heard = engine.hear(lambda: guest.run(f"aplay -q {options} signal.wav"), FRAMES)
    assert heard.holds(FRAMES), heard


def test_nothing_is_lost_when_an_application_pauses(guest: LinuxGuest, engine: Engine) -> None:
    heard = engine.hear(lambda: guest.run("rawpcm p signal.raw -p 480 -n 4 -P 30000,300"), FRAMES)
    assert heard.holds(FRAMES), heard


def test_nothing_is_lost_when_an_application_starves_the_stream(guest: LinuxGuest, engine: Engine) -> None:
    def play() -> None:
        done = guest.run("(head -c 120000 signal.raw; sleep 1; tail -c +120001 signal.raw) | aplay -t raw -f dat")
        assert "underrun" in done.err

    heard = engine.hear(play, FRAMES)
    assert heard.holds(FRAMES), heard


def test_an_application_that_drops_its_stream_leaves_the_next_one_whole(guest: LinuxGuest, engine: Engine) -> None:
    dropped = engine.hear(lambda: guest.run("rawpcm p signal.raw -p 480 -n 4 -X 20000"), FRAMES)
    assert dropped.in_order, dropped
    assert dropped.found < FRAMES

    heard = engine.hear(lambda: guest.run("aplay -q signal.wav"), FRAMES)
    assert heard.holds(FRAMES), heard
