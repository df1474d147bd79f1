"""A stream in the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from vsnd_hybrid._core import PcmRun

_R = TypeVar("_R")


class StreamRun(Generic[_R]):
    """A stream that plays or records while the caller does something else. Any thread may call it."""

    def __init__(self, run: PcmRun, report: Callable[[dict[str, Any]], _R]) -> None:
        self._run = run
        self._report = report

    @property
    def messages_done(self) -> int:
        """Messages that came back so far."""
        return self._run.progress[0]

    def wait_messages(self, n: int, timeout: float | None = None) -> bool:
        """Wait until `n` messages came back, or the stream was cut off. False if that takes longer than `timeout` s.

        Raises GuestError if nothing comes back any more.
        """
        return self._run.wait_messages(n, timeout)

    def wait(self) -> _R:
        """Wait until all was played or recorded, STOP, RELEASE, and report. A cut-off is told in the report.

        Raises GuestError if nothing comes back any more, or STOP or RELEASE are refused.
        """
        self._run.wait_done()
        return self.stop()

    def stop(self, *, release: bool = True) -> _R:
        """STOP now and report; with `release` RELEASE as well, and wait for what is pending. Idempotent."""
        return self._report(self._run.stop(release=release))

    def pause(self) -> None:
        """STOP; what is queued stays queued."""
        self._run.pause()

    def resume(self) -> None:
        """START after `pause`."""
        self._run.resume()

    def starve(self, on: bool = True) -> None:
        """Offer the device nothing more, as an application that is busy elsewhere; or go on."""
        self._run.starve(on)
