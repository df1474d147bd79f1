"""A PipeWire session with a sink that can be recorded and a microphone that can be fed; the benchmark uses the same."""

from __future__ import annotations

from collections.abc import Callable

from vsnd_hybrid.tools.session.noise import Heard
from vsnd_hybrid.tools.session.pipewire import TAIL_FRAMES, PipeWireSession, installed, real_time
from vsnd_hybrid.tools.session.recording import FRAME_BYTES, RATE, Recording
from vsnd_hybrid.tools.session.speech import Speech


def unless_unsaid(hear: Callable[[], tuple[Heard, bool]], frames: int, first: int = 0) -> Heard:
    """What `hear` heard of numbered frames that were spoken.

    It also says whether the microphone itself, recorded within the server, said them all. If not, and they were not heard, `hear` is
    called again, up to three times: without real-time priority a busy machine costs the graph a cycle now and then. Nothing
    else is excused.
    """
    for _ in range(4):
        heard, said = hear()
        if said or heard.holds(frames, first):
            break
    return heard


__all__ = [
    "FRAME_BYTES",
    "RATE",
    "TAIL_FRAMES",
    "PipeWireSession",
    "Recording",
    "Speech",
    "installed",
    "real_time",
    "unless_unsaid",
]
