"""The microphone of the session that tests and benchmarks share: it says everything, and tells where it did not."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.guests.audio import Heard, locate, numbered, silence, wav
from tests.processes import await_until
from tests.sessions.pipewire import TAIL_FRAMES, PipeWireSession, Speech, unless_late

FRAMES = 24_000
SOUND = silence(TAIL_FRAMES) + numbered(FRAMES) + silence(TAIL_FRAMES)
#: One of the session's recorders, used as one who hears the microphone.
EARS = "recorder-0:input"


def link(session: PipeWireSession, channel: str, *options: str) -> None:
    session.run("pw-link", *options, f"{session.MICROPHONE}:capture_{channel}", f"{EARS}_{channel}")


@pytest.fixture
def session(pipewire: PipeWireSession) -> Iterator[PipeWireSession]:
    yield pipewire
    for channel in ("FL", "FR"):
        link(pipewire, channel, "-d")


def spoken(session: PipeWireSession) -> Speech:
    speech = session.speak(SOUND)
    assert not speech.whole
    speech.wait()
    return speech


def test_what_is_spoken_is_said_whole(session: PipeWireSession) -> None:
    for channel in ("FL", "FR"):
        link(session, channel)
    # More than once: what is left of a speech is not in the way of the next. A busy machine may cost the graph a cycle.
    assert sum(spoken(session).whole for _ in range(4)) >= 2


def test_what_another_voice_spoils_is_not_said_whole(session: PipeWireSession) -> None:
    for channel in ("FL", "FR"):
        link(session, channel)
    noise = session.directory / "noise.wav"
    noise.write_bytes(wav(numbered(10 * 48_000, 1_000_000)))
    with session.client(
        ["pw-cat", "--playback", "--target", "0", "-P", "{ node.name=heckler }", str(noise)]
    ) as heckler:
        await_until(lambda: "heckler:output_FR" in session.run("pw-link", "-o"), 5, "the other voice")
        session.run("pw-link", "heckler:output_FR", f"{session.MICROPHONE}:input_FR")
        assert not spoken(session).whole
        assert heckler.running


def test_nothing_is_said_before_somebody_hears_both_channels(session: PipeWireSession) -> None:
    link(session, "FL")
    said: list[Speech] = []
    speaking = threading.Thread(target=lambda: said.append(session.speak(SOUND)))
    speaking.start()
    speaking.join(0.5)
    assert not said
    link(session, "FR")
    speaking.join(10)
    said[0].wait()


def test_only_what_the_session_itself_was_late_for_is_heard_again() -> None:
    part, whole = locate(numbered(9), 10), locate(numbered(10), 10)

    def tried(*hearings: tuple[Heard, bool]) -> tuple[Heard, int]:
        left = list(hearings)
        return unless_late(lambda: left.pop(0), 10), len(hearings) - len(left)

    assert tried((whole, False), (part, True)) == (whole, 1)
    assert tried((part, True), (whole, True)) == (part, 1)
    assert tried((part, False), (whole, True)) == (whole, 2)
    assert tried(*[(part, False)] * 5) == (part, 4)
