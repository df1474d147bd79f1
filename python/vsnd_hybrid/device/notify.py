"""What the device tells of its own accord, on the event queue (virtio 1.3, 5.14.6.3).

The driver puts empty buffers there before anything happens, and does not kick. Where there is no buffer the newest state of
each thing is kept, and told when a buffer has come: the driver is asked to kick then, and one that does not is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vsnd_hybrid.loop import Loop, Timer
from vsnd_hybrid.wire import EventCode, EventMsg

#: How often the queue is looked at while something is to be told, no buffer was there, and no kick comes.
LOOK_S = 1.0


class Chain(Protocol):
    """What is needed of a `DescriptorChain`."""

    @property
    def writable(self) -> int: ...
    def write(self, data: bytes, offset: int = 0, /) -> int: ...
    def complete(self, written: int, /) -> bool: ...


class Notifier:
    """For the loop's thread.

    Parameters
    ----------
    pop
        Takes a buffer from the event queue, if there is one.
    """

    def __init__(self, loop: Loop, pop: Callable[[], Chain | None]) -> None:
        self._loop = loop
        self._pop = pop
        #: What is to be told, oldest first: the kind of thing and its id, and the event.
        self._pending: dict[tuple[str, int], EventMsg] = {}
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._pending)

    def jack(self, jack_id: int, connected: bool) -> None:
        """Something was plugged into a jack, or pulled out."""
        code = EventCode.JACK_CONNECTED if connected else EventCode.JACK_DISCONNECTED
        self._tell(("jack", jack_id), EventMsg(code, jack_id))

    def xrun(self, stream_id: int) -> None:
        """A stream had an under- or overrun."""
        self._tell(("xrun", stream_id), EventMsg(EventCode.PCM_XRUN, stream_id))

    def buffers_may_have_come(self) -> None:
        """Tell what waits, as far as there are buffers."""
        while self._pending:
            chain = self._pop()
            if chain is None:
                return self._wait()
            thing = next(iter(self._pending))
            if _send(chain, self._pending[thing].pack()):
                del self._pending[thing]
        self._cancel()

    def reset(self) -> None:
        """Forget what was to be told: a new driver asks for itself."""
        self._pending.clear()
        self._cancel()

    def _tell(self, thing: tuple[str, int], event: EventMsg) -> None:
        self._pending[thing] = event
        if self._timer is None:
            self.buffers_may_have_come()

    def _wait(self) -> None:
        self._cancel()
        self._timer = self._loop.call_later(LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.buffers_may_have_come()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _send(chain: Chain, event: bytes) -> bool:
    """False if the buffer was of no use; it is given back."""
    try:
        written = chain.write(event) if chain.writable >= len(event) else 0
    except BufferError:  # the driver gave an address outside of its memory
        written = 0
    chain.complete(written)
    return written == len(event)
