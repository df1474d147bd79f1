"""A PipeWire session with a sink that can be recorded and a microphone that can be fed; the benchmark uses the same."""

from vsnd_hybrid.tools.session.pipewire import (
    FRAME_BYTES,
    RATE,
    TAIL_FRAMES,
    PipeWireSession,
    Recording,
    installed,
    real_time,
)

__all__ = [
    "FRAME_BYTES",
    "RATE",
    "TAIL_FRAMES",
    "PipeWireSession",
    "Recording",
    "installed",
    "real_time",
]
