"""What a measurement is made with: the scenario, whose turn it is, for how long, and the audio server for it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vsnd_hybrid.tools.bench import plugin
from vsnd_hybrid.tools.bench.contenders import Contender
from vsnd_hybrid.tools.bench.daemon import Daemon, Failed
from vsnd_hybrid.tools.bench.scenario import BUSY, IN_SESSION, Scenario

if TYPE_CHECKING:
    from vsnd_hybrid.tools.session.pipewire import PipeWireSession

#: Seconds until a daemon's socket must be there.
START_S = 10.0
#: Seconds without a message coming back after which a stream is given up.
STALL_S = 2.0


class Sessions:
    """The bench's own PipeWire session, made when one is first needed, and anew if its server has gone."""

    def __init__(self) -> None:
        self._session: PipeWireSession | None = None

    def pipewire(self) -> PipeWireSession:
        """Raises `Failed` where it is not installed or does not come up."""
        from vsnd_hybrid.tools.session.pipewire import PipeWireSession, installed

        if self._session and not self._session.alive:
            self.close()
        if self._session is None:
            if not installed():
                raise Failed("PipeWire, WirePlumber and their tools are not installed: run scripts/system-setup")
            session = PipeWireSession()
            try:
                self._session = session.start()
            except BaseException as error:
                session.close()
                if isinstance(error, (OSError, TimeoutError)):
                    raise Failed(f"the PipeWire session does not come up: {error}") from error
                raise
        return self._session

    def close(self) -> None:
        """Idempotent."""
        if self._session:
            self._session.close()
            self._session = None


@dataclass(slots=True)
class Context:
    """One measurement of one contender."""

    scenario: Scenario
    contender: Contender
    #: How long to look.
    seconds: float
    sessions: Sessions
    #: Count system calls instead: the counting costs time, so that figures of such a pass are not used.
    counting: bool = False

    @property
    def environment(self) -> Mapping[str, str]:
        """That of the daemon: for PipeWire that of the session."""
        if self.scenario.engine not in IN_SESSION:
            return os.environ
        environment = self.sessions.pipewire().environment
        return plugin.environment(environment) if self.scenario.engine in BUSY else environment

    @contextmanager
    def daemon(self) -> Iterator[Daemon]:
        """A fresh one for the block. Raises `Failed` and `Unsupported`."""
        environment = self.environment
        # Under /tmp, because a socket's path has to be short.
        with tempfile.TemporaryDirectory(prefix="vsnd-bench-", dir="/tmp", ignore_cleanup_errors=True) as directory:
            path = Path(directory) / "snd.sock"
            s = self.scenario
            argv = self.contender.argv(path, engine=s.engine, outputs=s.outputs, inputs=s.inputs)
            limit_s = s.patience_s + 4 * self.seconds
            with Daemon(argv, path, environment, start_s=START_S, limit_s=limit_s) as daemon:
                yield daemon
