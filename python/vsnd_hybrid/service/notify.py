"""Tells the service manager how the daemon is: sd_notify(3), a datagram of lines to the socket in NOTIFY_SOCKET."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import socket


class ServiceManager:
    """Connected when it is made, so that it can be told from inside of the sandbox. Without NOTIFY_SOCKET nobody is told.

    Whatever goes wrong is the manager's trouble: it never keeps the daemon from running.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        address = os.environ.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@"):
            return
        import socket

        # "@": a name in the kernel's abstract namespace, which begins with a zero.
        name = "\0" + address[1:] if address.startswith("@") else address
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            connection.connect(name)
        except OSError:
            connection.close()
        else:
            self._socket = connection

    def ready(self, status: str) -> None:
        """The daemon serves."""
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """It is about to end."""
        self._tell("STOPPING=1\nSTATUS=Stopping")

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    def _tell(self, lines: str) -> None:
        if self._socket:
            try:
                self._socket.send(lines.encode())
            except OSError:
                self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
