"""One stream on fakes, for the tests of its life: `Rig`, and the short names that these use."""

from __future__ import annotations

import logging
from typing import cast

from vsnd_hybrid._core import PcmStream
from vsnd_hybrid.backends.base import Direction
from vsnd_hybrid.device.config import Offer, StreamConfig
from vsnd_hybrid.device.control import ControlThread
from vsnd_hybrid.device.life import State
from vsnd_hybrid.device.notify import Notifier
from vsnd_hybrid.device.requests import PcmCommand
from vsnd_hybrid.device.stream import Stream
from vsnd_hybrid.wire import PcmFormat, PcmSetParams, Request, Status

from tests.unit.fakes import FakeBackend, FakePcm, SteppedLoop

SET_PARAMS, PREPARE, START = Request.PCM_SET_PARAMS, Request.PCM_PREPARE, Request.PCM_START
STOP, RELEASE = Request.PCM_STOP, Request.PCM_RELEASE
OK, BAD_MSG, NOT_SUPP, IO_ERR = Status.OK, Status.BAD_MSG, Status.NOT_SUPP, Status.IO_ERR

XRUNS, POLLING = 1 << 4, 1 << 2


def params(
    buffer: int = 4096, period: int = 1024, features: int = 0, channels: int = 2, format: int = 5, rate: int = 7
) -> PcmSetParams:
    """SET_PARAMS for stereo S16 at 48 kHz, unless told otherwise."""
    return PcmSetParams(0x101, 0, buffer, period, features, channels, format, rate)


class Rig:
    """One stream on a control thread of its own, and all calls that it makes, in order."""

    def __init__(self, direction: Direction) -> None:
        self.calls: list[str] = []
        self.loop = SteppedLoop()
        self.pcm = FakePcm(self.calls)
        self.backend = FakeBackend(self.calls)
        self.told: list[int] = []
        self.control = ControlThread("fake")
        self.stream = Stream(
            StreamConfig(direction=direction, backend=self.backend),
            Offer(direction, 0, frozenset({PcmFormat.S16, PcmFormat.U8}), frozenset({44100, 48000}), 1, 2),
            cast(PcmStream, self.pcm),
            self.control,
            self.loop,
            cast(Notifier, self),
            logging.getLogger("test"),
        )

    def xrun(self, stream_id: int) -> None:
        """The notifier's."""
        self.told.append(stream_id)

    def send(self, code: Request, chosen: PcmSetParams | None = None) -> list[Status]:
        """Send a command; its answer is in the list when there is one."""
        answers: list[Status] = []
        if code is SET_PARAMS:
            chosen = chosen or params()
        self.stream.command(PcmCommand(code, 0, chosen), answers.append)
        return answers

    def ask(self, code: Request, chosen: PcmSetParams | None = None) -> Status:
        """Send a command and wait for its answer."""
        answers = self.send(code, chosen)
        self.loop.settle(lambda: bool(answers))
        return answers[0]

    def do(self, *codes: Request) -> None:
        """Send commands that must succeed."""
        for code in codes:
            assert self.ask(code) is OK, code

    def engine_calls(self) -> list[str]:
        """What the engine was asked to do since this was called last; waits for what it was asked already."""
        done: list[None] = []
        self.control.job(lambda: None, lambda _, __: done.append(None), self.loop.call_soon).begin()
        self.loop.settle(lambda: bool(done))
        done.clear()  # once more, for what the loop asked for when it heard of the former
        self.control.job(lambda: None, lambda _, __: done.append(None), self.loop.call_soon).begin()
        self.loop.settle(lambda: bool(done))
        calls = [call for call in self.calls if not call.startswith("pcm.")]
        self.calls.clear()
        return calls

    def close(self) -> None:
        for _ in range(100):
            self.backend.release.release()
        self.control.close()
        assert self.control.join(10)
        self.loop.close()


#: How a stream gets into each state.
WAY = {
    State.NEW: (),
    State.PARAMS_SET: (SET_PARAMS,),
    State.PREPARED: (SET_PARAMS, PREPARE),
    State.RUNNING: (SET_PARAMS, PREPARE, START),
    State.STOPPED: (SET_PARAMS, PREPARE, START, STOP),
    State.RELEASED: (SET_PARAMS, PREPARE, START, STOP, RELEASE),
}
