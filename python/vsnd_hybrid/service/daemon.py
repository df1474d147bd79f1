"""The daemon's life: engines, device, socket, signals. It ends when it is told to, or a connected descriptor is served."""

from __future__ import annotations

import errno
import gc
import logging
import os
import stat
import sys

from vsnd_hybrid.backends import registry
from vsnd_hybrid.backends.base import Backend, BackendError, Direction
from vsnd_hybrid.device import Controls, DeviceConfig, DeviceConfigError, SoundDevice, StreamConfig
from vsnd_hybrid.loop import Loop
from vsnd_hybrid.service.config import AUTO, Settings
from vsnd_hybrid.service.errors import ConfigError, ServiceError
from vsnd_hybrid.vhost import DeviceServer, ending_on_signals

#: What fits into a Unix socket's address on Linux, less the terminating zero.
_PATH_BYTES = 107
#: So long the end waits for engines that are busy: the daemon ends within 200 ms.
_CLOSE_S = 0.1
#: So long one Python thread may keep the others waiting: a backend in Python has to be in time for a period.
_SWITCH_S = 0.0005
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, or until the one connection of a connected descriptor ends. On the main thread.

    Raises
    ------
    ServiceError
        The daemon cannot start; its message is one line.
    """
    _log_to_stderr(settings.log_level or "warning")
    address = _address(settings)
    engines = Engines()
    loop = Loop()
    try:
        with ending_on_signals(loop.stop):
            server = DeviceServer(_device(settings, engines), loop, ended=loop.stop)
            try:
                _listen(server, address)
                # What start-up made lives as long as the daemon: the collector need not walk it while audio plays.
                gc.freeze()
                sys.setswitchinterval(_SWITCH_S)
                loop.run()
            finally:
                server.close()
    finally:
        engines.close()
        loop.close()


class Engines:
    """The backends in use, one for each set of options, and their control threads."""

    def __init__(self) -> None:
        self._made: dict[str, Backend] = {}
        self.controls = Controls()

    def config(self, settings: Settings) -> DeviceConfig:
        """What the settings say, with an engine for each stream. Raises `ConfigError`, `ServiceError`."""
        default = settings.backend or AUTO
        streams = []
        for stream in settings.all_streams():
            spec = str(stream.backend or default)
            if spec not in self._made:
                self._made[spec] = self._make(spec)
            streams.append(
                StreamConfig(
                    direction=Direction[stream.direction.upper()],
                    backend=self._made[spec],
                    formats=stream.formats,
                    rates=stream.rates,
                    channels=stream.channels,
                    target=stream.target,
                    name=stream.name,
                    options=stream.options,
                )
            )
        return DeviceConfig(streams=tuple(streams))

    def close(self) -> None:
        """Leave the engines; one that hangs is left behind."""
        self.controls.close(_CLOSE_S)

    def _make(self, spec: str) -> Backend:
        try:
            backend = registry.create(spec)
        except BackendError as error:
            raise ServiceError(str(error)) from error
        self.controls.of(backend)
        return backend


def _device(settings: Settings, engines: Engines) -> SoundDevice:
    config = engines.config(settings)
    try:
        return SoundDevice(config, controls=engines.controls)
    except DeviceConfigError as error:
        raise ConfigError(str(error)) from error
    except (BackendError, TimeoutError) as error:
        raise ServiceError(f"an engine does not tell what it can do: {error}") from error


def _address(settings: Settings) -> str | int:
    """The socket's path or descriptor, looked at before an engine is bothered. Raises `ServiceError`."""
    if settings.fd is not None:
        if settings.socket_path is not None:
            raise ConfigError("--fd and --socket-path are both given; one of them is needed")
        return _descriptor(settings.fd)
    if not settings.socket_path:
        raise ConfigError("no socket: give --socket-path PATH, --fd N, or socket-path in the configuration")
    path = settings.socket_path
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
    return path


def _descriptor(fd: int) -> int:
    try:
        mode = os.fstat(fd).st_mode
    except (OSError, OverflowError):
        raise ServiceError(f"--fd {fd}: not an open descriptor; pass a socket to this process") from None
    if not stat.S_ISSOCK(mode):
        raise ServiceError(f"--fd {fd}: not a socket; a listening or a connected Unix socket is needed")
    import socket

    with socket.socket(fileno=os.dup(fd)) as found:
        if found.family != socket.AF_UNIX or found.type != socket.SOCK_STREAM:
            raise ServiceError(f"--fd {fd}: not a Unix stream socket; a listening or a connected one is needed")
    return fd


def _listen(server: DeviceServer, address: str | int) -> None:
    try:
        server.listen(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServiceError(f"{address} is in use by a living daemon; stop it or choose another path") from error
        where = f"--fd {address}" if isinstance(address, int) else address
        raise ServiceError(f"cannot serve on {where}: {error.strerror or error}") from error


def _log_to_stderr(level: str) -> None:
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logging.addLevelName(number, logging.getLevelName(number).lower())
    logging.basicConfig(stream=sys.stderr, level=_LEVELS[level], format="%(levelname)s %(name)s: %(message)s")
