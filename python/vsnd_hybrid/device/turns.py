"""The commands of one stream take turns: one at a time, in order, each answered in time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from vsnd_hybrid.device.requests import PcmCommand
from vsnd_hybrid.loop import Loop, Timer
from vsnd_hybrid.wire import Status

#: Linux gives up a request after a second.
DEADLINE_S = 0.9

Reply = Callable[[Status], None]
#: Carries out a command and calls the reply once, now or later.
Execute = Callable[[PcmCommand, Reply], None]


class _Turn:
    __slots__ = ("command", "reply", "timer")

    def __init__(self, command: PcmCommand, reply: Reply) -> None:
        self.command = command
        self.reply = reply
        self.timer: Timer | None = None


class Turns:
    """For the loop's thread.

    Parameters
    ----------
    execute
        Begins a command; it is not called again before the reply, or `abandon`.
    abandon
        Nobody waits any more for the command that runs: it was answered with IO_ERR.
    """

    def __init__(self, loop: Loop, execute: Execute, abandon: Callable[[], None]) -> None:
        self._loop = loop
        self._execute = execute
        self._abandon = abandon
        self._current: _Turn | None = None
        self._waiting: deque[_Turn] = deque()

    def add(self, command: PcmCommand, reply: Reply) -> None:
        """Carry out `command` when it is its turn."""
        turn = _Turn(command, reply)
        self._waiting.append(turn)
        self._advance()
        if turn is self._current or turn in self._waiting:
            turn.timer = self._loop.call_later(DEADLINE_S, lambda: self._expired(turn))

    def clear(self) -> None:
        """Forget all, answering nobody: a new driver has taken over. What a command has begun is the caller's to end."""
        turns = [*self._waiting, *([self._current] if self._current else [])]
        self._waiting.clear()
        self._current = None
        for turn in turns:
            if turn.timer is not None:
                turn.timer.cancel()

    def _advance(self) -> None:
        while self._current is None and self._waiting:
            turn = self._current = self._waiting.popleft()
            self._execute(turn.command, lambda status, turn=turn: self._finish(turn, status))  # type: ignore[misc]

    def _finish(self, turn: _Turn, status: Status) -> None:
        if turn is not self._current:
            return  # it was answered already: too late
        self._current = None
        if turn.timer is not None:
            turn.timer.cancel()
        turn.reply(status)
        self._advance()

    def _expired(self, turn: _Turn) -> None:
        if turn is self._current:
            self._abandon()
            self._finish(turn, Status.IO_ERR)
        elif turn in self._waiting:
            self._waiting.remove(turn)
            turn.reply(Status.IO_ERR)
