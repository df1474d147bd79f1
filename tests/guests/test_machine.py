"""What happens to a machine while it plays: it is paused, reset, killed, its driver is taken away."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.guests.audio import numbered, wav
from tests.guests.conftest import Bench
from tests.guests.engines import Engine
from tests.guests.linux import LinuxGuest

FRAMES = 144_000
#: A further signal, of other numbers.
NEXT_FRAMES, NEXT_FIRST = 48_000, 10_000_000
#: Far enough into the signal, and far enough from its end.
PLAYING = "awk '/hw_ptr/ && $3 > 20000 {found = 1} END {exit !found}' /proc/asound/card0/pcm0p/sub0/status"
DRIVER = "/sys/bus/virtio/drivers/virtio_snd"


@pytest.fixture(scope="module")
def guest_files() -> Mapping[str, bytes]:
    return {"signal.wav": wav(numbered(FRAMES)), "next.wav": wav(numbered(NEXT_FRAMES, NEXT_FIRST))}


def assert_plays_whole(guest: LinuxGuest, engine: Engine) -> None:
    """The next signal is heard whole, and nothing of the one before."""
    heard = engine.hear(lambda: guest.run("aplay -q next.wav"), NEXT_FRAMES, NEXT_FIRST)
    assert heard.holds(NEXT_FRAMES, NEXT_FIRST), heard


def test_nothing_is_lost_when_the_machine_is_paused(guest: LinuxGuest, engine: Engine) -> None:
    def play() -> None:
        player = guest.start_job("aplay -q -D hw:0,0 --period-size=480 --buffer-size=1920 signal.wav")
        guest.await_guest(PLAYING)
        for _ in range(3):
            guest.stop()
            guest.cont()
        player.check()

    heard = engine.hear(play, FRAMES)
    assert heard.holds(FRAMES), heard


def test_the_driver_can_be_taken_away_and_come_back(guest: LinuxGuest, engine: Engine) -> None:
    def play() -> None:
        player = guest.start_job("aplay -q signal.wav")
        guest.await_guest(PLAYING)
        device = guest.run(f"basename $(ls -d {DRIVER}/virtio*)").text.strip()
        guest.run(f"echo {device} >{DRIVER}/unbind")
        assert player.wait().status != 0
        guest.run(f"echo {device} >{DRIVER}/bind")

    heard = engine.hear(play, FRAMES)
    assert heard.in_order and heard.first == 0, heard
    assert_plays_whole(guest, engine)


def test_the_machine_can_be_reset(guest: LinuxGuest, engine: Engine) -> None:
    def play() -> None:
        guest.start_job("aplay -q signal.wav")
        guest.await_guest(PLAYING)
        guest.reset()

    heard = engine.hear(play, FRAMES)
    assert heard.in_order and heard.first == 0, heard
    assert_plays_whole(guest, engine)


def test_the_next_machine_is_served_when_one_was_killed(guest: LinuxGuest, engine: Engine, bench: Bench) -> None:
    def play() -> None:
        machine = bench.guest()
        machine.start_job("aplay -q signal.wav")
        machine.await_guest(PLAYING)
        machine.kill()

    heard = engine.hear(play, FRAMES)
    assert heard.in_order and heard.first == 0, heard

    successor = bench.guest()
    assert_plays_whole(successor, engine)
    assert successor.complaints() == []


def test_the_daemon_ends_at_once_while_a_guest_plays(guest: LinuxGuest, engine: Engine, bench: Bench) -> None:
    def play() -> None:
        machine = bench.guest()
        machine.start_job("aplay -q signal.wav")
        machine.await_guest(PLAYING)
        bench.daemon.stop()
        machine.kill()
        bench.daemon.start()

    heard = engine.hear(play, FRAMES)
    assert heard.in_order and heard.first == 0, heard
    assert_plays_whole(bench.guest(), engine)
