"""The control socket of ``vsnd-hybrid serve``: one line asks, one line answers.

``add NAME`` → ``ok PATH``; ``remove NAME`` → ``ok`` when the guest's process has ended; ``list`` → ``ok`` and a JSON list. What
cannot be done is answered with ``error`` and why. Only the owner can connect.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from vsnd_hybrid._core import Listener
from vsnd_hybrid.loop import Loop
from vsnd_hybrid.service.errors import ServiceError

if TYPE_CHECKING:
    from vsnd_hybrid.service.prefork import Supervisor

log = logging.getLogger("vsnd_hybrid.serve")

#: Longer lines are no requests.
LINE_MAX: Final = 4096


class ControlSocket:
    """Answers requests about the guests of a supervisor, until the block ends."""

    def __init__(self, listener: Listener, supervisor: Supervisor, loop: Loop) -> None:
        self._listener = listener
        self._supervisor = supervisor
        self._loop = loop
        self._socket = socket.socket(fileno=os.dup(listener.fileno()))
        self._socket.setblocking(False)
        self._clients: set[_Client] = set()
        loop.watch(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                log.warning("the control socket accepts nobody: %s", error.strerror)
            return
        self._clients.add(_Client(connection, self, self._loop))

    def left(self, client: _Client) -> None:
        """A client has gone."""
        self._clients.discard(client)

    def ask(self, line: str, client: _Client) -> None:
        """Do what a line asks for; the client is answered now or later."""
        verb, _, name = line.strip().partition(" ")
        try:
            if verb == "add":
                client.answer(f"ok {self._supervisor.add(name)}")
            elif verb == "remove":
                self._supervisor.remove(name, lambda: client.answer("ok"))
            elif line.strip() == "list":
                guests = [
                    {"name": guest.name, "socket": guest.path, "pid": guest.pid}
                    for guest in self._supervisor.guests.values()
                ]
                client.answer(f"ok {json.dumps(guests)}")
            else:
                client.answer(f"error {line.strip()[:80]!r} is no request: it knows add NAME, remove NAME, list")
        except ServiceError as error:
            client.answer(f"error {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        self._listener.close()
        for client in list(self._clients):
            client.close()


class _Client:
    """A connection: lines come in, lines go out."""

    def __init__(self, connection: socket.socket, control: ControlSocket, loop: Loop) -> None:
        self._connection = connection
        self._control = control
        self._loop = loop
        self._data = b""
        connection.setblocking(False)
        loop.watch(connection.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            data = self._connection.recv(LINE_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._data += data
        if not data or len(self._data) > LINE_MAX:
            self.close()
            return
        *lines, self._data = self._data.split(b"\n")
        for line in lines:
            self._control.ask(line.decode("utf-8", "replace"), self)

    def answer(self, line: str) -> None:
        """Send a line; a client that does not read its answers loses them."""
        with suppress(OSError):
            self._connection.sendall(f"{line}\n".encode())

    def close(self) -> None:
        """Idempotent."""
        if self._connection.fileno() >= 0:
            self._loop.unwatch(self._connection.fileno())
            self._connection.close()
            self._control.left(self)
