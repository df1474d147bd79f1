"""Speaking into the microphone of a PipeWire session: in its server, on the thread that drives the microphone.

A program that speaks can be kept waiting by others, and nobody who hears it can tell. Here all that is to be said is in the server
before the first of it is heard, and what the microphone said is recorded in the server too.
"""

from __future__ import annotations

import array
import fcntl
import os
import termios
from typing import TYPE_CHECKING

from vsnd_hybrid.tools.session.processes import await_until
from vsnd_hybrid.tools.session.recording import FRAME_BYTES, PIPE_BYTES, RATE, Recorder, Recording

if TYPE_CHECKING:
    from vsnd_hybrid.tools.session.pipewire import PipeWireSession


class Speaker:
    """One of the server's own: it reads a pipe into a queue of 20 s, of which the graph's cycles take.

    What it reads first, after it had nothing to say, is cut to its last 8192 frames, or silence comes before it to make so many. So it
    is given a frame of silence and then, within that time, what it is to say.
    """

    def __init__(self, session: PipeWireSession, name: str) -> None:
        self._session, self._name = session, name
        self._path = session.directory / name
        os.mkfifo(self._path)

    def link(self, *options: str) -> None:
        """Link it to the microphone, or with `-d` unlink it."""
        for channel in ("FL", "FR"):
            ports = (f"{self._name}:output_{channel}", f"{self._session.MICROPHONE}:input_{channel}")
            self._session.run("pw-link", *options, *ports)

    def say(self, samples: bytes) -> None:
        """Hand all of it over to the server; returns when it has it."""
        pipe = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            os.write(pipe, bytes(FRAME_BYTES))
            await_until(lambda: not _unread(pipe), 10, "the speaker", poll_s=0.001)
            while samples:
                samples = samples[os.write(pipe, samples[:PIPE_BYTES]) :]
                await_until(lambda: not _unread(pipe), 10, "the speaker", poll_s=0.001)
        finally:
            os.close(pipe)


def _unread(pipe: int) -> int:
    """Bytes that are in the pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


class Speech:
    """S16 stereo samples at 48 kHz that the microphone says, once, from the making of this on.

    Parameters
    ----------
    session
        Whose microphone it is.
    speaker, listener
        Who speaks, and who records what the microphone says.
    samples
        They should begin and end with silence: those who listen are linked at different moments.
    """

    def __init__(self, session: PipeWireSession, speaker: Speaker, listener: Recorder, samples: bytes) -> None:
        self._speaker, self._sound = speaker, samples.strip(bytes(FRAME_BYTES))
        self._duration_s = len(samples) / FRAME_BYTES / RATE
        self._tail = len(samples) - len(samples.rstrip(bytes(FRAME_BYTES)))
        speaker.link()
        # What it says before is silence, without which nobody could tell that both links are there.
        self._said = Recording(session, listener)
        speaker.say(samples)
        self._over_bytes = (self._said.frames + 2 * RATE) * FRAME_BYTES + len(samples)

    def wait(self, timeout_s: float = 10) -> None:
        """Until all of it was said, with the silence at its end; TimeoutError so long after it should have been."""
        end = self._sound[-1024:]
        at = 0

        def over() -> bool:
            nonlocal at
            samples = self._said.samples
            # It is over too if just the end was lost.
            if len(samples) >= self._over_bytes:
                return True
            if (found := samples.find(end, at)) < 0:
                at = max(0, len(samples) - len(end))
                return False
            at = found
            return len(samples) >= found + len(end) + self._tail

        try:
            await_until(over, self._duration_s + timeout_s, "what is said to be heard")
        finally:
            self._said.close()
            self._speaker.link("-d")

    @property
    def whole(self) -> bool:
        """The microphone itself said every frame, each at its time. If not, that somebody did not hear them proves nothing."""
        return self._sound in self._said.samples
