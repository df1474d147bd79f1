"""How punctual an engine's callback is in Python, and natively, while other threads of the daemon are busy.

    python promise.py [SECONDS]

Each engine takes a period each period, of 128, 256, 480 and 1024 frames at 48 kHz. A wake-up more than a period late is an underrun of
an engine that holds two periods. The loads are a thread that computes, and one that keeps the garbage collector at work over 300 000
live objects. Python is measured as it is, and as the daemon sets it: `gc.freeze()` and a switch interval of half a millisecond.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable

from vsnd_hybrid._core import ClockPort, PcmPort, PcmStream

RATE, FRAME_BYTES = 48000, 4
SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0


def native(port: PcmPort) -> tuple[int, int]:
    """Wake-ups, and late ones, of the clock in Rust."""
    clock = ClockPort(port)
    clock.start()
    time.sleep(SECONDS)
    clock.close()
    return clock.stats["ticks"], clock.stats["late"]


def python(port: PcmPort) -> tuple[int, int]:
    """The same of a Python thread that does nothing else."""
    period_s = port.period_bytes / FRAME_BYTES / RATE
    wake_ups = late = 0
    begin = due = time.monotonic()
    while due < begin + SECONDS:
        due += period_s
        time.sleep(max(0.0, due - time.monotonic()))
        behind = time.monotonic() - due
        wake_ups += 1
        if behind > period_s:
            late += 1
            due += behind  # what was missed is missed
        port.read(port.period_bytes)
    return wake_ups, late


def python_as_in_the_daemon(port: PcmPort) -> tuple[int, int]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    gc.freeze()
    try:
        return python(port)
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval)


def compute(end: threading.Event) -> None:
    while not end.is_set():
        sum(range(10_000))


def collect(end: threading.Event) -> None:
    live = [[i] for i in range(300_000)]
    while live and not end.is_set():
        for _ in range(20_000):
            cycle: list[object] = []
            cycle.append(cycle)


def measure(load: Callable[[threading.Event], None] | None, frames: int) -> None:
    end = threading.Event()
    thread = threading.Thread(target=load, args=(end,)) if load else None
    if thread:
        thread.start()
        time.sleep(0.5)  # until its heap is there
    counts = []
    for engine in native, python, python_as_in_the_daemon:
        stream = PcmStream(0, False)
        period = frames * FRAME_BYTES
        stream.configure(buffer_bytes=4 * period, period_bytes=period, frame_bytes=FRAME_BYTES, rate=RATE)
        counts.append("{1} of {0}".format(*engine(stream.port())))
    end.set()
    if thread:
        thread.join()
    print(f"| {load.__name__ if load else 'nothing'} | {frames} | {' | '.join(counts)} |", flush=True)


if __name__ == "__main__":
    print("| load | period | native, late | Python, late | as in the daemon, late |\n|---|---|---|---|---|")
    for load in None, compute, collect:
        for frames in 128, 256, 480, 1024:
            measure(load, frames)
