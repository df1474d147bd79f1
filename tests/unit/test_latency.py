"""What `latency` asks an engine for, and that an engine which rounds down to a power of two gets what was meant."""

from __future__ import annotations

import pytest
from vsnd_hybrid.backends.base import BackendError, Direction, PcmParams
from vsnd_hybrid.backends.latency import WORDS, check, largest_frames, wakeup_frames


def params(period_frames: int, periods: int) -> PcmParams:
    period = 4 * period_frames
    return PcmParams(Direction.OUTPUT, "S16", 48000, 2, 4, period, period * periods)


@pytest.mark.parametrize(
    ("period", "periods", "expected"),
    [
        (480, 4, (480, 512, 1440)),
        (480, 2, (480, 480, 480)),
        (480, 3, (480, 512, 960)),
        (1024, 2, (1024, 1024, 1024)),
        (1024, 4, (1024, 1024, 3072)),
        (256, 3, (256, 256, 512)),
        (4800, 1, (4800, 4800, 4800)),
        (1, 1, (1, 1, 1)),
    ],
)
def test_each_word_asks_for_its_number_of_frames(period: int, periods: int, expected: tuple[int, int, int]) -> None:
    assert tuple(wakeup_frames(word, params(period, periods)) for word in WORDS) == expected


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("periods", range(1, 17))
@pytest.mark.parametrize("period", [1, 64, 100, 441, 480, 777, 1024, 4000])
def test_no_word_asks_for_more_than_the_buffer_bears(word: str, period: int, periods: int) -> None:
    guest = params(period, periods)
    assert 1 <= wakeup_frames(word, guest) <= largest_frames(guest)


def test_a_number_is_a_number_of_frames() -> None:
    assert wakeup_frames("300", params(480, 4)) == 300


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "65537", "1.5", "٣"])
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(BackendError, match="expected low, balanced, power, or a number of frames from 1 to 65536"):
        check(text)
