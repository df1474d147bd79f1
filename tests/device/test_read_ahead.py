"""An engine whose turns are larger than a guest's buffer bears: audio is read ahead of it, and nothing is lost by that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from vsnd_hybrid.backends.base import Direction
from vsnd_hybrid.guest import VirtualGuest
from vsnd_hybrid.vhost import running

from tests.device.stride import StrideBackend
from tests.guests import audio
from tests.processes import await_until


class Bench:
    def __init__(self, engine: StrideBackend, guest: VirtualGuest) -> None:
        self.engine, self.guest = engine, guest

    def heard(self, frames: int) -> audio.Heard:
        """What was heard of a signal of so many frames, once all that was read ahead was."""
        await_until(lambda: self.engine.ahead_frames == 0, 5, "the end of what was read ahead")
        return audio.locate(bytes(self.engine.tape), frames)


@contextmanager
def bench(path: Path, direction: Direction) -> Iterator[Bench]:
    engine = StrideBackend(direction)
    with ExitStack() as stack:
        stack.enter_context(running(engine.device, path))
        yield Bench(engine, stack.enter_context(VirtualGuest(path)))


@pytest.fixture
def out(socket_path: Path) -> Iterator[Bench]:
    with bench(socket_path, Direction.OUTPUT) as made:
        yield made


@pytest.mark.parametrize(("period", "periods"), [(480, 2), (480, 3), (256, 3), (512, 2), (1000, 1)])
def test_large_turns_are_heard_whole_and_without_a_gap(out: Bench, period: int, periods: int) -> None:
    assert out.guest.play(audio.numbered(48_000), period_frames=period, periods=periods).ok
    heard = out.heard(48_000)
    assert heard.holds(48_000), heard
    assert out.engine.hurried < out.engine.turns // 2
    assert len(heard.silences) <= out.engine.hurried, heard


def test_a_buffer_that_bears_the_turns_is_not_read_ahead(out: Bench) -> None:
    with out.guest.playing(period_frames=480, periods=4) as run:
        for count in range(4, 80, 4):
            assert run.wait_messages(count)
            assert out.engine.ahead_frames == 0


def test_a_pause_loses_nothing(out: Bench) -> None:
    run = out.guest.start_play(audio.numbered(48_000), period_frames=480, periods=2)
    for messages in range(5, 95, 9):
        assert run.wait_messages(messages)
        run.pause()
        run.resume()
    assert run.wait().ok
    heard = out.heard(48_000)
    assert heard.holds(48_000), heard


def test_what_was_read_ahead_is_heard_at_a_pause(out: Bench) -> None:
    run = out.guest.start_play(audio.numbered(48_000), period_frames=480, periods=2)
    assert run.wait_messages(20)
    run.pause()
    heard = out.heard(48_000)
    assert heard.in_order, heard
    assert heard.found >= 20 * 480, "all that the guest was told to be consumed"
    run.resume()
    assert run.wait().ok
    assert out.heard(48_000).holds(48_000)


def test_a_paused_machine_loses_nothing(out: Bench) -> None:
    run = out.guest.start_play(audio.numbered(48_000), period_frames=480, periods=2)
    for messages in (10, 30, 50):
        assert run.wait_messages(messages)
        bases = out.guest.stop_rings()
        taken = len(out.engine.tape)
        out.guest.start_rings(bases)
        assert len(out.engine.tape) >= taken
    assert run.wait().ok
    heard = out.heard(48_000)
    assert heard.holds(48_000), heard


def test_turns_that_change_their_size_lose_nothing(out: Bench) -> None:
    run = out.guest.start_play(audio.numbered(72_000), period_frames=480, periods=2)
    for messages, turn in ((30, 256), (60, 2048), (90, 480), (120, 4096)):
        assert run.wait_messages(messages)
        out.engine.turn = turn
    assert run.wait().ok
    heard = out.heard(72_000)
    assert heard.holds(72_000), heard


def test_a_new_driver_hears_nothing_of_the_old_one(out: Bench, socket_path: Path) -> None:
    run = out.guest.start_play(audio.numbered(48_000), total_frames=1 << 40, period_frames=480, periods=2)
    assert run.wait_messages(20)
    out.guest.kill()
    await_until(lambda: out.engine.ahead_frames == 0, 5, "the reset")
    out.engine.tape.clear()
    with VirtualGuest(socket_path) as guest:
        assert guest.play(audio.numbered(9_600, first=500_000), period_frames=480, periods=2).ok
        await_until(lambda: out.engine.ahead_frames == 0, 5, "the end of what was read ahead")
    heard = audio.locate(bytes(out.engine.tape), 9_600, first=500_000)
    assert heard.holds(9_600, first=500_000), heard


@pytest.mark.parametrize(("period", "periods"), [(480, 2), (480, 3), (256, 3)])
def test_large_turns_are_recorded_whole(socket_path: Path, period: int, periods: int) -> None:
    with bench(socket_path, Direction.INPUT) as made:
        report = made.guest.record(frames=48_000, period_frames=period, periods=periods)
        assert report.ok
        recorded = audio.locate(report.data, 48_000, first=made_first(report.data))
        assert recorded.in_order, recorded
        assert made.engine.hurried < made.engine.turns // 2


def made_first(data: bytes) -> int:
    """The number of the first frame: what was given before there was a place for it is not recorded."""
    return audio.locate(data[: audio.FRAME_BYTES], 48_000).first
