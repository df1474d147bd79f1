"""What the daemon can still do once it runs: which walls stand, when, and what is said where the host has none.

`_core` makes the walls. They let through what each backend says that it needs (`base.Needs`), and what Python and the daemon
need themselves, which stands here. docs/security.md tells why they are as they are.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from typing import Final

from vsnd_hybrid import _core
from vsnd_hybrid.backends import registry
from vsnd_hybrid.backends.base import BackendError, Needs
from vsnd_hybrid.backends.options import BackendSpec
from vsnd_hybrid.service.errors import ServiceError

log = logging.getLogger(__name__)

#: A front end passes a descriptor for each memory region and two for each ring; the rest are ours and the engines'.
OPEN_FILES: Final = 1024

#: The first version of Landlock that guards every access to files: Linux 6.2.
_LANDLOCK: Final = 3

#: What libraries read at any time: themselves, their data, and a few harmless facts about the machine.
_SYSTEM: Final = (
    *("/usr", "/lib", "/lib64", "/nix/store", "/gnu/store", "/etc/ld.so.cache", "/etc/localtime"),
    *("/dev/zero", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/proc/sys/vm/overcommit_memory"),
    *("/proc/filesystems", "/sys/devices/system/cpu"),
)


def needs_of(specs: Iterable[BackendSpec]) -> Needs:
    """What these backends need together; their classes are imported. Raises `ServiceError`."""
    needs = Needs(permits=frozenset())
    try:
        for spec in specs:
            needs |= registry.needs(spec)
    except BackendError as error:
        raise ServiceError(str(error)) from error
    return needs


class Sandbox:
    """The walls around this process, in the order in which they are put up.

    Parameters
    ----------
    mode
        ``strict``: a wall that cannot be had is a `ServiceError`; ``auto``: it is told at the end; ``none``: no walls.
    """

    def __init__(self, mode: str) -> None:
        self.wanted: Final = mode != "none"
        self._strict = mode == "strict"
        self._missing: list[str] = []
        self._proc: int | None = None

    def limit(self) -> None:
        """First: no new privileges, no core dumps, so many open files."""
        if self.wanted:
            with self._wall("privileges and limits"):
                _core.no_new_privileges()
                _core.limit_resources(open_files=OPEN_FILES)

    def restrict_files(self, needs: Needs, socket_directory: str | None) -> None:
        """Before any thread is made, because Landlock holds for one and its children; so engines are made inside."""
        if not self.wanted:
            return
        for module in needs.modules:
            with suppress(ImportError, OSError):  # the backend says what it misses
                import_module(module)
        # Held open: the rule is about this entry of /proc, which the kernel would forget and make anew.
        self._proc = os.open("/proc/self/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        with self._wall("files"):
            version = _core.restrict_files(
                sorted(needs.permits),
                read=[*_SYSTEM, *_libraries(), f"/proc/{os.getpid()}", *needs.read],
                write=["/dev/null", *needs.write],
                sockets=[] if socket_directory is None else [socket_directory],
                required=self._strict,
            )
            if not version:
                raise OSError("this kernel has no Landlock, or it is off")
            if version < _LANDLOCK:
                raise OSError(f"Landlock {version} leaves some accesses unguarded; {_LANDLOCK} would not")

    def restrict_calls(self, needs: Needs) -> None:
        """Last, when engines and socket are there and nobody was accepted. Holds for every thread."""
        if not self.wanted:
            return
        with self._wall("system calls"):
            _core.restrict_calls(sorted(needs.permits))
        said = (
            f"without walls around {'; '.join(self._missing)}"
            if self._missing
            else "files and system calls are restricted"
        )
        root = "; it is root all the same, --user NAME changes that" if os.geteuid() == 0 else ""
        log.info("sandbox: %s%s", said, root)

    def _wall(self, around: str) -> _Wall:
        return _Wall(around, self._missing, self._strict)


class _Wall:
    """A block that puts up a wall; what fails is noted, or (strict) ends the start."""

    def __init__(self, around: str, missing: list[str], strict: bool) -> None:
        self._around, self._missing, self._strict = around, missing, strict

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, OSError):
            return False
        why = " ".join((error.strerror or str(error)).split())
        if self._strict:
            raise ServiceError(
                f"--sandbox=strict: no wall around {self._around}: {why}; --sandbox=auto starts without it"
            ) from error
        self._missing.append(f"{self._around} ({why})")
        return True


def _libraries() -> list[str]:
    """Where Python and this package are. Not the current directory, which ``python -m`` puts first."""
    here = os.getcwd()
    package = os.path.dirname(os.path.dirname(__file__))
    paths = {sys.prefix, sys.base_prefix, package, *(path for path in sys.path if path and path != here)}
    for variable in ("LD_LIBRARY_PATH", "PYTHONPYCACHEPREFIX"):
        paths.update(path for path in os.environ.get(variable, "").split(":") if path)
    return sorted(paths)
