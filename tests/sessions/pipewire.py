"""A PipeWire session with a sink that can be recorded and a microphone that can be fed; the benchmark uses the same."""

from __future__ import annotations

from collections.abc import Callable

from vsnd_hybrid.tools.session.noise import Heard, locate
from vsnd_hybrid.tools.session.pipewire import TAIL_FRAMES, PipeWireSession, installed, real_time
from vsnd_hybrid.tools.session.recording import FRAME_BYTES, RATE, Recording
from vsnd_hybrid.tools.session.speech import Speech


def unless_late(hear: Callable[[], tuple[Heard, bool]], frames: int, first: int = 0) -> Heard:
    """What `hear` heard of numbered frames.

    It also says whether the session's own instrument, the microphone that speaks or the recorder that listens, was in time for all
    of them. If not, and they were not heard, `hear` is called again, up to three times: without real-time priority a busy machine
    costs the graph a cycle now and then. Nothing else is excused.
    """
    for _ in range(4):
        heard, in_time = hear()
        if in_time or heard.holds(frames, first):
            break
    return heard


def heard_of(session: PipeWireSession, play: Callable[[Recording], object], frames: int, first: int = 0) -> Heard:
    """What a recorder of the session hears of numbered frames that `play` plays."""

    def hear() -> tuple[Heard, bool]:
        recording = session.record()
        play(recording)
        heard = locate(recording.stop(), frames, first)
        return heard, not recording.missed_cycles

    return unless_late(hear, frames, first)


__all__ = [
    "FRAME_BYTES",
    "RATE",
    "TAIL_FRAMES",
    "PipeWireSession",
    "Recording",
    "Speech",
    "heard_of",
    "installed",
    "real_time",
    "unless_late",
]
