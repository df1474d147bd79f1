"""What the demo found out, and how frames that were sent are looked for among frames that arrived."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

#: Frames that are looked for together where not all of them stand in one piece.
_BLOCK_FRAMES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How much of `sent` frames arrived in order; `exact`: all of them, in one piece."""

    sent: int
    found: int
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run of the demo."""

    rate: int
    period_frames: int
    played: Match
    recorded: Match
    #: Bytes of the WAV file's audio, S16 stereo.
    heard: bytes
    #: When each message of a period came back, in seconds of the monotonic clock.
    completions_s: tuple[float, ...]
    #: Under- and overruns that the device told.
    xruns: int
    kicks: int
    signals: int
    #: What the device said of each message, in milliseconds.
    latency_ms: tuple[float, ...]
    #: CPU time of the daemon while it played, in milliseconds a second.
    cpu_ms_per_s: float
    files: tuple[Path, ...]

    @property
    def exact(self) -> bool:
        return self.played.exact and self.recorded.exact

    @property
    def periods(self) -> int:
        return len(self.completions_s)

    def deviations_ms(self) -> list[float]:
        """How far from an ideal clock each message came back; the clock's beginning is where half of them are later."""
        period_s = self.period_frames / self.rate
        offsets = [at - index * period_s for index, at in enumerate(self.completions_s)]
        middle = statistics.median(offsets)
        return [(offset - middle) * 1000 for offset in offsets]


def match(sent: bytes, heard: bytes, frame_bytes: int) -> Match:
    """Look for `sent` in `heard`, which may have silence around it.

    Where it is not there in one piece, blocks of 64 frames are looked for one behind the other.
    """
    frames = len(sent) // frame_bytes
    if _find(sent, heard, 0, frame_bytes) >= 0:
        return Match(sent=frames, found=frames, exact=True)
    found = behind = 0
    for begin in range(0, len(sent), _BLOCK_FRAMES * frame_bytes):
        block = sent[begin : begin + _BLOCK_FRAMES * frame_bytes]
        at = _find(block, heard, behind, frame_bytes)
        if at >= 0:
            found += len(block) // frame_bytes
            behind = at + len(block)
    return Match(sent=frames, found=found, exact=False)


def _find(part: bytes, whole: bytes, begin: int, frame_bytes: int) -> int:
    """Where `part` stands in `whole` at a frame's border, or -1."""
    at = whole.find(part, begin)
    while at >= 0 and at % frame_bytes:
        at = whole.find(part, at + 1)
    return at
