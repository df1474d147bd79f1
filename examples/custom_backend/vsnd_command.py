"""What the guest plays goes to the standard input of a command, raw: S16, stereo, 48 kHz. Capture is silence."""

import contextlib
import threading
from subprocess import PIPE, Popen

from vsnd_hybrid._core import ClockPort, PcmPort
from vsnd_hybrid.backends import base


class CommandBackend(base.Backend):
    name = "command"
    uses = base.EVERYTHING  # the command may do anything; most backends need not say what they use

    def __init__(self, *, run: str = "aplay --quiet --format=dat") -> None:
        self.command = run

    def capabilities(self, direction: base.Direction) -> base.PcmCapabilities:
        return base.PcmCapabilities(frozenset({"S16"}), frozenset({48000}), channels_min=2, channels_max=2)

    def open(self, port: PcmPort, params: base.PcmParams, events: base.EventSink) -> base.EngineStream:
        return CommandStream(port, self.command)


class CommandStream(base.EngineStream):
    def __init__(self, port: PcmPort, command: str) -> None:
        self.clock = ClockPort(port, tap=True)  # keeps the guest's pace, natively, however slow the command is
        if not port.capture:
            threading.Thread(target=self.feed, args=(command,)).start()

    def feed(self, command: str) -> None:
        with contextlib.suppress(BrokenPipeError), Popen(command, shell=True, stdin=PIPE, bufsize=0) as child:
            while child.stdin and (samples := self.clock.take()) is not None:
                child.stdin.write(samples)

    def start(self) -> None:
        self.clock.start()

    def stop(self) -> None:
        self.clock.stop()

    def close(self) -> None:
        self.clock.close()
