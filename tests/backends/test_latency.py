"""The latency that guests are told is the one that is heard, to one quantum of the engine: both directions together, and each by itself."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from vsnd_hybrid.backends import registry
from vsnd_hybrid.device import DeviceConfig, SoundDevice, StreamConfig
from vsnd_hybrid.guest import Playback, Recording, VirtualGuest
from vsnd_hybrid.vhost import running

from tests.backends.conftest import INPUT, OUTPUT
from tests.backends.test_pipewire import node
from tests.guests import audio
from tests.processes import Process
from tests.sessions.pipewire import PipeWireSession

FRAMES = 96_000
RATE = 48_000
#: Of the sink that is late.
DELAY_S = 0.05
#: The session's, which is not larger than the guest's.
QUANTUM_S = 256 / RATE


@contextmanager
def loop_back(session: PipeWireSession, delay_s: float) -> Iterator[str]:
    """A sink that plays into the session's sink after a delay, and says so; its name."""
    properties = "{ media.class=Audio/Sink node.name=slow_sink }"
    command = ["pw-loopback", "-m", "[ FL FR ]", "--delay", str(delay_s), "--capture-props", properties]
    command += ["--playback-props", f"{{ target.object={session.SINK} }}"]
    with Process(command, session.directory / "clients.log", session.environment):
        sink = node(session, "slow_sink")["object.id"]
        latency = f"{{ quantum: 0.0, rate: 0, ns: {round(delay_s * 1e9)} }}"
        session.run("pw-cli", "set-param", str(sink), "ProcessLatency", latency)
        yield "slow_sink"


def play_and_record(
    session: PipeWireSession, run_dir: Path, target: str, period_frames: int
) -> tuple[Playback, Recording]:
    """Play to `target`, and record at the same time what arrives at the session's sink."""
    backend = registry.create("pipewire,props={ stream.capture.sink=true }")
    output = StreamConfig(direction=OUTPUT, backend=backend, target=target, name="vsnd-output")
    monitor = StreamConfig(direction=INPUT, backend=backend, target=session.SINK, name="vsnd-input")
    device = SoundDevice(DeviceConfig(streams=(output, monitor)))
    with running(device, run_dir / "snd.sock"), VirtualGuest(run_dir / "snd.sock") as guest:
        recording = guest.start_record(period_frames=period_frames, periods=8)
        assert recording.wait_messages(8)
        played = guest.play(audio.numbered(FRAMES), period_frames=period_frames, periods=4)
        assert recording.wait_messages(recording.messages_done + 8)
        return played, recording.stop()


def heard_s(played: Playback) -> list[float]:
    """When each message's last frame was said to be heard."""
    return [m.done_ns / 1e9 + m.latency_bytes / played.frame_bytes / RATE for m in played.done]


def differences_s(played: Playback, recorded: Recording) -> list[float]:
    """How much later the microphone heard a frame than it was said to be heard, for every recorded message."""
    said = heard_s(played)
    ends = [sum(m.bytes for m in played.done[: i + 1]) // played.frame_bytes for i in range(len(played.done))]
    # Frame n was said to be heard at n / RATE after this, by the message that it came in.
    begins = [when - end / RATE for when, end in zip(said, ends, strict=True)]
    found = []
    sound, at = recorded.data + recorded.tail, 0
    for message in recorded.done:
        at += message.bytes
        last = audio.locate(sound[at - recorded.frame_bytes : at], FRAMES)
        if last.found:
            owner = next(i for i, end in enumerate(ends) if last.last < end)
            aged = message.latency_bytes / recorded.frame_bytes / RATE
            found.append(message.done_ns / 1e9 - aged - begins[owner] - (last.last + 1) / RATE)
    return found


def through(session: PipeWireSession, run_dir: Path, delay_s: float, period_frames: int) -> tuple[Playback, Recording]:
    """Play through a sink of this delay, and record what arrives."""
    if not delay_s:
        return play_and_record(session, run_dir, session.SINK, period_frames)
    with loop_back(session, delay_s) as sink:
        return play_and_record(session, run_dir, sink, period_frames)


@pytest.mark.parametrize("period_frames", [256, 480, 1024])
@pytest.mark.parametrize("delay_s", [0.0, DELAY_S])
def test_what_is_told_is_what_is_heard(
    session: PipeWireSession, run_dir: Path, period_frames: int, delay_s: float
) -> None:
    """Through a sink of known delay, out and back in: both directions' figures together explain all of the time that passed."""
    late = differences_s(*through(session, run_dir, delay_s, period_frames))
    assert len(late) > FRAMES // period_frames // 2
    # Of a busy machine some messages are late, but not half of them.
    assert abs(statistics.median(late)) <= QUANTUM_S


# Not 1024: there the loop-back has the graph wake up more often, which makes the guest's own part of the delay smaller.
@pytest.mark.parametrize("period_frames", [256, 480])
def test_a_delay_of_the_sink_is_told_of_what_is_played_and_not_of_what_is_recorded(
    session: PipeWireSession, run_dir: Path, period_frames: int
) -> None:
    """Each direction by itself: errors of both that make up for each other are found."""
    told = [through(session, run_dir, delay_s, period_frames) for delay_s in (0.0, DELAY_S)]
    (out, late_out), (into, late_into) = (
        [statistics.median(r.latency_ms) for r in way] for way in zip(*told, strict=True)
    )
    assert late_out - out == pytest.approx(DELAY_S * 1000, abs=QUANTUM_S * 1000)
    assert late_into == pytest.approx(into, abs=QUANTUM_S * 1000)
    # Nothing lies before the microphone, the sink's monitor, but a message that waits for its end.
    assert 0 <= into <= (period_frames / RATE + QUANTUM_S) * 1000
