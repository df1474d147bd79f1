"""PipeWire under a guest: every frame heard and recorded, at a true latency, across a restart of the server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vsnd_hybrid.backends import registry
from vsnd_hybrid.backends.base import Backend, BackendError, EngineUnavailable
from vsnd_hybrid.backends.pipewire import PipeWireBackend, declarations, pod
from vsnd_hybrid.guest import VirtualGuest
from vsnd_hybrid.guest.reports import Recording as Recorded
from vsnd_hybrid.guest.run import StreamRun

from tests.backends.conftest import INPUT, OUTPUT, GuestFactory
from tests.guests import audio
from tests.processes import Process, await_until
from tests.sessions.pipewire import TAIL_FRAMES, PipeWireSession, Recording, heard_of, unless_late

FRAMES = 96_000
#: Silence before what is spoken: it flows while the microphone's two channels are linked, one after the other.
LEAD = audio.silence(24_000)


def backend_of(guest_on: GuestFactory, spec: str = "pipewire", **options: Any) -> tuple[Backend, VirtualGuest]:
    backend = registry.create(spec)
    return backend, guest_on(backend, **options)


def nodes(session: PipeWireSession) -> list[dict[str, Any]]:
    """Properties and state of every node in the graph."""
    objects = json.loads(session.run("pw-dump") or "[]")
    found = [o["info"] for o in objects if o["type"] == "PipeWire:Interface:Node"]
    return [info["props"] | {"state": info["state"]} for info in found]


def node(session: PipeWireSession, name: str) -> dict[str, Any]:
    """The node of this name, once it is there."""
    await_until(lambda: any(n.get("node.name") == name for n in nodes(session)), 5, f"the node {name}")
    return next(n for n in nodes(session) if n.get("node.name") == name)


def await_heard(session: PipeWireSession, frames: int) -> None:
    """Return once half of a signal of so many frames, which is played again and again, is heard in order."""
    recording = session.record()
    await_until(
        lambda: any(h.found > frames // 2 and h.in_order for h in audio.locate_looped(recording.samples, frames)),
        10,
        "the guest, heard again",
    )
    recording.close()


# ---------------------------------------------------------------- what is heard


@pytest.mark.parametrize(("period_frames", "periods"), [(1024, 4), (480, 4), (777, 3)])
def test_every_frame_is_heard_once_and_in_order(
    session: PipeWireSession, guest_on: GuestFactory, period_frames: int, periods: int
) -> None:
    _, guest = backend_of(guest_on, directions=(OUTPUT,))

    def play(_: Recording) -> None:
        assert guest.play(audio.numbered(FRAMES), period_frames=period_frames, periods=periods).ok

    heard = heard_of(session, play, FRAMES)
    assert heard.holds(FRAMES), f"the end too, though nothing follows it: {heard}"


def recorded_of(session: PipeWireSession, guest: VirtualGuest, **options: int) -> tuple[audio.Heard, int]:
    """What the guest records of `FRAMES` that are spoken, and the overruns that it is told of."""
    xruns = 0

    def hear() -> tuple[audio.Heard, bool]:
        nonlocal xruns
        run = guest.start_record(**options)
        assert run.wait_messages(4)
        speech = session.speak(LEAD + audio.numbered(FRAMES) + audio.silence(TAIL_FRAMES))
        speech.wait()
        recorded = run.stop()
        xruns = recorded.xruns
        return audio.locate(recorded.data + recorded.tail, FRAMES), speech.whole

    return unless_late(hear, FRAMES), xruns


def test_every_frame_is_recorded_in_order(session: PipeWireSession, guest_on: GuestFactory) -> None:
    _, guest = backend_of(guest_on, directions=(INPUT,))
    heard, _ = recorded_of(session, guest, period_frames=1024, periods=16)
    assert heard.holds(FRAMES), heard


def hears_again(session: PipeWireSession, recorded: StreamRun[Recorded]) -> Recorded:
    """A guest that has recorded in periods of 1024 frames for some time hears every frame of what is spoken now. What it recorded."""
    spoken = 24_000
    for _ in range(4):
        before = recorded.messages_done * 1024 * audio.FRAME_BYTES
        speech = session.speak(LEAD + audio.numbered(spoken) + audio.silence(TAIL_FRAMES))
        speech.wait()
        if speech.whole:
            break
    report = recorded.stop()
    heard = audio.locate((report.data + report.tail)[before:], spoken)
    assert heard.holds(spoken), (heard, speech.whole)
    return report


@pytest.fixture
def forced(session: PipeWireSession) -> Iterator[PipeWireSession]:
    """The session with a quantum that nobody can make smaller."""
    with session.fixed_quantum(1024):
        yield session


@pytest.mark.parametrize(("period_frames", "periods"), [(480, 2), (480, 3), (480, 4), (256, 3)])
def test_a_quantum_that_the_guests_buffer_does_not_bear_loses_nothing(
    forced: PipeWireSession, guest_on: GuestFactory, period_frames: int, periods: int
) -> None:
    _, guest = backend_of(guest_on, directions=(OUTPUT,))

    def play(_: Recording) -> None:
        assert guest.play(audio.numbered(FRAMES), period_frames=period_frames, periods=periods).ok

    heard = heard_of(forced, play, FRAMES)
    assert heard.holds(FRAMES), heard
    # A quantum takes more than the guest's buffer holds: each would leave a gap if nothing was read ahead.
    assert len(heard.silences) < FRAMES // 1024 // 2, heard


@pytest.mark.parametrize(("period_frames", "periods"), [(480, 2), (480, 4)])
def test_a_quantum_larger_than_the_buffer_is_recorded_in_order(
    forced: PipeWireSession, guest_on: GuestFactory, period_frames: int, periods: int
) -> None:
    _, guest = backend_of(guest_on, directions=(INPUT,))
    heard, xruns = recorded_of(forced, guest, period_frames=period_frames, periods=periods)
    assert not (heard.repeated or heard.disordered or heard.foreign), heard
    # A guest that a busy machine keeps from its buffer of 20 ms has an overrun, which it is told; nothing else is lost.
    assert FRAMES - heard.found <= xruns * 1024, (heard, xruns)


@pytest.mark.parametrize("pause_frames", [4096, 1])
def test_a_pause_loses_nothing(session: PipeWireSession, guest_on: GuestFactory, pause_frames: int) -> None:
    """Also one that ends while the engine still plays what it was given before."""
    _, guest = backend_of(guest_on, directions=(OUTPUT,))

    def play(recording: Recording) -> None:
        run = guest.start_play(audio.numbered(FRAMES), period_frames=1024, periods=16)
        for messages in (20, 40, 60):
            assert run.wait_messages(messages)
            run.pause()
            recording.await_frames(pause_frames)
            run.resume()
        assert run.wait().ok

    heard = heard_of(session, play, FRAMES)
    assert heard.holds(FRAMES), heard


@pytest.mark.parametrize(
    ("format", "rate", "channels"),
    [
        ("U8", 8000, 1),
        ("S24", 44100, 2),
        ("S32", 96000, 2),
        ("FLOAT", 192000, 6),
        ("FLOAT64", 48000, 8),
        ("S16", 384000, 2),
        ("S16", 5512, 18),
    ],
)
def test_pipewire_takes_every_shape_that_is_offered(
    session: PipeWireSession, guest_on: GuestFactory, format: str, rate: int, channels: int
) -> None:
    _, guest = backend_of(guest_on, directions=(OUTPUT,))
    recording = session.record()
    sound = {"U8": b"\xc0", "FLOAT": b"\0\0\0\x3f", "FLOAT64": b"\0\0\0\0\0\0\xe0\x3f"}.get(format, b"\0\0\0\x20")
    sound = {"S24": b"\0\0\x40\0", "S16": b"\0\x40"}.get(format, sound)
    frames = rate // 2
    played = guest.play(
        sound * channels * frames, format=format, channels=channels, rate=rate, period_frames=rate // 40
    )
    assert played.ok
    assert any(recording.stop()), "something is heard"


def test_the_silence_of_unsigned_samples_is_silent(session: PipeWireSession, guest_on: GuestFactory) -> None:
    _, guest = backend_of(guest_on, directions=(OUTPUT,))
    recording = session.record()
    # Starved in the middle: the engine fills the gap.
    assert guest.play(b"\x80" * 48000, format="U8", channels=1, starve=(24000, 0.2)).ok
    assert not any(recording.stop())


# ---------------------------------------------------------------- what is told


def test_the_latency_that_the_guest_is_told_is_at_most_some_quanta(
    session: PipeWireSession, guest_on: GuestFactory
) -> None:
    _, guest = backend_of(guest_on, directions=(OUTPUT,))
    report = guest.play(audio.numbered(48000), period_frames=1024)
    assert max(report.latency_bytes) > 0
    # The graph's quantum becomes the guest's period; a null sink has no delay of its own.
    assert max(report.latency_bytes) <= 3 * report.period_bytes


def test_a_delay_of_the_device_is_in_the_latency(session: PipeWireSession, guest_on: GuestFactory) -> None:
    properties = "{ media.class=Audio/Sink node.name=slow_sink }"
    command = ["pw-loopback", "-m", "[ FL FR ]", "--capture-props", properties]
    with Process(command, session.directory / "clients.log", session.environment):
        sink = node(session, "slow_sink")["object.id"]
        session.run("pw-cli", "set-param", str(sink), "ProcessLatency", "{ quantum: 0.0, rate: 0, ns: 20000000 }")
        _, guest = backend_of(guest_on, directions=(OUTPUT,), target="slow_sink")
        report = guest.play(audio.numbered(48000), period_frames=256)
    settled = report.latency_ms[len(report.latency_ms) // 2 :]
    assert min(settled) >= 20
    assert max(settled) < 60


def test_the_graph_is_asked_for_the_guests_period_and_told_who_it_is(
    session: PipeWireSession, guest_on: GuestFactory
) -> None:
    _, guest = backend_of(guest_on, directions=(OUTPUT,))
    with guest.playing(period_frames=1024, periods=4) as run:
        assert run.wait_messages(4)
        properties = node(session, "vsnd-output")
    assert properties["node.latency"] == "1024/48000"
    assert properties["node.max-latency"] == "3072/48000"
    assert properties["media.category"] == "Playback"
    assert properties["application.name"] == "vsnd-hybrid"
    assert properties["state"] == "running"


def test_options_change_latency_and_properties(session: PipeWireSession, guest_on: GuestFactory) -> None:
    _, guest = backend_of(
        guest_on, "pipewire,latency=512,props={ media.role = Game node.name = doom }", directions=(OUTPUT,)
    )
    with guest.playing(period_frames=1024) as run:
        assert run.wait_messages(4)
        properties = node(session, "doom")
    assert properties["node.latency"] == "512/48000"
    assert properties["media.role"] == "Game"


@pytest.mark.parametrize(
    ("latency", "asked"), [("", "512/48000"), ("low", "480/48000"), ("power", "1440/48000"), ("300", "300/48000")]
)
def test_a_stream_may_say_how_often_to_wake_up(
    session: PipeWireSession, guest_on: GuestFactory, latency: str, asked: str
) -> None:
    _, guest = backend_of(guest_on, directions=(OUTPUT,), latency=latency)
    with guest.playing(period_frames=480, periods=4) as run:
        assert run.wait_messages(4)
        assert node(session, "vsnd-output")["node.latency"] == asked


def test_a_stream_goes_to_the_device_that_was_named(session: PipeWireSession, guest_on: GuestFactory) -> None:
    session.run("pw-cli", "create-node", "adapter", OTHER_SINK)
    node(session, "other_sink")
    _, guest = backend_of(guest_on, directions=(OUTPUT,), target="other_sink")
    with guest.playing(period_frames=1024) as run:
        assert run.wait_messages(4)
        links = session.run("pw-link", "--links", "vsnd-output")
    session.run("pw-cli", "destroy", "other_sink")
    assert "other_sink:playback_FL" in links
    assert "ci_sink" not in links


OTHER_SINK = (
    "{ factory.name=support.null-audio-sink node.name=other_sink media.class=Audio/Sink "
    "object.linger=true audio.position=[FL FR] }"
)


def test_devices_are_listed_by_name(session: PipeWireSession) -> None:
    backend = registry.create("pipewire")
    found = {(device.id, device.direction) for device in backend.devices()}
    backend.close()
    assert found >= {(session.SINK, OUTPUT), (session.MICROPHONE, INPUT)}


# ---------------------------------------------------------------- the server goes away


@pytest.fixture
def restarted(session: PipeWireSession) -> Iterator[PipeWireSession]:
    """A session whose servers the test stops; they run again afterwards, whatever happened."""
    yield session
    if not (session.directory / "pipewire-0").exists():
        session.start()


def test_a_guest_keeps_its_pace_while_the_server_is_gone_and_is_heard_when_it_is_back(
    restarted: PipeWireSession, guest_on: GuestFactory
) -> None:
    _, guest = backend_of(guest_on)
    played = guest.start_play(audio.numbered(48000), total_frames=1 << 40, period_frames=1024)
    recorded = guest.start_record(period_frames=1024, periods=16)
    assert played.wait_messages(20)
    assert recorded.wait_messages(20)

    restarted.stop()
    # `wait_messages` gives up when nothing comes back for five seconds.
    for run in (played, recorded):
        assert run.wait_messages(run.messages_done + 60)

    restarted.start()
    await_heard(restarted, 48000)

    report = hears_again(restarted, recorded)
    assert played.stop().ok
    # The pace was kept all the time: as many frames as the time that went by.
    assert report.frames == pytest.approx(report.seconds * 48000, rel=0.05)


def test_a_guest_may_begin_while_the_server_is_gone(restarted: PipeWireSession, guest_on: GuestFactory) -> None:
    _, guest = backend_of(guest_on, directions=(OUTPUT,))
    restarted.stop()
    run = guest.start_play(audio.numbered(48000), total_frames=1 << 40, period_frames=1024)
    assert run.wait_messages(20)
    restarted.start()
    await_heard(restarted, 48000)
    assert run.stop().ok


def test_without_a_session_manager_the_guest_keeps_its_pace(restarted: PipeWireSession, guest_on: GuestFactory) -> None:
    """PipeWire runs, but nobody links the stream to a device."""
    _, guest = backend_of(guest_on, "pipewire,target=nobody,props={ node.dont-fallback=true }", directions=(OUTPUT,))
    assert guest.play(audio.numbered(48000), period_frames=1024).ok


def test_a_daemon_ends_at_once_while_the_server_is_gone(restarted: PipeWireSession) -> None:
    backend = registry.create("pipewire")
    restarted.stop()
    await_until(lambda: not backend.devices(), 5, "the loss")
    backend.close()
    assert "pipewire-supervisor" not in {thread.name for thread in threading.enumerate()}


def test_no_server_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_RUNTIME_DIR", "PIPEWIRE_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(EngineUnavailable, match="remote 'elsewhere': is it running"):
        registry.create("pipewire,remote=elsewhere")


# ---------------------------------------------------------------- small things


def test_the_declarations_were_made_from_the_source(tmp_path: Path) -> None:
    declarations.generate(tmp_path / "_abi.py")
    made = (tmp_path / "_abi.py").read_text()
    assert made == declarations.GENERATED.read_text(), "run declarations.py"


def test_channel_positions_are_those_of_the_specification() -> None:
    assert pod.positions(2, ("FR", "FL")) == (4, 3)
    assert pod.positions(6) == (3, 4, 12, 13, 5, 6)
    assert pod.positions(18) == tuple(range(0x1000, 0x1012))
    assert len(pod.enum_format("S16", 48000, 2)) % 8 == 0


def test_an_option_that_makes_no_sense_is_refused_before_anything_is_connected() -> None:
    with pytest.raises(BackendError, match="latency=soon: expected low, balanced, power, or a"):
        PipeWireBackend(latency="soon")
