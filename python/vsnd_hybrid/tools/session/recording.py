"""Recorders of a PipeWire session: they run in its server, so that no program's main thread or disk can make them late.

A machine that stands still for a moment can: PipeWire counts that (`Recording.missed_cycles`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import threading
from typing import TYPE_CHECKING, Final

from vsnd_hybrid.tools.session.processes import POLL_S, await_until

if TYPE_CHECKING:
    from vsnd_hybrid.tools.session.pipewire import PipeWireSession

RATE: Final = 48000
FRAME_BYTES: Final = 4
#: More than five seconds: whoever is at the other end of a pipe is a program like any other.
PIPE_BYTES: Final = 1 << 20


class Recorder:
    """One of the server's own: it writes what it hears into a pipe, and drops it where the pipe is full."""

    def __init__(self, session: PipeWireSession, name: str, source: str) -> None:
        self.name = name
        #: The ports that it hears, less their channel.
        self.source = source
        self._session = session
        self._pipe = session.directory / name
        os.mkfifo(self._pipe)
        #: The last that was made with it.
        self.recording: Recording | None = None

    def open(self) -> int:
        """The pipe, with nothing in it."""
        pipe = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with contextlib.suppress(BlockingIOError):
            while os.read(pipe, PIPE_BYTES):
                pass
        return pipe

    def link(self, *options: str) -> None:
        """Link it to what it hears, or with `-d` unlink it."""
        for channel in ("FL", "FR"):
            self._session.run("pw-link", *options, f"{self.source}_{channel}", f"{self.name}:input_{channel}")


class Recording:
    """What is heard somewhere, recorded as raw S16 stereo at 48 kHz from its making to `stop`.

    `missed_before`: cycles that the recorder has missed already.
    """

    def __init__(self, session: PipeWireSession, recorder: Recorder, missed_before: int = 0) -> None:
        # Two readers of one pipe would share what is in it.
        if recorder.recording:
            recorder.recording.close()
        self._session, self._recorder = session, recorder
        self._samples = bytearray()
        self._pipe = self._recorder.open()
        self._closed = threading.Event()
        self._reader = threading.Thread(target=self._read, name=self._recorder.name, daemon=True)
        self._reader.start()
        self._missed_before = missed_before
        self._missed: int | None = None
        recorder.recording = self
        self._recorder.link()
        self.await_frames(1)

    def _read(self) -> None:
        while not self._closed.is_set():
            if select.select([self._pipe], [], [], POLL_S)[0]:
                self._samples += os.read(self._pipe, PIPE_BYTES)

    @property
    def frames(self) -> int:
        """How many have been recorded so far."""
        return len(self._samples) // FRAME_BYTES

    @property
    def samples(self) -> bytes:
        """What has been recorded so far."""
        return bytes(self._samples)

    def await_frames(self, count: int, timeout_s: float = 10) -> None:
        """Wait until so many more were recorded."""
        goal = self.frames + count
        await_until(lambda: self.frames >= goal, timeout_s, f"{count} recorded frames")

    @property
    def missed_cycles(self) -> bool:
        """The recorder itself was too late for the graph at least once: what it did not hear proves nothing."""
        missed = self._session.missed_cycles(self._recorder.name) if self._missed is None else self._missed
        return missed > self._missed_before

    def heard(self) -> bytes:
        """All that was recorded so far, with what was on its way when this was called."""
        self.await_frames(RATE // 4)
        return self.samples

    def stop(self) -> bytes:
        """The same, and no more."""
        self.heard()
        # PipeWire tells it of nodes that run only.
        self._missed = self._session.missed_cycles(self._recorder.name)
        self.close()
        return self.samples

    def close(self) -> None:
        """End the recording. Idempotent."""
        if not self._closed.is_set():
            self._recorder.link("-d")
            self._closed.set()
            self._reader.join()
            os.close(self._pipe)
