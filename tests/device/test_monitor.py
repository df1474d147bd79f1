"""What a virtual machine monitor does to a device at work: pause, reset, memory told anew, death."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from vsnd_hybrid._core import numbered_frames
from vsnd_hybrid.backends.null import NullBackend
from vsnd_hybrid.wire import Request, Status

from tests.device.conftest import Connect, Serve
from tests.device.driver import FRAME, PERIOD, RX, TX, Driver, Requests, finish
from tests.device.engines import HandBackend, TapBackend
from tests.device.test_messages import numbered
from tests.processes import await_until

SET_PARAMS, PREPARE, START = Request.PCM_SET_PARAMS, Request.PCM_PREPARE, Request.PCM_START
STOP, RELEASE = Request.PCM_STOP, Request.PCM_RELEASE

RESETS = ["qemu", "crosvm", "libkrun", "reset-device"]


def signal(frames: int) -> bytes:
    return bytes(numbered_frames(1, frames, FRAME))


def used_indices(driver: Driver) -> list[int]:
    return [driver.queue(index).used_index for index in range(4)]


def test_stopped_rings_are_where_their_used_index_is_and_nothing_is_touched_after(
    serve: Serve, connect: Connect
) -> None:
    backend = HandBackend()
    serve(backend)
    driver = connect()
    driver.do(SET_PARAMS, PREPARE)
    driver.do(SET_PARAMS, PREPARE, stream=1)
    playing = [driver.push(numbered(PERIOD, first=turn * PERIOD)) for turn in range(4)]
    recording = [driver.push(PERIOD, 1) for _ in range(4)]
    driver.publish(TX)
    driver.publish(RX)
    driver.do(START)
    driver.do(START, stream=1)
    playback, capture = (stream.port for stream in backend.streams)
    heard = playback.read(PERIOD + 480)
    capture.write(numbered(PERIOD + 480))
    bases = driver.native.stop_rings()
    assert bases == used_indices(driver)
    assert bases[TX] == bases[RX] == 1
    memory = driver.native.read(0, driver.native.regions[0][1])
    assert playback.read(PERIOD) == b""
    assert capture.write(numbered(PERIOD)) == 0
    assert driver.native.read(0, driver.native.regions[0][1]) == memory
    driver.native.start_rings(bases)
    await_until(lambda: playback.queued_bytes > 0 and capture.queued_bytes > 0, 10, "the rings")
    heard += playback.read(4 * PERIOD)
    capture.write(numbered(PERIOD, first=PERIOD + 480))
    assert heard == numbered(4 * PERIOD), "not a byte is lost or heard twice"
    assert [done.head for done in driver.await_returned(TX, 4)] == [message.head for message in playing]
    assert [done.head for done in driver.await_returned(RX, 2)] == [message.head for message in recording[:2]]
    recorded = b"".join(bytes(driver.native.read(message.data, PERIOD)) for message in recording[:2])
    assert recorded == numbered(2 * PERIOD)


def test_a_paused_machine_pauses_its_engines(serve: Serve, connect: Connect) -> None:
    backend = HandBackend()
    serve(backend)
    driver = connect()
    driver.do(SET_PARAMS, PREPARE, START)
    engine = backend.streams[0]
    bases = driver.native.stop_rings()
    await_until(lambda: not engine.active, 10, "the engine's stop")
    driver.native.start_rings(bases)
    await_until(lambda: engine.active, 10, "the engine's start")
    driver.do(STOP, RELEASE)


@pytest.mark.parametrize("by", ["stopped rings", "disabled rings"])
def test_a_guest_that_is_paused_while_it_plays_is_heard_whole(serve: Serve, connect: Connect, by: str) -> None:
    backend = TapBackend()
    serve(backend)
    driver = connect()
    run = driver.start(0, signal(9600))
    for messages in (3, 6, 9):
        assert run.wait_messages(messages, 10)
        if by == "stopped rings":
            bases = driver.native.stop_rings()
            assert bases == used_indices(driver)
            driver.native.start_rings(bases)
        else:
            driver.native.hold(True)
            for index in range(4):
                driver.native.enable(index, False)
            for index in range(4):
                driver.native.enable(index, True)
            driver.native.hold(False)
    finish(run)
    tape = backend.by_id[0].tape()
    frames = [tape[at : at + FRAME] for at in range(0, len(tape), FRAME)]
    assert b"".join(frame for frame in frames if frame != bytes(FRAME)) == signal(9600)


@pytest.mark.parametrize("style", RESETS)
def test_a_reset_in_mid_play_leaves_nothing_of_the_old_life(serve: Serve, connect: Connect, style: str) -> None:
    backend = HandBackend()
    serve(backend)
    driver = connect()
    driver.do(SET_PARAMS, PREPARE)
    for _ in range(4):
        driver.push(numbered(PERIOD))
    driver.publish(TX)
    driver.do(START)
    old = backend.streams[0]
    assert len(old.port.read(PERIOD)) == PERIOD
    driver.native.reset(style)
    assert driver.queue(TX).used_index == 0
    assert driver.command(START) is Status.BAD_MSG, "the stream is new"
    await_until(lambda: old.closed, 10, "the close of the old stream")
    assert old.port.read(PERIOD) == b""
    driver.do(SET_PARAMS, PREPARE)
    message = driver.push(numbered(PERIOD, first=99))
    driver.publish(TX)
    driver.do(START)
    assert backend.streams[1].port.read(4 * PERIOD) == numbered(PERIOD, first=99), "nothing of what was written before"
    assert [done.head for done in driver.await_returned(TX, 1)] == [message.head]
    assert driver.queue(TX).used_index == 1


@pytest.mark.parametrize("style", RESETS)
def test_a_guest_that_was_reset_plays_again_and_again(serve: Serve, connect: Connect, style: str) -> None:
    backend = TapBackend()
    serve(backend)
    driver = connect()
    for _ in range(5):
        run = driver.start(0, signal(48000))
        assert run.wait_messages(2, 10)
        driver.native.reset(style)
    driver.play(0, signal(4800))
    tape = backend.by_id[0].tape()
    assert tape.strip(b"\0") == signal(4800).strip(b"\0")


def test_an_open_that_outlives_its_driver_is_closed_and_answers_nobody(serve: Serve, connect: Connect) -> None:
    backend = HandBackend()
    serve(backend)
    driver = connect()
    driver.do(SET_PARAMS)
    backend.may_open.clear()
    requests = Requests(driver)
    requests.push("prepare", struct.pack("<II", PREPARE, 0))
    requests.send()
    assert backend.opening.wait(10)
    driver.native.kill()
    other = connect()
    assert other.set_params() is Status.OK
    assert other.command(RELEASE) is Status.OK
    backend.may_open.set()
    await_until(lambda: bool(backend.streams) and backend.streams[0].closed, 10, "the close of what nobody wants")
    assert other.command(START) is Status.BAD_MSG


def test_a_new_front_end_finds_a_new_device(serve: Serve, connect: Connect) -> None:
    backend = HandBackend()
    serve(backend)
    first = connect()
    first.do(SET_PARAMS, PREPARE, START)
    first.native.kill()
    second = connect()
    assert second.command(PREPARE) is Status.BAD_MSG
    second.do(SET_PARAMS, PREPARE, START, STOP, RELEASE)
    await_until(lambda: backend.streams[0].closed, 10, "the close of the old stream")


def test_memory_that_is_told_anew_while_a_stream_plays_costs_no_frame(serve: Serve, connect: Connect) -> None:
    backend = TapBackend()
    device = serve(backend)
    driver = connect()
    run = driver.start(0, signal(9600))
    for messages in range(1, 18):
        assert run.wait_messages(messages, 10)
        driver.native.remap()
    finish(run)
    tape = backend.by_id[0].tape()
    frames = [tape[at : at + FRAME] for at in range(0, len(tape), FRAME)]
    assert b"".join(frame for frame in frames if frame != bytes(FRAME)) == signal(9600)
    assert len(device.server.memory.regions) == len(driver.native.regions)


def descriptors() -> dict[str, str]:
    """Our open descriptors and what they are, but for those that only we, the test, have."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the directory's own
    return found


def resident_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_a_front_end_that_is_killed_in_mid_play_leaves_nothing_behind(serve: Serve, connect: Connect) -> None:
    device = serve(NullBackend())

    def live_and_die() -> None:
        driver = connect()
        run = driver.start(0, signal(48000))
        recording = driver.start(1, capture=48000 * FRAME)
        assert run.wait_messages(2, 10)
        assert recording.wait_messages(2, 10)
        driver.native.kill()
        del run, recording, driver

    def quiet() -> bool:
        return not device.server.connected and all(stream.state.value == "new" for stream in device.streams)

    def after(lives: int) -> tuple[int, int, int]:
        for _ in range(lives):
            live_and_die()
            await_until(quiet, 10, "the end of a connection")
        connect.drivers.clear()
        return len(descriptors()), threads(), resident_kib()

    before = after(3)
    # Engines are closed a moment after the front end is gone.
    await_until(lambda: threads() <= before[1], 10, "the end of threads")
    before = (len(descriptors()), threads(), resident_kib())
    fds, count, memory = after(20)
    await_until(
        lambda: threads() <= before[1] and len(descriptors()) <= before[0], 10, "as few threads and descriptors"
    )
    assert memory - before[2] < 2048, "KiB more than before"
    assert (fds, count) <= (before[0] + 4, before[1] + 4)
