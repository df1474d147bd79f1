"""The engine's side of a stream: which engine stream is open, and what it is asked to do. All answers come later.

One engine stream at a time is connected to a PCM stream, so that two never pull from the same guest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from vsnd_hybrid._core import PcmPort
from vsnd_hybrid.backends.base import Backend, BackendError, Direction, EngineEvent, EngineStream, EventSink, PcmParams
from vsnd_hybrid.device.control import Control, Job
from vsnd_hybrid.loop import Loop, Timer

#: What was handed to an engine is heard within this, or given up.
DRAIN_S = 2.0
#: The same while a PREPARE waits for it.
DRAIN_WAITED_FOR_S = 0.5
#: How often it is looked at whether the engine has taken all that was read ahead.
AHEAD_S = 0.005
#: A released stream is kept open so long: an xrun is cured by STOP RELEASE PREPARE START, and needs no new one.
LINGER_S = 0.2
#: An engine stream that failed while it ran is opened again after this, then after twice as long, and so on.
RETRY_S = 0.5
RETRY_MAX_S = 8.0

Then = Callable[[Exception | None], None]


class _Sink(EventSink):
    """Carries an engine's events to the loop, as long as its stream is the one that is open."""

    def __init__(self, slot: EngineSlot, loop: Loop) -> None:
        self._slot = slot
        self._loop = loop

    def post(self, event: EngineEvent, detail: object = None) -> None:
        self._loop.call_soon(lambda: self._slot.told(self, event, detail))


class EngineSlot:
    """Where the engine stream of one PCM stream is plugged in. For the loop's thread.

    Parameters
    ----------
    control
        Who calls the backend's methods.
    port
        Gives a port of the PCM stream for a new engine stream.
    stand_in
        Lets the clock stand in for an engine that is gone.
    ahead
        How much was read out of the guest ahead of the engine, in bytes: handed over, but not to it yet.
    configure
        Called when no engine stream is open any more, before one for other parameters is opened.
    """

    def __init__(
        self,
        backend: Backend,
        control: Control,
        loop: Loop,
        port: Callable[[], PcmPort],
        stand_in: Callable[[], None],
        ahead: Callable[[], int],
        configure: Callable[[PcmParams], None],
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._backend = backend
        self._control = control
        self._loop = loop
        self._port = port
        self._stand_in = stand_in
        self._ahead = ahead
        self._configure = configure
        self._log = log
        self._stream: EngineStream | None = None
        self._params: PcmParams | None = None
        self._sink: _Sink | None = None
        #: The engine stream was told to run, and whether it should by now.
        self._started = False
        self._wanted = False
        self._released = False
        self._draining: object | None = None
        #: The engine stream that drains was not told so yet: it takes what was read ahead first.
        self._runs_on = False
        self._after_drain: Callable[[], None] | None = None
        self._timer: Timer | None = None
        self._job: Job[EngineStream] | None = None
        #: The engine stream failed while it was being opened or started.
        self._dead: BackendError | None = None
        #: Who waits for the job.
        self._thens: list[Then] = []

    @property
    def discards(self) -> bool:
        """See `EngineStream.discards`."""
        return self._stream is not None and self._stream.discards

    def prepare(self, params: PcmParams, then: Then) -> None:
        """Have an engine stream for `params`; the one that is open is kept if it has them and was not `retire`d."""
        if self._stream is not None and self._params == params:
            self._released = False
            if self._draining is None:
                self._cancel_timer()
            then(None)
        elif self._stream is not None and self._draining is not None:
            self._params = None
            self._after_drain = lambda: self._reopen(params, then)
            self._set_timer(DRAIN_WAITED_FOR_S, self._drained)
        else:
            self._reopen(params, then)

    def start(self, params: PcmParams, then: Then) -> None:
        """Begin, or go on; opens an engine stream if there is none any more."""
        self._draining = None
        self._cancel_timer()
        stream = self._stream
        if stream is None:
            self.drop()
            self._open(params, then, start=True)
            return
        self._wanted = True
        if self._runs_on:
            self._runs_on, self._started = False, True
            then(None)
            return
        if self._job is not None:  # it is being started, since a pause that ended a moment ago
            self._thens.append(then)
            return

        def call() -> EngineStream:
            stream.start()
            return stream

        self._submit(call, lambda _: stream.close(), then, started=True)

    def pause(self) -> None:
        """Be silent at once; what is handed over stays."""
        self._wanted = False
        if self._stream is not None and self._started:
            self._started = False
            self._control.tell(self._stream.stop)

    def stop(self) -> None:
        """The guest hands over no more: let playback be heard to its end, then pause."""
        self._wanted = False
        stream = self._stream
        if stream is None or not self._started:
            return
        if self._params is None or self._params.direction is Direction.INPUT:
            self.pause()
            return
        self._started = False
        token = self._draining = object()
        self._runs_on = True
        self._set_timer(DRAIN_S, self._drained)
        self._drain(stream, token)

    def release(self) -> None:
        """Close when what was handed over was heard, unless `prepare` comes at once."""
        self._released = True
        if self._stream is not None and self._draining is None:
            self._set_timer(LINGER_S, self.drop)

    def retire(self) -> None:
        """As `release`, but what comes next is another stream."""
        self._params = None
        self._released = True
        if self._draining is None:
            self.drop()

    def drop(self) -> None:
        """Close now, whatever is left to be heard."""
        job, self._job = self._job, None
        stream, self._stream = self._stream, None
        self._forget()
        if job is not None:
            job.abandon()  # and closes the stream it is about
        elif stream is not None:
            self._control.tell(stream.close)

    def abandon(self) -> None:
        """Nobody waits any more for what `prepare` or `start` began: when the engine answers, the stream is closed."""
        self._after_drain = None
        if self._job is not None:
            self.drop()

    def silence(self, params: PcmParams, retry_s: float = RETRY_S) -> None:
        """Leave a stream that runs to the clock, and try to have the engine back, until it is there or not wanted any more."""
        self.drop()
        self._stand_in()
        self._wanted = True
        self._set_timer(retry_s, lambda: self._retry(params, retry_s))

    def told(self, sink: EventSink, event: EngineEvent, detail: object) -> None:
        """An engine's event arrived."""
        if sink is not self._sink:
            return
        level = logging.WARNING if event in (EngineEvent.LOST, EngineEvent.FAILED) else logging.INFO
        self._log.log(level, "%s: %s%s", self._backend.name, event.value, f" ({detail})" if detail is not None else "")
        if event is EngineEvent.FAILED:
            if self._job is None:
                self._failed()
            else:
                self._dead = BackendError(f"{self._backend.name}: {detail or 'the stream failed'}")

    # ------------------------------------------------------------ inside

    def _reopen(self, params: PcmParams, then: Then) -> None:
        self.drop()
        self._configure(params)
        self._open(params, then, start=False)

    def _open(self, params: PcmParams, then: Then, *, start: bool) -> None:
        port = self._port()
        sink = _Sink(self, self._loop)

        def call() -> EngineStream:
            stream = self._backend.open(port, params, sink)
            if start:
                try:
                    stream.start()
                except Exception:
                    stream.close()
                    raise
            return stream

        self._params = params
        self._sink = sink
        self._wanted = start
        self._submit(call, _close, then, started=start)

    def _submit(
        self,
        call: Callable[[], EngineStream],
        undo: Callable[[EngineStream | None], None],
        then: Then,
        *,
        started: bool,
    ) -> None:
        def done(stream: EngineStream | None, error: Exception | None) -> None:
            if self._job is not job:  # it was abandoned when it had just ended
                self._control.tell(lambda: undo(stream))
                return
            self._job = None
            error = error or self._dead
            self._stream = stream or self._stream
            if error is not None:
                wanted = self._wanted
                self.drop()
                self._wanted = wanted
            else:
                self._started = started
                if started and not self._wanted:
                    self.stop()
            thens, self._thens = self._thens, []
            for call_back in thens:
                call_back(error)

        self._thens = [then]
        job = self._job = self._control.job(call, done, self._loop.call_soon, undo=undo)
        job.begin()

    def _drain(self, stream: EngineStream, token: object) -> None:
        if token is not self._draining:
            return
        if self._ahead() > 0:
            self._loop.call_later(AHEAD_S, lambda: self._drain(stream, token))
            return
        self._runs_on = False
        ended = lambda: self._loop.call_soon(lambda: self._drained(token))
        self._control.tell(lambda: _drain(stream, ended))

    def _drained(self, token: object = None) -> None:
        """What was handed over was heard (or the time for it is over: no token)."""
        if self._draining is None or token not in (None, self._draining):
            return
        if token is None:
            self._log.info("%s: does not get to the end of what it plays; it is cut off", self._backend.name)
        self._draining = None
        self._runs_on = False
        self._cancel_timer()
        after, self._after_drain = self._after_drain, None
        if self._params is None:
            self.drop()
            if after is not None:
                after()
        elif self._stream is not None:
            self._control.tell(self._stream.stop)
            if self._released:
                self._set_timer(LINGER_S, self.drop)

    def _failed(self) -> None:
        """The engine stream is dead. A running PCM stream goes on with silence until there is another."""
        if self._started and self._params is not None:
            self.silence(self._params)
        else:
            self.drop()

    def _retry(self, params: PcmParams, after_s: float) -> None:
        if not self._wanted:
            return

        def then(error: Exception | None) -> None:
            if error is None:
                self._log.warning("%s: the stream goes on", self._backend.name)
            elif self._wanted:
                self._log.debug("%s: not back yet: %s", self._backend.name, error)
                self.silence(params, min(2 * after_s, RETRY_MAX_S))

        self._open(params, then, start=True)

    def _forget(self) -> None:
        self._params = None
        self._sink = None
        self._dead = None
        self._started = False
        self._wanted = False
        self._released = False
        self._draining = None
        self._runs_on = False
        self._after_drain = None
        self._cancel_timer()

    def _set_timer(self, delay_s: float, call: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(delay_s, call)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _close(stream: EngineStream | None) -> None:
    if stream is not None:
        stream.close()


def _drain(stream: EngineStream, ended: Callable[[], None]) -> None:
    try:
        stream.drain(ended)
    except Exception:
        ended()
        raise
