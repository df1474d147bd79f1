"""The option `latency`: how often an engine shall wake up for a stream, and so how late the guest is heard."""

from __future__ import annotations

from typing import Final

from vsnd_hybrid.backends.base import BackendError, PcmParams

WORDS: Final = ("low", "balanced", "power")
FRAMES_MAX: Final = 1 << 16
ALLOWED: Final = f"low, balanced, power, or a number of frames from 1 to {FRAMES_MAX}"
DEFAULT: Final = "balanced"


def valid(text: str) -> bool:
    """Whether it is one of `WORDS` or a number of frames."""
    return text in WORDS or (text.isascii() and text.isdigit() and 1 <= int(text) <= FRAMES_MAX)


def check(text: str) -> str:
    """The same text. Raises `BackendError` if it is not `valid`."""
    if not valid(text):
        raise BackendError(f"option latency={text}: expected {ALLOWED}")
    return text


def largest_frames(params: PcmParams) -> int:
    """The most frames a wake-up that the guest's buffer feeds without a gap.

    At most (buffer - period) is given back in one wake-up; see docs/design.md, "Progress".
    """
    return max(params.buffer_frames - params.period_frames, params.period_frames)


def wakeup_frames(latency: str, params: PcmParams) -> int:
    """Frames between wake-ups to ask an engine for.

    An engine that rounds rounds down, most to a power of two: ``low`` wakes up at least once a period, ``balanced``
    at most once a period where the guest's buffer bears it, ``power`` as seldom as that bears.
    """
    largest = largest_frames(params)
    match latency:
        case "low":
            return params.period_frames
        case "balanced":
            rounded_up = 1 << (params.period_frames - 1).bit_length()
            return rounded_up if rounded_up <= largest else params.period_frames
        case "power":
            return largest
    return int(latency)
