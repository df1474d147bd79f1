"""Control: who calls the methods of a backend instance and of its streams, one at a time.

An engine may block; then its own streams wait, and nobody else: it has a thread of its own. One that never does needs none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from vsnd_hybrid.backends.base import Backend
from vsnd_hybrid.logs import LimitedLog

_log = logging.getLogger("vsnd_hybrid.device.control")
_T = TypeVar("_T")

#: Where results are handed over to: `Loop.call_soon`.
Post = Callable[[Callable[[], Any]], None]


class Job(Generic[_T]):
    """A call of a backend whose result somebody waits for; made by `Control.job`."""

    def __init__(
        self,
        call: Callable[[], _T],
        done: Callable[[_T | None, Exception | None], None],
        undo: Callable[[_T | None], None] | None,
        post: Post,
        begin: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self._begin = begin
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

    def begin(self) -> None:
        """Have the call made when it is its turn, or at once."""
        self._begin(self.run)

    def run(self) -> None:
        """For whoever makes the calls."""
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


class Control(Protocol):
    """Makes calls one after the other."""

    def job(
        self,
        call: Callable[[], _T],
        done: Callable[[_T | None, Exception | None], None],
        post: Post,
        *,
        undo: Callable[[_T | None], None] | None = None,
    ) -> Job[_T]:
        """A call to be made at `Job.begin`, whose result, or the exception, goes to `done`."""

    def tell(self, call: Callable[[], Any]) -> None:
        """Make a call that nobody waits for; if it fails, that is one line in the log."""

    def ask(self, call: Callable[[], _T], timeout_s: float) -> _T:
        """Make a call and wait for it. Raises what it raises, or TimeoutError."""

    def close(self) -> None:
        """End after the calls that are waiting. Does not wait."""

    def join(self, timeout_s: float) -> bool:
        """Wait for the end. False if a call hangs."""


class DirectControl:
    """Makes each call at once, on its caller's thread: for backends that never wait (`Backend.blocks`)."""

    def __init__(self) -> None:
        self._log = LimitedLog(_log)

    def job(
        self,
        call: Callable[[], _T],
        done: Callable[[_T | None, Exception | None], None],
        post: Post,
        *,
        undo: Callable[[_T | None], None] | None = None,
    ) -> Job[_T]:
        """See `Control.job`; `done` is called before `Job.begin` returns."""
        return Job(call, done, undo, _at_once, _at_once)

    def tell(self, call: Callable[[], Any]) -> None:
        """See `Control.tell`."""
        _guarded(call, self._log)

    def ask(self, call: Callable[[], _T], timeout_s: float) -> _T:
        """See `Control.ask`; it does not wait."""
        return call()

    def close(self) -> None:
        """Nothing is left to be called."""

    def join(self, timeout_s: float) -> bool:
        """See `Control.join`."""
        return True


class ControlThread:
    """Makes calls on a thread of its own. Everything but `ask` and `join` may be called from any thread."""

    def __init__(self, name: str) -> None:
        self._log = LimitedLog(_log)
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        # A daemon thread: an engine that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"vsnd-{name}", daemon=True)
        self._thread.start()

    def job(
        self,
        call: Callable[[], _T],
        done: Callable[[_T | None, Exception | None], None],
        post: Post,
        *,
        undo: Callable[[_T | None], None] | None = None,
    ) -> Job[_T]:
        """See `Control.job`; `done` is called by way of `post`."""
        return Job(call, done, undo, post, self._calls.put)

    def tell(self, call: Callable[[], Any]) -> None:
        """See `Control.tell`."""
        self._calls.put(call)

    def ask(self, call: Callable[[], _T], timeout_s: float) -> _T:
        """See `Control.ask`."""
        ended = threading.Event()
        results: list[tuple[_T | None, Exception | None]] = []

        def done(result: _T | None, error: Exception | None) -> None:
            results.append((result, error))
            ended.set()

        self.job(call, done, _at_once).begin()
        if not ended.wait(timeout_s):
            raise TimeoutError(f"no answer in {timeout_s:g} s")
        result, error = results[0]
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # without an error there is a result

    def close(self) -> None:
        """See `Control.close`."""
        self._calls.put(None)

    def join(self, timeout_s: float) -> bool:
        """See `Control.join`."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            _guarded(call, self._log)


def _at_once(call: Callable[[], Any]) -> None:
    call()


def _guarded(call: Callable[[], Any], log: LimitedLog) -> None:
    try:
        call()
    except Exception as error:
        log.warning("an engine call failed: %s: %s", type(error).__name__, error)
        log.debug("its traceback", exc_info=True)


class Controls:
    """The controls of a process: one for each backend instance. Devices that share backends share this."""

    def __init__(self) -> None:
        self._controls: dict[Backend, Control] = {}

    def of(self, backend: Backend) -> Control:
        """Who calls a backend's methods."""
        if backend not in self._controls:
            self._controls[backend] = ControlThread(backend.name) if backend.blocks else DirectControl()
        return self._controls[backend]

    def close(self, timeout_s: float) -> None:
        """Close every backend, and wait up to `timeout_s` in all for those that are busy."""
        until = time.monotonic() + timeout_s
        for backend, control in self._controls.items():
            control.tell(backend.close)
            control.close()
        for backend, control in self._controls.items():
            if not control.join(max(0.0, until - time.monotonic())):
                _log.warning("the %s engine does not answer; it is left behind", backend.name)
        self._controls.clear()
