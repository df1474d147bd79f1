"""PipeWire that hangs, and devices that are unplugged, under a guest that plays and records: it keeps its pace, and is heard again."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from vsnd_hybrid.backends import registry
from vsnd_hybrid.guest import VirtualGuest
from vsnd_hybrid.guest.reports import Playback, Recording
from vsnd_hybrid.guest.run import StreamRun

from tests.backends.conftest import GuestFactory
from tests.backends.test_pipewire import LEAD, await_heard, nodes
from tests.guests import audio
from tests.processes import await_until
from tests.sessions.pipewire import TAIL_FRAMES, PipeWireSession

ENDLESS = 1 << 40
ROUND = 48_000
#: More than is spoken at once.
FAR_APART = 1_000_000


@pytest.fixture
def spoiled(session: PipeWireSession) -> Iterator[PipeWireSession]:
    """A session that the test may do anything to; it is made anew afterwards."""
    yield session
    session.signal(signal.SIGCONT)
    session.stop()
    session.start()


@pytest.fixture
def guest(spoiled: PipeWireSession, guest_on: GuestFactory) -> VirtualGuest:
    return guest_on(registry.create("pipewire"))


def begin(guest: VirtualGuest) -> tuple[StreamRun[Playback], StreamRun[Recording]]:
    """Play and record without end."""
    played = guest.start_play(audio.numbered(ROUND), total_frames=ENDLESS, period_frames=1024)
    recorded = guest.start_record(period_frames=1024, periods=16)
    assert played.wait_messages(20) and recorded.wait_messages(20)
    return played, recorded


def keep_pace(*runs: StreamRun[Playback] | StreamRun[Recording]) -> None:
    """Each moves on; `wait_messages` gives up when nothing comes back for five seconds."""
    for run in runs:
        assert run.wait_messages(run.messages_done + 60)


def hears_again(session: PipeWireSession, recorded: StreamRun[Recording]) -> None:
    spoken = 24_000
    for i in range(4):
        # The speaker is a program too: one that a busy machine kept waiting proves nothing.
        session.speak(LEAD + audio.numbered(spoken, i * FAR_APART) + audio.silence(TAIL_FRAMES)).wait()
    report = recorded.stop()
    heard = [audio.locate(report.data, spoken, i * FAR_APART) for i in range(4)]
    assert any(each.found == spoken and not (each.missing or each.repeated or each.disordered) for each in heard)


def test_a_guest_is_heard_again_when_its_devices_were_unplugged_and_plugged_in(
    spoiled: PipeWireSession, guest: VirtualGuest
) -> None:
    played, recorded = begin(guest)
    names = {spoiled.SINK, spoiled.MICROPHONE}
    for node in nodes(spoiled):
        if node["node.name"] in names:
            spoiled.run("pw-cli", "destroy", str(node["object.id"]))
    await_until(lambda: not names & {node["node.name"] for node in nodes(spoiled)}, 5, "the end of both devices")
    keep_pace(played, recorded)
    # Commands are answered in the time that Linux gives them.
    played.pause()
    played.resume()
    keep_pace(played)

    for name, kind in ((spoiled.SINK, "Audio/Sink"), (spoiled.MICROPHONE, "Audio/Source/Virtual")):
        spoiled.plug(name, kind)
    await_heard(spoiled, ROUND)
    hears_again(spoiled, recorded)
    assert played.stop().ok


def test_a_server_that_hangs_costs_a_guest_neither_its_pace_nor_an_answer(
    spoiled: PipeWireSession, guest: VirtualGuest
) -> None:
    played, recorded = begin(guest)
    spoiled.signal(signal.SIGSTOP)
    keep_pace(played, recorded)
    played.pause()
    played.resume()
    keep_pace(played, recorded)
    spoiled.signal(signal.SIGCONT)
    # First it runs all the cycles that it missed, as fast as it can, and hears nobody in them.
    await_heard(spoiled, ROUND)
    hears_again(spoiled, recorded)
    assert played.stop().ok
    # And a whole one.
    assert guest.play(audio.numbered(ROUND), period_frames=1024).ok


def test_a_stream_that_begins_while_the_server_hangs_is_answered_in_time(
    spoiled: PipeWireSession, guest: VirtualGuest
) -> None:
    assert guest.play(audio.numbered(4800), period_frames=1024).ok
    spoiled.signal(signal.SIGSTOP)
    # As the engine's answer comes or does not: an error, or a stream that keeps its pace; never a driver that waits in vain.
    statuses = [
        guest.set_params(0, buffer_bytes=16384, period_bytes=4096),
        guest.prepare(0),
        guest.start(0),
        guest.stop(0),
        guest.release(0),
    ]
    assert statuses[0] == 0x8000
    spoiled.signal(signal.SIGCONT)
    assert guest.play(audio.numbered(ROUND), period_frames=1024).ok
