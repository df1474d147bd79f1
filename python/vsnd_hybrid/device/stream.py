"""A PCM stream: what each command does to the guest's side (`PcmStream`) and to the engine's (`EngineSlot`).

Which command is allowed when stands in `life`; that commands take turns and are answered in time is the subject of `turns`.
"""

from __future__ import annotations

import logging
from typing import Any

from vsnd_hybrid._core import PcmStream
from vsnd_hybrid.backends.base import BackendError, Direction, PcmParams
from vsnd_hybrid.device.config import Offer, StreamConfig
from vsnd_hybrid.device.control import Control
from vsnd_hybrid.device.engine import EngineSlot
from vsnd_hybrid.device.life import LIFE, State
from vsnd_hybrid.device.notify import Notifier
from vsnd_hybrid.device.pcm import choose
from vsnd_hybrid.device.requests import PcmCommand
from vsnd_hybrid.device.state import StreamState
from vsnd_hybrid.device.turns import Reply, Turns
from vsnd_hybrid.loop import Loop
from vsnd_hybrid.wire import SAMPLES, PcmFeature, PcmFormat, PcmSetParams, Request, Status


class Stream:
    """One stream of the device. For the loop's thread.

    Parameters
    ----------
    pcm
        The guest's side.
    control
        Who calls the methods of the stream's backend.
    """

    def __init__(
        self,
        config: StreamConfig,
        offer: Offer,
        pcm: PcmStream,
        control: Control,
        loop: Loop,
        notifier: Notifier,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self.state = State.NEW
        self.params: PcmParams | None = None
        self._wanted: PcmSetParams | None = None
        #: What the PCM stream is configured for: not `params` while an engine plays to the end what it got before them.
        self._configured: PcmParams | None = None
        self._config = config
        self._offer = offer
        self._pcm = pcm
        self._notifier = notifier
        self._log = log
        self._clock = loop.clock
        self._features = 0
        self._ring_stopped = False
        self._xrun_told_at = float("-inf")
        ahead = lambda: pcm.ahead_bytes
        self._engine = EngineSlot(config.backend, control, loop, pcm.port, pcm.stand_in, ahead, self._configure, log)
        self._turns = Turns(loop, self._execute, self._abandon)

    def __repr__(self) -> str:
        return f"<Stream {self._pcm.stream_id} {self._offer.direction.name.lower()} {self.state.value}>"

    @property
    def direction(self) -> Direction:
        return self._offer.direction

    def command(self, command: PcmCommand, reply: Reply) -> None:
        """Carry out a command when those before it are done; `reply` is called once, unless the stream is `reset`."""
        self._turns.add(command, reply)

    def reset(self) -> None:
        """Back to the beginning: a new driver, or none. What the engine still has to play is dropped."""
        self._turns.clear()
        self._engine.drop()
        self._pcm.stop()
        self._pcm.reject()
        self._pcm.flush(ok=False)
        self.state = State.NEW
        self.params = self._wanted = self._configured = None
        self._features = 0

    def save(self, *, kept: bool, ahead_max: int = 0) -> StreamState:
        """What `restore` needs in another process; with the messages that are kept, or without.

        What was read ahead goes with it if it is no more than `ahead_max` bytes.
        """
        ahead = self._pcm.read_ahead if ahead_max and self._is_carried() else b""
        if len(ahead) > ahead_max:
            self._log.warning("%d bytes were read ahead; no more than %d can be saved", len(ahead), ahead_max)
            ahead = b""
        return StreamState(self.state, self._wanted, self._pcm.kept if kept else ((), 0), ahead)

    def _is_carried(self) -> bool:
        """What was read ahead has the format of the parameters, and is not dropped by the next START."""
        return self._configured == self.params and (self.direction is Direction.OUTPUT or self.state is State.RUNNING)

    def restore(self, saved: StreamState) -> None:
        """Go on from what was saved; the engine follows when the ring starts. Raises ValueError if this stream cannot."""
        self.reset()
        if saved.state is State.NEW:
            return
        if saved.params is None:
            raise ValueError(f"stream {self._pcm.stream_id} is {saved.state.value} without parameters")
        if (status := self._set_params(saved.params)) is not Status.OK:
            raise ValueError(f"stream {self._pcm.stream_id}: its parameters are refused here with {status.name}")
        assert self.params is not None
        self._configure(self.params)
        if saved.state in (State.PREPARED, State.RUNNING, State.STOPPED):
            self._pcm.accept()
        if saved.state is State.RUNNING:
            self._pcm.start()
            self._pcm.watch()
            self._ring_stopped = True
        self._pcm.kept = saved.kept
        try:
            self._pcm.read_ahead = saved.ahead
        except ValueError as error:
            raise ValueError(f"stream {self._pcm.stream_id}: {error}") from error
        self.state = saved.state

    def ring_stopping(self) -> None:
        """The stream's ring stops: the guest is paused, or about to be reset."""
        self._ring_stopped = True
        self._engine.pause()

    def ring_started(self) -> None:
        """The stream's ring runs; if the stream did when it stopped, it goes on, or is heard to its end."""
        self._ring_stopped = False
        if self.params is None:
            return
        if self.state is State.RUNNING:
            self._engine.start(self.params, self._resumed)
        elif self._pcm.ahead_bytes and self._is_carried():
            self._engine.start(self.params, lambda error: None)
            self._engine.stop()
            if self.state in (State.RELEASED, State.PARAMS_SET):
                self._engine.release()

    def xrun(self) -> None:
        """The data path had an under- or overrun: tell the driver if it wants to know, at most once a period."""
        if self.state is not State.RUNNING or self.params is None or not self._features >> PcmFeature.EVT_XRUNS & 1:
            return
        now = self._clock()
        if now - self._xrun_told_at >= self.params.period_frames / self.params.rate:
            self._xrun_told_at = now
            self._notifier.xrun(self._pcm.stream_id)

    def status(self) -> dict[str, Any]:
        """What is to be known of it, for people."""
        return {
            "id": self._pcm.stream_id,
            "direction": self.direction.name.lower(),
            "backend": self._config.backend.name,
            "state": self.state.value,
            "params": self.params,
            **self._pcm.stats,
        }

    # ------------------------------------------------------------ commands, one at a time

    def _execute(self, command: PcmCommand, reply: Reply) -> None:
        after = LIFE.get((self.state, command.code))
        if after is None:
            self._log.debug("%s refused: the stream is %s", command.code.name, self.state.value)
            reply(Status.BAD_MSG)
            return
        self._log.debug("%s", command.code.name)
        match command.code:
            case Request.PCM_SET_PARAMS:
                assert command.params is not None
                reply(self._set_params(command.params))
            case Request.PCM_PREPARE:
                self._prepare(reply)
            case Request.PCM_START:
                self._start(reply)
            case Request.PCM_STOP:
                self._pcm.stop()
                self._engine.stop()
                self.state = after
                reply(Status.OK)
            case Request.PCM_RELEASE:
                self._give_back_all()
                self._engine.release()
                self.state = after
                reply(Status.OK)

    def _set_params(self, wanted: PcmSetParams) -> Status:
        params = choose(wanted, self._offer, self._config)
        if isinstance(params, Status):
            self._log.debug("SET_PARAMS refused with %s: %r", params.name, wanted)
            return params
        if self.state is State.PREPARED:
            self._pcm.reject()
            self._pcm.flush(ok=False)
        self._engine.retire()
        self.params = params
        self._wanted = wanted
        self._features = wanted.features
        self.state = State.PARAMS_SET
        return Status.OK

    def _prepare(self, reply: Reply) -> None:
        def then(error: Exception | None) -> None:
            if error is not None:
                reply(self._io_error("PREPARE", error))
                return
            if self.state is State.STOPPED:
                self._give_back_all()
            if self._engine.discards:
                self._pcm.discard()
            else:
                self._pcm.accept()
            self.state = State.PREPARED
            reply(Status.OK)

        assert self.params is not None
        self._engine.prepare(self.params, then)

    def _start(self, reply: Reply) -> None:
        def then(error: Exception | None) -> None:
            if error is not None:
                self._pcm.stop()
                reply(self._io_error("START", error))
                return
            self._discard_if_the_engine_does()
            self.state = State.RUNNING
            self._pcm.watch()
            if self._ring_stopped:
                self._engine.pause()
            reply(Status.OK)

        assert self.params is not None
        self._pcm.start()
        if self._ring_stopped:
            then(None)
        else:
            self._engine.start(self.params, then)

    def _abandon(self) -> None:
        """The command that runs was answered with IO_ERR: the state is as if it had not been sent."""
        self._log.warning("the %s engine does not answer; the guest is told IO_ERR", self._config.backend.name)
        self._engine.abandon()
        self._pcm.stop()

    # ------------------------------------------------------------ helpers

    def _configure(self, params: PcmParams) -> None:
        self._configured = params
        self._pcm.configure(
            buffer_bytes=params.buffer_bytes,
            period_bytes=params.period_bytes,
            frame_bytes=params.frame_bytes,
            rate=params.rate,
            silence=SAMPLES[PcmFormat[params.format]].silence_byte or 0,
            polling=bool(self._features >> PcmFeature.MSG_POLLING & 1),
        )

    def _give_back_all(self) -> None:
        """Complete what is pending with OK; what comes behind it belongs to no prepared stream, so is IO_ERR."""
        self._pcm.flush()
        self._pcm.reject()
        self._pcm.flush(ok=False)

    def _io_error(self, what: str, error: Exception) -> Status:
        self._log.warning("%s failed, the guest is told IO_ERR: %s", what, error)
        if not isinstance(error, BackendError):
            self._log.debug("its traceback", exc_info=error)
        return Status.IO_ERR

    def _discard_if_the_engine_does(self) -> None:
        """An engine stream that START opened, not PREPARE, is known only now."""
        if self._engine.discards:
            self._pcm.discard()
            self._pcm.start()

    def _resumed(self, error: Exception | None) -> None:
        if error is None:
            self._discard_if_the_engine_does()
        else:
            self._log.warning("the engine does not go on after the guest's pause: %s", error)
            if self.state is State.RUNNING and self.params is not None:
                self._engine.silence(self.params)
