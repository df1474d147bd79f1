"""Whole streams over the real socket, paced by the clock: what is played is heard, and what is heard is recorded."""

from __future__ import annotations

from typing import Any

import pytest
from vsnd_hybrid._core import numbered_frames
from vsnd_hybrid.backends.null import NullBackend

from tests.device.conftest import Connect, Serve
from tests.device.driver import BUFFER, FRAME, PERIOD, POLLING, XRUNS, finish
from tests.device.engines import HandBackend, TapBackend

event_idx = pytest.mark.parametrize("event_idx", [True, False], ids=["event_idx", "flags"])


def signal(frames: int, first: int = 1) -> bytes:
    """Frames that count."""
    return bytes(numbered_frames(first, frames, FRAME))


def heard(backend: TapBackend, stream: int) -> bytes:
    """What a stream played, without the silence around it."""
    return backend.by_id[stream].tape().strip(b"\0")


def frames_of(tape: bytes) -> bytes:
    """All that is not silence."""
    frames = (tape[at : at + FRAME] for at in range(0, len(tape), FRAME))
    return b"".join(frame for frame in frames if frame != bytes(FRAME))


def shapes() -> list[Any]:
    """Every layout that is tried: pieces of a message, and whether its descriptors are indirect."""
    return [
        pytest.param(pieces, indirect, id=f"{pieces[0] if pieces else 'whole'}-{'indirect' if indirect else 'direct'}")
        for pieces in ([], [1], [3], [7], [1, 2, 5, 64])
        for indirect in (True, False)
    ]


@event_idx
@pytest.mark.parametrize(("pieces", "indirect"), shapes())
def test_a_message_may_be_cut_into_any_descriptors(
    serve: Serve, connect: Connect, event_idx: bool, pieces: list[int], indirect: bool
) -> None:
    backend = HandBackend()
    serve(backend)
    driver = connect(event_idx=event_idx, indirect=indirect, queue_size=1024)
    # Periods of 64 frames: cut into bytes and direct, three of them find place in the ring.
    shape: dict[str, Any] = {"period_bytes": 256, "buffer_bytes": 1024, "pieces": pieces, "indirect": indirect}
    run = driver.start(0, signal(1000), **shape)
    port, got = backend.streams[0].port, b""
    while len(got) < 1000 * FRAME:
        got += port.read(100)
    assert got == signal(1000)
    played = finish(run)
    assert {message[5] for message in played["messages"]} == {8}

    run = driver.start(1, capture=1024 * FRAME, **shape)
    port, given = backend.streams[1].port, 0
    while given < 1024 * FRAME:
        given += port.write(signal(1024)[given : given + 100])
    recorded = finish(run)
    assert bytes(recorded["recorded"]) == signal(1024)
    assert [message[5] for message in recorded["messages"][:16]] == [256 + 8] * 16


@pytest.mark.parametrize("message_bytes", [4, 92, 1916, 1924, 4000, BUFFER])
def test_a_message_need_not_be_a_period(serve: Serve, connect: Connect, message_bytes: int) -> None:
    backend = TapBackend()
    serve(backend)
    # At 8 kHz, with a ring and a buffer in which even the smallest and the largest messages are enough to play on.
    driver = connect(queue_size=1024)
    driver.play(0, signal(2400), message_bytes=message_bytes, rate=1, buffer_bytes=16 * PERIOD)
    # All of the smallest messages that the ring holds are an eighth of a second: on a busy machine the driver is late.
    assert frames_of(backend.by_id[0].tape()) == frames_of(signal(2400))


def test_streams_on_one_ring_play_and_record_at_once(serve: Serve, connect: Connect) -> None:
    backend = TapBackend(signal(48000, first=7))
    serve(backend, outputs=3, inputs=2)
    driver = connect(queue_size=256)
    runs = [driver.start(stream, signal(4800 * (stream + 1), first=1000 * stream + 1)) for stream in range(3)]
    runs += [driver.start(stream, capture=9600 * FRAME) for stream in (3, 4)]
    reports = [finish(run) for run in runs]
    for stream in range(3):
        assert heard(backend, stream) == signal(4800 * (stream + 1), first=1000 * stream + 1).strip(b"\0")
    for report in reports[3:]:
        assert signal(9000, first=7) in bytes(report["recorded"])


@pytest.mark.parametrize("capture", [False, True], ids=["playback", "capture"])
def test_the_pace_is_the_streams_rate_within_a_percent_over_ten_seconds(
    serve: Serve, connect: Connect, capture: bool
) -> None:
    serve(NullBackend())
    driver = connect()
    count = 10 * 48000 * FRAME
    # A large buffer, so that it is the device that sets the pace and not how fast this machine wakes the driver up.
    buffer = {"buffer_bytes": 32 * PERIOD}
    report = driver.record(1, count, **buffer) if capture else driver.play(0, bytes(count), **buffer)
    done = [(message[2], message[0]) for message in report["messages"] if message[2]]
    done = done[: count // PERIOD]  # what STOP and RELEASE give back comes at once
    (begin, _), (end, _) = done[0], done[-1]
    rate = sum(size for _, size in done[1:]) / FRAME / ((end - begin) / 1e9)
    assert rate == pytest.approx(48000, rel=0.01)


def test_a_polled_stream_is_never_kicked_and_signals_at_most_once_a_period(serve: Serve, connect: Connect) -> None:
    serve(NullBackend())
    driver = connect()
    report = driver.play(0, bytes(100 * PERIOD), features=POLLING)
    assert report["kicks"] == 0
    assert report["signals_running"] <= 100


def test_a_stream_that_is_not_polled_is_not_kicked_while_it_runs_either(serve: Serve, connect: Connect) -> None:
    serve(NullBackend())
    driver = connect()
    report = driver.play(0, bytes(100 * PERIOD))
    assert report["kicks_running"] <= 2, "the one or two around START"


def test_an_application_that_starves_its_stream_is_told_and_loses_nothing(serve: Serve, connect: Connect) -> None:
    backend = TapBackend()
    serve(backend)
    report = connect().play(0, signal(9600), features=XRUNS, starve=(4800 * FRAME, 0.2))
    assert report["xruns"] >= 1
    assert frames_of(backend.by_id[0].tape()) == signal(9600)


def test_a_silent_daemon_gives_messages_back_as_fast_as_the_guest_can(serve: Serve, connect: Connect) -> None:
    serve(NullBackend(paced="false"))
    report = connect().native.flood(
        0, 20000, buffer_bytes=BUFFER, period_bytes=PERIOD, features=0, channels=2, format=5, rate=7
    )
    assert report["messages"] == 20000
    assert report["failed"] == 0
