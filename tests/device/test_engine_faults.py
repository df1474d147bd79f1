"""Engines that hang, stall, refuse and die: the guest keeps its pace, gets its audio back, and nobody else notices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from vsnd_hybrid.backends.base import Backend, Direction
from vsnd_hybrid.device import DeviceConfig, SoundDevice, StreamConfig
from vsnd_hybrid.guest import VirtualGuest
from vsnd_hybrid.guest.reports import Playback, Recording
from vsnd_hybrid.guest.run import StreamRun
from vsnd_hybrid.vhost import running
from vsnd_hybrid.wire import Status

from tests.device.engines import TapBackend
from tests.faulty import FaultyBackend
from tests.guests.audio import locate, numbered
from tests.processes import await_until

Run = StreamRun[Playback] | StreamRun[Recording]

ENDLESS = 20 * 48000
PERIOD_S = 0.01
#: Linux gives a request up after a second.
ANSWER_S = 1.0
BOTH = pytest.mark.parametrize("direction", list(Direction), ids=["playback", "recording"])


class Bench:
    """A device with an output and an input on a faulty engine, and another output on a good one."""

    def __init__(self, path: Path) -> None:
        self.faulty, self.good = FaultyBackend(), TapBackend()
        self.faults = self.faulty.faults
        backends: list[tuple[Direction, Backend]] = [
            (Direction.OUTPUT, self.faulty),
            (Direction.OUTPUT, self.good),
            (Direction.INPUT, self.faulty),
        ]
        streams = tuple(StreamConfig(direction=direction, backend=backend) for direction, backend in backends)
        self._stack = ExitStack()
        self.device = self._stack.enter_context(running(SoundDevice(DeviceConfig(streams=streams)), path))
        self.guest = self._stack.enter_context(VirtualGuest(path, request_timeout=10))

    def begin(self, direction: Direction) -> Run:
        """Play numbered frames, or record, on the faulty engine without end."""
        if direction is Direction.OUTPUT:
            return self.guest.start_play(numbered(ENDLESS), stream=0)
        return self.guest.start_record(stream=2)

    def stats(self, direction: Direction) -> dict[str, int]:
        number = 0 if direction is Direction.OUTPUT else 2
        return self.device.streams[number].status()

    def close(self) -> None:
        self.faults.hanging.clear()
        self.faults.release.set()
        self.faults.moving.set()
        self._stack.close()


@pytest.fixture
def bench(run_dir: Path) -> Iterator[Bench]:
    bench = Bench(run_dir / "snd.sock")
    yield bench
    bench.close()


def await_pace(run: Run, periods: int = 50) -> None:
    """Wait until the stream moves on by so many periods."""
    assert run.wait_messages(run.messages_done + periods, 20)


def real_time(run: Run, after: int) -> bool:
    """Whether the last messages behind the `after`-th came back a period apart, on average."""
    done = [m.done_ns for m in run.stop().messages if m.done_ns][after:]
    seconds = (done[-1] - done[0]) / 1e9
    return bool(0.8 < seconds / (PERIOD_S * (len(done) - 1)) < 1.25)


# ---------------------------------------------------------------- it opens, and moves nothing


@BOTH
def test_with_an_engine_that_never_moves_the_guest_keeps_its_pace(bench: Bench, direction: Direction) -> None:
    bench.faults.moving.clear()
    run = bench.begin(direction)
    await_pace(run)
    assert bench.stats(direction)["stalls"] == 1
    # For a second it may be only late.
    await_until(lambda: bench.stats(direction)["xruns"] > 0, 10, "an xrun")
    assert bench.guest.wait_event("PCM_XRUN", timeout=10)
    assert real_time(run, after=5)


def test_what_is_played_to_an_engine_that_is_late_is_heard_from_the_beginning(bench: Bench) -> None:
    bench.faults.moving.clear()
    run = bench.begin(Direction.OUTPUT)
    await_until(lambda: bench.stats(Direction.OUTPUT)["ahead_bytes"] > 9600, 10, "something that is kept for it")
    bench.faults.moving.set()
    await_pace(run)
    run.pause()
    await_until(lambda: bench.stats(Direction.OUTPUT)["ahead_bytes"] == 0, 10, "the end")
    stats = bench.stats(Direction.OUTPUT)
    run.stop()
    tape = locate(bytes(bench.faulty.streams[-1].heard), ENDLESS)
    assert tape.in_order and tape.first == 0, tape
    assert tape.found * 4 >= stats["bytes"]
    assert (stats["stalls"], stats["stood_in_bytes"]) == (1, 0)


@BOTH
def test_an_engine_that_hangs_in_mid_play_is_stood_in_for_until_it_moves_again(
    bench: Bench, direction: Direction
) -> None:
    run = bench.begin(direction)
    await_pace(run, 10)
    bench.faults.moving.clear()
    await_until(lambda: bench.stats(direction)["stalls"] == 1, 10, "somebody who stands in")
    await_pace(run)
    missing = bench.stats(direction)["missing_bytes"]
    assert missing > 0
    bench.faults.moving.set()
    stream = bench.faulty.streams[-1]
    if direction is Direction.OUTPUT:
        heard = len(stream.heard)
        await_until(lambda: len(stream.heard) > heard + 9600, 10, "audio on the engine again")
    await_pace(run)
    run.stop()
    if direction is Direction.OUTPUT:
        tape = locate(bytes(stream.heard), ENDLESS)
        # What the clock let pass is missing in one piece; nothing was taken by both, and nothing twice.
        assert not (tape.repeated or tape.disordered or tape.foreign)
        assert len(tape.missing) == 1
    assert bench.stats(direction)["stalls"] == 1


@BOTH
def test_a_stream_on_another_engine_notices_nothing_of_a_hung_one(bench: Bench, direction: Direction) -> None:
    bench.faults.moving.clear()
    bench.faults.hanging = {"stop"}
    run = bench.begin(direction)
    other = bench.guest.start_play(numbered(48000), stream=1)
    await_pace(run)
    run.stop()
    assert other.wait().ok
    assert locate(bench.good.by_id[1].tape(), 48000).holds(48000)


# ---------------------------------------------------------------- its calls hang


@BOTH
@pytest.mark.parametrize("call", ["open", "start", "stop", "close"])
def test_a_call_that_never_returns_costs_the_guest_no_answer(bench: Bench, direction: Direction, call: str) -> None:
    bench.faults.hanging = {call}
    guest, stream = bench.guest, 0 if direction is Direction.OUTPUT else 2
    shape = {"buffer_bytes": 7680, "period_bytes": 1920}
    slowest, statuses = 0.0, []
    for _ in range(2):
        for command in (guest.prepare, guest.start, guest.stop, guest.release):
            if command == guest.prepare:
                statuses.append(guest.set_params(stream, **shape))
            begin = time.monotonic()
            statuses.append(command(stream))
            slowest = max(slowest, time.monotonic() - begin)
    assert Status.OK in statuses
    assert slowest < ANSWER_S
    # Another engine's stream and the questions of a driver are not held up.
    assert guest.play(numbered(4800), stream=1).ok
    bench.faults.hanging = set()
    bench.faults.release.set()
    bench.faults.await_call(call)


def test_an_engine_that_hung_in_start_is_used_again_when_it_is_well(bench: Bench) -> None:
    bench.faults.hanging = {"start"}
    guest = bench.guest
    assert guest.set_params(0, buffer_bytes=7680, period_bytes=1920) == Status.OK
    assert guest.prepare(0) == Status.OK
    assert guest.start(0) == Status.IO_ERR
    bench.faults.hanging = set()
    bench.faults.release.set()
    assert guest.release(0) == Status.OK
    assert guest.play(numbered(9600), stream=0).ok


@BOTH
def test_an_engine_that_hangs_when_a_paused_machine_goes_on_costs_the_guest_no_pace(
    bench: Bench, direction: Direction
) -> None:
    run = bench.begin(direction)
    await_pace(run, 10)
    bench.faults.hanging = {"start"}
    bases = bench.guest.stop_rings()
    bench.guest.start_rings(bases)
    bench.faults.await_call("start", 2)
    await_pace(run)
    run.stop()


# ---------------------------------------------------------------- it stalls


@BOTH
def test_with_an_engine_that_stalls_the_guest_keeps_its_pace(bench: Bench, direction: Direction) -> None:
    bench.faults.stall_every = 100
    run = bench.begin(direction)
    await_pace(run, 250)
    assert bench.stats(direction)["stalls"] >= 1
    assert bench.stats(direction)["xruns"] >= 1
    assert real_time(run, after=5)


# ---------------------------------------------------------------- it refuses, it dies


@BOTH
@pytest.mark.parametrize("call", ["open", "start"])
def test_an_engine_that_refuses_is_an_error_until_it_does_not(bench: Bench, direction: Direction, call: str) -> None:
    bench.faults.failing = {call}
    guest, stream = bench.guest, 0 if direction is Direction.OUTPUT else 2
    assert guest.set_params(stream, buffer_bytes=7680, period_bytes=1920) == Status.OK
    prepared = guest.prepare(stream)
    assert Status.IO_ERR in (prepared, guest.start(stream) if prepared == Status.OK else prepared)
    bench.faults.failing = set()
    assert guest.prepare(stream) == Status.OK
    assert guest.start(stream) == Status.OK
    assert guest.stop(stream) == guest.release(stream) == Status.OK


@BOTH
def test_an_engine_that_dies_in_mid_play_is_opened_again(bench: Bench, direction: Direction) -> None:
    run = bench.begin(direction)
    await_pace(run, 10)
    bench.faults.failing = {"open"}
    bench.faulty.streams[0].fail()
    await_pace(run)
    assert bench.stats(direction)["xruns"] > 0
    bench.faults.failing = set()
    await_until(lambda: len(bench.faulty.streams) == 2, 20, "another engine stream")
    await_pace(run)
    run.stop()
    if direction is Direction.OUTPUT:
        tape = locate(bytes(bench.faulty.streams[1].heard), ENDLESS)
        assert tape.in_order and tape.first > 0
    assert bench.guest.play(numbered(4800), stream=1).ok


@BOTH
def test_an_engine_that_dies_and_hangs_when_it_is_opened_again_costs_the_guest_nothing_more(
    bench: Bench, direction: Direction
) -> None:
    run = bench.begin(direction)
    await_pace(run, 10)
    bench.faults.hanging = {"open"}
    bench.faulty.streams[0].fail()
    bench.faults.await_call("open", 2)
    await_pace(run)
    assert not run.stop().unreturned


def test_a_stream_that_is_stopped_meanwhile_is_not_opened_again(bench: Bench) -> None:
    run = bench.begin(Direction.OUTPUT)
    await_pace(run, 10)
    bench.faults.failing = {"open"}
    bench.faulty.streams[0].fail()
    bench.faults.await_call("open", 2)
    run.stop()
    tries = bench.faults.calls.count("open")
    # A later try would come before the end of this.
    assert bench.guest.play(numbered(4 * 48000 // 2), stream=1).ok
    assert bench.faults.calls.count("open") == tries
