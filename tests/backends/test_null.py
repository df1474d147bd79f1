"""The null engine: at the stream's pace by the clock, or as fast as the guest can."""

from __future__ import annotations

import pytest
from vsnd_hybrid.backends import registry
from vsnd_hybrid.backends.base import BackendError
from vsnd_hybrid.guest import numbered

from tests.backends.conftest import OUTPUT, GuestFactory


@pytest.mark.parametrize(("rate", "period_frames"), [(48000, 480), (44100, 777)])
def test_playback_takes_as_long_as_the_sound_lasts(guest_on: GuestFactory, rate: int, period_frames: int) -> None:
    guest = guest_on(registry.create("null"))
    frames = rate // period_frames * period_frames
    report = guest.play(numbered(frames), rate=rate, period_frames=period_frames)
    assert report.ok
    assert report.frames == frames
    # By the times of the messages themselves: a period each period, from the first to the last.
    spread_s = (report.completions_ns[-1] - report.completions_ns[0]) / 1e9
    assert spread_s == pytest.approx((frames - period_frames) / rate, rel=0.05)


def test_capture_is_silence_of_the_format(guest_on: GuestFactory) -> None:
    guest = guest_on(registry.create("null"))
    assert guest.record(frames=4800).data == bytes(4800 * 4)
    assert guest.record(frames=4800, format="U8", channels=1).data == b"\x80" * 4800


@pytest.mark.parametrize("spec", ["null,paced=false", "null,paced=false,copy=true"])
def test_unpaced_everything_comes_back_at_once(guest_on: GuestFactory, spec: str) -> None:
    guest = guest_on(registry.create(spec), (OUTPUT,))
    report = guest.play(numbered(48000), total_frames=60 * 48000, period_frames=4800)
    assert report.ok
    assert report.frames == 60 * 48000
    assert report.seconds < 30, "a minute of sound took as long as half of it"


def test_unpaced_and_copied_capture_is_silence_too(guest_on: GuestFactory) -> None:
    guest = guest_on(registry.create("null,paced=false,copy=true"))
    assert guest.record(frames=48000, format="U8", channels=1).data == b"\x80" * 48000


def test_a_copy_that_stops_goes_on_at_the_next_start(guest_on: GuestFactory) -> None:
    guest = guest_on(registry.create("null,paced=false,copy=true"), (OUTPUT,))
    for _ in range(3):
        assert guest.play(numbered(48000)).ok


def test_a_copy_by_the_clock_is_no_choice() -> None:
    with pytest.raises(BackendError, match="copy is for paced=false"):
        registry.create("null,copy=true")
