"""One daemon: its configuration, its socket, its life. What the device decides is in `device`, audio in `backends`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def run(options: Mapping[str, Any]) -> None:
    """Be the daemon that these options (of ``vsnd-hybrid run``, "-" as "_") and their configuration file describe.

    Returns when it was told to end. Raises `errors.ServiceError` if it cannot start. On the main thread.
    """
    from vsnd_hybrid.service.config import from_options
    from vsnd_hybrid.service.daemon import serve

    serve(from_options(**options))


def run_many(socket_dir: str, guests: Sequence[str], options: Mapping[str, Any]) -> None:
    """Be the daemons of many guests (``vsnd-hybrid serve``), otherwise as `run`."""
    from vsnd_hybrid.service.config import from_options
    from vsnd_hybrid.service.prefork import serve

    serve(from_options(**options), socket_dir, guests)
