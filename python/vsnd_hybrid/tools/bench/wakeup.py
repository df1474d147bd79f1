"""What a wake-up costs on this machine: it is most of what a stream with long periods costs."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Final

#: Enough for two digits.
_TURNS: Final = 100
_PAUSE_S: Final = 0.005


def wakeup_us() -> tuple[float, float]:
    """CPU time in µs: of a thread that sleeps once, and of a write that wakes another process up. Takes about a second."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0) as sleeper:
        if sleeper.stdin is None:
            raise RuntimeError("a pipe was asked for")
        fd = sleeper.stdin.fileno()
        asleep = writing = 0
        for _ in range(_TURNS):
            begun = time.thread_time_ns()
            time.sleep(_PAUSE_S)
            woken = time.thread_time_ns()
            os.write(fd, b"\n")
            asleep += woken - begun
            writing += time.thread_time_ns() - woken
    return asleep / _TURNS / 1000, writing / _TURNS / 1000
