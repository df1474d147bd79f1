"""The measure itself: what `locate` says of recordings whose faults are known."""

from __future__ import annotations

from tests.guests.audio import FRAME_BYTES, locate, locate_looped, numbered, silence

SIGNAL = numbered(10_000)


def cut(samples: bytes, start: int, stop: int) -> bytes:
    return samples[start * FRAME_BYTES : stop * FRAME_BYTES]


def test_a_whole_signal_between_silences_is_found_whole() -> None:
    heard = locate(silence(500) + SIGNAL + silence(700), 10_000)
    assert heard.holds(10_000)
    assert heard.gapless


def test_no_frame_of_the_signal_is_silence() -> None:
    assert locate(silence(1) + SIGNAL, 10_000).found == 10_000


def test_silence_inside_is_told_with_its_place_and_length() -> None:
    heard = locate(cut(SIGNAL, 0, 4000) + silence(128) + cut(SIGNAL, 4000, 10_000), 10_000)
    assert heard.holds(10_000)
    assert heard.silences == ((3999, 128),)
    assert not heard.gapless


def test_a_missing_stretch_is_told() -> None:
    heard = locate(cut(SIGNAL, 0, 4000) + cut(SIGNAL, 4480, 10_000), 10_000)
    assert heard.missing == ((4000, 480),)
    assert not heard.in_order


def test_a_missing_end_is_seen() -> None:
    heard = locate(cut(SIGNAL, 0, 9_999), 10_000)
    assert heard.in_order
    assert not heard.holds(10_000)


def test_repeated_frames_are_counted() -> None:
    heard = locate(cut(SIGNAL, 0, 4000) + cut(SIGNAL, 3900, 10_000), 10_000)
    assert (heard.repeated, heard.disordered) == (100, 1)
    assert not heard.in_order


def test_exchanged_stretches_are_out_of_order() -> None:
    heard = locate(cut(SIGNAL, 5000, 10_000) + cut(SIGNAL, 0, 5000), 10_000)
    assert heard.disordered == 1
    assert not heard.in_order


def test_samples_that_are_not_of_the_signal_are_foreign() -> None:
    heard = locate(SIGNAL + b"\x01\x02\x03\x04" * 5, 10_000)
    assert heard.foreign == 5
    assert not heard.in_order


def test_an_empty_recording_holds_nothing() -> None:
    assert not locate(b"", 10_000).in_order
    assert not locate(silence(100), 10_000).in_order


def test_a_part_of_a_signal_can_be_looked_for_by_itself() -> None:
    heard = locate(SIGNAL, 2000, first=3000)
    assert (heard.first, heard.last, heard.found) == (3000, 4999, 2000)


def test_each_round_of_a_looped_signal_is_told_by_itself() -> None:
    rounds = locate_looped(cut(SIGNAL, 6000, 10_000) + SIGNAL + cut(SIGNAL, 0, 10), 10_000)
    assert [(part.first, part.last) for part in rounds] == [(6000, 9999), (0, 9999), (0, 9)]
    assert all(part.gapless for part in rounds)
