"""The demo's own measure, and the demo itself."""

from __future__ import annotations

from vsnd_hybrid.tools.demo.result import Match, match
from vsnd_hybrid.tools.demo.tune import FRAME_BYTES, RATE, played, recorded

FRAMES = 10_000
SENT = b"".join(number.to_bytes(4, "little") for number in range(1, FRAMES + 1))


def test_frames_in_one_piece_between_silences_are_exact() -> None:
    assert match(SENT, bytes(400) + SENT + bytes(800), 4) == Match(sent=FRAMES, found=FRAMES, exact=True)


def test_a_gap_is_not_exact_and_what_is_missing_is_not_found() -> None:
    heard = SENT[: 4 * 6400] + SENT[4 * 7040 :]
    assert match(SENT, heard, 4) == Match(sent=FRAMES, found=FRAMES - 640, exact=False)


def test_silence_in_the_middle_is_not_exact_though_all_is_found() -> None:
    heard = SENT[: 4 * 6400] + bytes(400) + SENT[4 * 6400 :]
    assert match(SENT, heard, 4) == Match(sent=FRAMES, found=FRAMES, exact=False)


def test_frames_out_of_order_are_not_found() -> None:
    half = 4 * 5056
    assert match(SENT, SENT[half:] + SENT[:half], 4).found < FRAMES


def test_bytes_beside_a_frame_s_border_are_not_found() -> None:
    assert match(SENT, b"\0" + SENT, 4).found == 0


def test_the_tunes_are_of_the_length_that_is_promised_and_not_silent() -> None:
    assert 5.5 < len(played()) / FRAME_BYTES / RATE < 6.5
    assert 2 < len(recorded()) / FRAME_BYTES / RATE < 4
    assert max(played()) > 0
