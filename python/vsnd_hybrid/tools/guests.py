"""``vsnd-hybrid guests``: asks the control socket of a running ``vsnd-hybrid serve``."""

from __future__ import annotations

import json
import os
import socket

from vsnd_hybrid.service.errors import ServiceError
from vsnd_hybrid.service.named import CONTROL, check_directory


def ask(directory: str, request: str) -> str:
    """Send one request to the server in `directory`; returns what stands behind its ``ok``. Raises `ServiceError`."""
    path = os.path.join(check_directory(directory), f"{CONTROL}.sock")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            connection.sendall(f"{request}\n".encode())
            with connection.makefile("r", encoding="utf-8") as answers:
                answer = answers.readline().rstrip("\n")
    except OSError as error:
        raise ServiceError(f"nobody serves guests at {path}: {error.strerror or error}") from error
    word, _, rest = answer.partition(" ")
    if word != "ok":
        raise ServiceError(rest or f"{path} ended before it answered")
    return rest


def listed(directory: str) -> list[tuple[str, str, int | None]]:
    """Name, socket and process (None: no front end has come yet) of each guest. Raises `ServiceError`."""
    return [(guest["name"], guest["socket"], guest["pid"]) for guest in json.loads(ask(directory, "list"))]
