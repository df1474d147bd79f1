"""What keeps the daemon in time on a busy host: the priority of the threads that move audio, and memory that stays.

By default what the host permits, silently; what was asked for and is not permitted is a `ServiceError`.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from vsnd_hybrid import _core
from vsnd_hybrid.service.config import Settings
from vsnd_hybrid.service.errors import ServiceError

log = logging.getLogger(__name__)

#: Before all that is not real time, and behind the engines, which wake up with the sound card (PipeWire: 83 to 88).
PRIORITY: Final = 20


class Timeliness:
    """What the settings say about it."""

    def __init__(self, settings: Settings) -> None:
        self._wanted: Final = settings.rt_priority
        self._mlock: Final = settings.mlock or "auto"

    def permit(self) -> None:
        """While we are root: so that the user who we become may do it."""
        if self._wanted and os.geteuid() == 0:
            try:
                _core.permit_priority(self._wanted)
            except OSError as error:
                raise self._refused(error) from None

    def raise_priority(self) -> None:
        """Before any device is made, and before system calls are restricted. Starts a thread."""
        if self._wanted == 0:
            return
        try:
            _core.set_audio_priority(self._wanted or PRIORITY)
        except OSError as error:
            if self._wanted:
                raise self._refused(error) from None
            log.info("no real-time priority: %s", error.strerror)

    def lock_memory(self) -> None:
        """When the engines are there, and no guest is: its memory shall not be locked. Before system calls are restricted."""
        if self._mlock == "off":
            return
        try:
            _core.lock_memory()
        except OSError as error:
            if self._mlock == "on":
                raise ServiceError(
                    f"--mlock=on: {error.strerror}; raise the limit (LimitMEMLOCK=, ulimit -l), or leave it at auto"
                ) from None
            log.info("memory is not locked: %s", error.strerror)

    def _refused(self, error: OSError) -> ServiceError:
        return ServiceError(
            f"--rt-priority {self._wanted}: {error.strerror}; "
            "raise the limit (LimitRTPRIO=, ulimit -r), or leave it out to run without where it is not permitted"
        )
