"""Where front ends come in: a path to bind, or a descriptor that somebody handed over, the service manager for one."""

from __future__ import annotations

import errno
import os
import stat

from vsnd_hybrid import _core
from vsnd_hybrid.service.config import Settings
from vsnd_hybrid.service.errors import ConfigError, ServiceError
from vsnd_hybrid.vhost import DeviceServer

#: What fits into a Unix socket's address on Linux, less the terminating zero.
_PATH_BYTES = 107
#: The first descriptor that a service manager passes (sd_listen_fds(3)).
_ACTIVATED_FD = 3


class Address:
    """A socket, looked at before anything else is done. Raises `ServiceError` if it is no use."""

    def __init__(self, settings: Settings) -> None:
        self._listener: _core.Listener | None = None
        self._settings = settings
        self._activated = activated()
        self._fd = _ACTIVATED_FD if self._activated else settings.fd
        self._path = settings.socket_path or ""
        pathless = settings.socket_path is None
        if self._activated and not (pathless and settings.fd is None):
            raise ConfigError("the service manager passed a socket, and --socket-path or --fd is given; leave it out")
        if self._fd is None:
            if pathless:
                raise ConfigError("no socket: give --socket-path PATH, --fd N, or socket-path in the configuration")
            check_path(self._path)
            _group(settings.socket_group)
            return
        if not pathless:
            raise ConfigError("--fd and --socket-path are both given; one of them is needed")
        if settings.socket_mode is not None or settings.socket_group is not None:
            raise ConfigError("--socket-mode and --socket-group are for --socket-path; who makes a socket sets them")
        _check_descriptor(self._fd, str(self))

    def __str__(self) -> str:
        if self._activated:
            return "the service manager's socket"
        return self._path if self._fd is None else f"--fd {self._fd}"

    @property
    def directory(self) -> str | None:
        """Where the socket is made and removed; None for a descriptor."""
        return None if self._fd is not None else os.path.dirname(self._path) or "."

    def bind(self) -> None:
        """Make the socket: front ends that connect wait until it is served. Idempotent. Raises `ServiceError`."""
        if self._fd is not None or self._listener is not None:
            return
        self._listener = bind(self._path, self._settings)

    def serve(self, server: DeviceServer) -> None:
        """Let `server` accept front ends. Raises `ServiceError`."""
        self.bind()
        try:
            server.listen(self._listener or self._fd or 0)
        except OSError as error:
            raise ServiceError(f"cannot serve on {self}: {error.strerror or error}") from error

    def close(self) -> None:
        """Take the socket away if it is ours and was not served. Idempotent."""
        if self._listener:
            self._listener.close()
            self._listener = None


def bind(path: str, settings: Settings) -> _core.Listener:
    """Make a socket at `path`, for whom `settings` let connect: front ends wait there. Raises `ServiceError`."""
    check_path(path)
    mode = 0o600 if settings.socket_mode is None else settings.socket_mode
    try:
        return _core.Listener(path, mode=mode, group=_group(settings.socket_group))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServiceError(f"{path} is in use by a living daemon; stop it or choose another path") from error
        raise ServiceError(f"cannot serve on {path}: {error.strerror or error}") from error


def activated() -> bool:
    """Whether the service manager passed a socket to this process. Raises `ConfigError` if it passed several.

    Tells it to nobody else: the variables are taken out of the environment, and the descriptor is ours alone.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or count in ("", "0"):
        return False
    if count != "1":
        raise ConfigError(
            f"the service manager passed {count} sockets; a daemon serves one: one ListenStream= is needed"
        )
    os.set_inheritable(_ACTIVATED_FD, False)
    return True


def _group(name: str | None) -> int | None:
    if name is None:
        return None
    from vsnd_hybrid.service.users import find_group

    return find_group(name)


def check_path(path: str) -> None:
    """Whether a socket can be made at `path`, as far as can be seen. Raises `ServiceError`."""
    if not path:
        raise ConfigError("the socket's path is empty; it is where the socket is made")
    length = len(os.fsencode(path))
    if length > _PATH_BYTES:
        raise ServiceError(
            f"socket path of {length} bytes: a Unix socket's has at most {_PATH_BYTES}; choose a shorter one"
        )
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise ServiceError(f"cannot make {path}: there is no directory {directory}; create it first")
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ServiceError(f"cannot make {path}: it exists and is no socket; remove it or choose another path")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ServiceError(f"cannot make {path}: {error.strerror}") from error


def _check_descriptor(fd: int, name: str) -> None:
    try:
        mode = os.fstat(fd).st_mode
    except (OSError, OverflowError):
        raise ServiceError(f"{name}: not an open descriptor; pass a socket to this process") from None
    if not stat.S_ISSOCK(mode):
        raise ServiceError(f"{name}: not a socket; a listening or a connected Unix socket is needed")
    import socket

    with socket.socket(fileno=os.dup(fd)) as found:
        if found.family != socket.AF_UNIX or found.type != socket.SOCK_STREAM:
            raise ServiceError(f"{name}: not a Unix stream socket; a listening or a connected one is needed")
        if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            try:
                found.getpeername()
            except OSError:
                raise ServiceError(
                    f"{name}: neither a listening nor a connected socket; one of them is needed"
                ) from None
