"""What a `serve` that was killed left in its directory: sockets of guests that nobody listens on any more.

A guest that is served again replaces its own; the others would stay for ever.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
from collections.abc import Container
from pathlib import Path

from vsnd_hybrid.service.errors import ConfigError
from vsnd_hybrid.service.named import check_name

log = logging.getLogger("vsnd_hybrid.serve")

_END = ".sock"


def sweep(directory: str, served: Container[str]) -> bool:
    """Remove the sockets of guests in `directory` that are ours and dead, but for guests of the names `served`.

    Files that are no sockets, have no guest's name or belong to somebody else are left alone, and so is a socket that a living process
    has. Returns whether there was one of the latter. What cannot be removed is a line in the log.
    """
    living = False
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if _is_guest_s(entry, served))
    except OSError as error:
        log.warning("%s cannot be searched for sockets that a killed 'serve' left: %s", directory, error.strerror)
        return False
    bound = _bound_names() if names else set()
    for name in names:
        path = os.path.join(directory, name)
        try:
            before = os.lstat(path)
            if before.st_uid != os.geteuid() or not stat.S_ISSOCK(before.st_mode):
                continue
            if name in bound or not _is_dead(path):
                log.info("%s is left: a living process has it", path)
                living = True
                continue
            after = os.lstat(path)
            if (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino):
                os.unlink(path)
                log.info("%s is removed: nobody listens there any more", path)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("%s was left by a 'serve' that was killed, and stays: %s", path, error.strerror)
    return living


def _is_guest_s(entry: os.DirEntry[str], served: Container[str]) -> bool:
    name = entry.name.removesuffix(_END)
    if name == entry.name or name in served:
        return False
    try:
        check_name(name)
    except ConfigError:
        return False
    return True


def _bound_names() -> set[str]:
    """File names of the sockets that processes of this network namespace have bound, also of those that do not listen yet."""
    lines = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    # Num: RefCount Protocol Flags Type St Inode Path
    return {os.path.basename(fields[7]) for fields in (line.split(maxsplit=7) for line in lines) if len(fields) == 8}


def _is_dead(path: str) -> bool:
    """Whether a connection is refused: processes of other network namespaces answer, too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED
