"""Log lines that a guest can cause are limited: it must not be able to fill the host's disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, MutableMapping
from typing import Any


class LimitedLog(logging.LoggerAdapter[logging.Logger]):
    """A logger that lets `burst` lines through at once and `per_minute` in the long run, and tells how many it dropped.

    Lines below INFO are not counted: who asks for debugging gets it.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        burst: int = 10,
        per_minute: float = 10,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(logger)
        self._burst = burst
        self._per_second = per_minute / 60
        self._clock = clock
        self._tokens = float(burst)
        self._filled_at = clock()
        self._dropped = 0

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if not self.logger.isEnabledFor(level):
            return
        if level >= logging.INFO:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
            self._filled_at = now
            if self._tokens < 1:
                self._dropped += 1
                return
            self._tokens -= 1
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self.logger.log(level, "%d more lines like the next were left out", dropped)
        self.logger.log(level, msg, *args, **kwargs)
