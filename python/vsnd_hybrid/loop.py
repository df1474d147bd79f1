"""One thread that waits: for descriptors, for time, and for what other threads ask of it. Nothing here knows of devices.

asyncio would do, but importing it costs as much as the rest of the daemon's start.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from vsnd_hybrid.logs import LimitedLog


class Timer:
    """A call in the future; made by `Loop.call_later`."""

    __slots__ = ("_call", "due")

    def __init__(self, due: float, call: Callable[[], Any]) -> None:
        self.due = due
        self._call: Callable[[], Any] | None = call

    def cancel(self) -> None:
        """Do not call; harmless if it was called already."""
        self._call = None

    @property
    def cancelled(self) -> bool:
        """It was cancelled, or has fired."""
        return self._call is None

    def fire(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


class Loop:
    """Waits in `run`. Every callback is called on the thread that runs, one at a time.

    An exception in a callback is one line in the log (its traceback at level debug), and the loop goes on.
    `call_soon` and `stop` may be called from any thread and from signal handlers; all else on the loop's thread, or before
    it runs.

    Parameters
    ----------
    clock
        Seconds; for tests that do not want to wait.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._poll = select.poll()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake_fd, select.POLLIN)
        self._watched: dict[int, Callable[[], Any]] = {self._wake_fd: self._woken}
        self._soon: deque[Callable[[], Any]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._stopping = False
        self._closed = False
        self._log = LimitedLog(logging.getLogger("vsnd_hybrid.loop"))

    def watch(self, fd: int, readable: Callable[[], Any]) -> None:
        """Call `readable` whenever `fd` is readable."""
        self._watched[fd] = readable
        self._poll.register(fd, select.POLLIN)

    def unwatch(self, fd: int) -> None:
        """Forget `fd`; call this before it is closed."""
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def call_soon(self, call: Callable[[], Any]) -> None:
        """Call from the loop's thread as soon as it can. Takes no lock."""
        self._soon.append(call)
        self._wake()

    def call_later(self, delay_s: float, call: Callable[[], Any]) -> Timer:
        """Call in `delay_s` seconds."""
        timer = Timer(self.clock() + delay_s, call)
        heapq.heappush(self._timers, (timer.due, next(self._count), timer))
        return timer

    def next_due(self) -> float | None:
        """When, by the loop's clock, the next timer fires."""
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def stop(self) -> None:
        """Let `run` return once the callback that runs now has ended."""
        self._stopping = True
        self._wake()

    def run(self) -> None:
        """Wait and call, until `stop`."""
        while not self._stopping:
            self.run_once()
        self._stopping = False

    def run_once(self, timeout_s: float | None = None) -> None:
        """Wait until something happens, or `timeout_s`, and make the calls that are due."""
        for fd, _ in self._poll.poll(self._timeout_ms(timeout_s)):
            callback = self._watched.get(fd)
            if callback is not None:
                self._guarded(callback)
        for _ in range(len(self._soon)):
            self._guarded(self._soon.popleft())
        now = self.clock()
        while self._timers and self._timers[0][0] <= now:
            self._guarded(heapq.heappop(self._timers)[2].fire)

    def close(self) -> None:
        """Give the descriptor back; the loop does not run any more. Idempotent."""
        if not self._closed:
            self._closed = True
            os.close(self._wake_fd)

    def _timeout_ms(self, timeout_s: float | None) -> float | None:
        if self._soon:
            return 0
        due = self.next_due()
        if due is not None:
            due_s = max(0.0, due - self.clock())
            timeout_s = due_s if timeout_s is None else min(due_s, timeout_s)
        # Rounded up: a wait that ends a fraction of a millisecond early would spin until the timer is due.
        return None if timeout_s is None else int(timeout_s * 1000) + (timeout_s > 0)

    def _wake(self) -> None:
        if not self._closed:
            os.eventfd_write(self._wake_fd, 1)

    def _woken(self) -> None:
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            pass

    def _guarded(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever a callback raises, the loop goes on
            self._log.error("a callback failed: %s: %s", type(error).__name__, error)
            self._log.debug("its traceback", exc_info=True)
