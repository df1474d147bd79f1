"""Control threads: every method of a backend instance and of its streams is called on one thread of its own.

An engine may block; then its own streams wait, and nobody else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from vsnd_hybrid.backends.base import Backend
from vsnd_hybrid.logs import LimitedLog

_log = logging.getLogger("vsnd_hybrid.device.control")
_T = TypeVar("_T")

#: Where results are handed over to: `Loop.call_soon`.
Post = Callable[[Callable[[], Any]], None]


class Job(Generic[_T]):
    """A call on a control thread whose result somebody waits for; made by `ControlThread.submit`."""

    def __init__(
        self,
        call: Callable[[], _T],
        done: Callable[[_T | None, Exception | None], None],
        undo: Callable[[_T | None], None] | None,
        post: Post,
    ) -> None:
        self._call = call
        self._done = done
        self._undo = undo
        self._post = post
        self._lock = threading.Lock()
        self._abandoned = False
        self._finished = False

    def abandon(self) -> bool:
        """Nobody waits any more: `undo` is called on the control thread when the call has ended (with its result), or
        in its place (with None). False if it has ended already: `done` is called as if nothing was.
        """
        with self._lock:
            self._abandoned = not self._finished
            return self._abandoned

    def run(self) -> None:
        """For the control thread."""
        result: _T | None = None
        error: Exception | None = None
        if not self._abandoned:
            try:
                result = self._call()
            except Exception as exception:  # noqa: BLE001 - an engine's failure is an answer
                error = exception
        with self._lock:
            self._finished = not self._abandoned
        if self._finished:
            self._post(lambda: self._done(result, error))
        elif self._undo is not None:
            self._undo(result)


class ControlThread:
    """Makes calls one after the other. `submit`, `tell` and `close` may be called from any thread."""

    def __init__(self, name: str) -> None:
        self._log = LimitedLog(_log)
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        # A daemon thread: an engine that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"vsnd-{name}", daemon=True)
        self._thread.start()

    def submit(
        self,
        call: Callable[[], _T],
        done: Callable[[_T | None, Exception | None], None],
        post: Post,
        *,
        undo: Callable[[_T | None], None] | None = None,
    ) -> Job[_T]:
        """Make a call, and hand its result, or the exception, to `done` by way of `post`."""
        job = Job(call, done, undo, post)
        self._calls.put(job.run)
        return job

    def tell(self, call: Callable[[], Any]) -> None:
        """Make a call that nobody waits for; if it fails, that is one line in the log."""
        self._calls.put(call)

    def ask(self, call: Callable[[], _T], timeout_s: float) -> _T:
        """Make a call and wait for it. Raises what it raises, or TimeoutError."""
        ended = threading.Event()
        results: list[tuple[_T | None, Exception | None]] = []

        def done(result: _T | None, error: Exception | None) -> None:
            results.append((result, error))
            ended.set()

        self.submit(call, done, lambda hand_over: hand_over())
        if not ended.wait(timeout_s):
            raise TimeoutError(f"no answer in {timeout_s:g} s")
        result, error = results[0]
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # without an error there is a result

    def close(self) -> None:
        """End after the calls that are waiting. Does not wait."""
        self._calls.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end. False if a call hangs."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception as error:  # noqa: BLE001 - an engine's failure does not end its thread
                self._log.warning("an engine call failed: %s: %s", type(error).__name__, error)
                self._log.debug("its traceback", exc_info=True)


class Controls:
    """The control threads of a process: one for each backend instance. Devices that share backends share this."""

    def __init__(self) -> None:
        self._threads: dict[Backend, ControlThread] = {}

    def of(self, backend: Backend) -> ControlThread:
        """The control thread of a backend."""
        if backend not in self._threads:
            self._threads[backend] = ControlThread(backend.name)
        return self._threads[backend]

    def close(self, timeout_s: float) -> None:
        """Close every backend, and wait up to `timeout_s` in all for those that are busy."""
        until = time.monotonic() + timeout_s
        for backend, thread in self._threads.items():
            thread.tell(backend.close)
            thread.close()
        for backend, thread in self._threads.items():
            if not thread.join(max(0.0, until - time.monotonic())):
                _log.warning("the %s engine does not answer; it is left behind", backend.name)
        self._threads.clear()
