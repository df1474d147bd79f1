"""The daemon's life: engines, device, socket, signals. It ends when it is told to, or a connected descriptor is served."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from vsnd_hybrid import _core
from vsnd_hybrid.backends import registry
from vsnd_hybrid.backends.base import Backend, BackendError, Direction
from vsnd_hybrid.device import Controls, DeviceConfig, DeviceConfigError, SoundDevice, StreamConfig
from vsnd_hybrid.loop import Loop
from vsnd_hybrid.service.address import Address
from vsnd_hybrid.service.config import AUTO, Settings
from vsnd_hybrid.service.errors import ConfigError, ServiceError
from vsnd_hybrid.service.notify import ServiceManager
from vsnd_hybrid.service.sandbox import Sandbox, needs_of
from vsnd_hybrid.service.timeliness import Timeliness
from vsnd_hybrid.vhost import DeviceServer, ending_on_signals

#: So long the end waits for engines that are busy: the daemon ends within 200 ms.
_CLOSE_S = 0.1
#: So long one Python thread may keep the others waiting: a backend in Python has to be in time for a period.
_SWITCH_S = 0.0005
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}


def serve(settings: Settings, *, guest: str = "", parent: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT, or until the one connection of a connected descriptor ends. On the main thread.

    Parameters
    ----------
    guest
        Whose daemon this is, if it is one of many; stands in its log lines.
    parent
        The process that forked this one, which ends with it.

    Raises
    ------
    ServiceError
        The daemon cannot start; its message is one line.
    """
    log_to_stderr(settings.log_level or "warning", guest)
    address = Address(settings)
    become = None if settings.user is None else _user(settings.user)
    walls = Sandbox(settings.sandbox or "auto")
    timely = Timeliness(settings)
    engines = Engines()
    loop = Loop()
    with ExitStack() as stack:
        manager = stack.enter_context(ServiceManager())
        stack.callback(loop.close)
        stack.callback(engines.close)
        stack.callback(address.close)
        stack.enter_context(ending_on_signals(loop))
        walls.limit()
        if become:
            # Made where only root may, perhaps; front ends wait until the engines are there.
            address.bind()
            timely.permit()
            become()
        if parent is not None:
            # Behind `become`, at which the kernel forgets it.
            _end_with(parent)
        needs = needs_of(settings.backends() if walls.wanted else ())
        walls.restrict_files(needs, address.directory)
        timely.raise_priority()
        server = DeviceServer(_device(settings, engines), loop, ended=loop.stop)
        stack.callback(server.close)
        address.bind()
        timely.lock_memory()
        walls.restrict_calls(needs)
        address.serve(server)
        # What start-up made lives as long as the daemon: the collector need not walk it while audio plays.
        gc.freeze()
        gc.enable()
        sys.setswitchinterval(_SWITCH_S)
        manager.ready(f"Serving on {address}")
        loop.run()
        manager.stopping()


def _user(text: str) -> Callable[[], None]:
    """How to become this user. Raises `ConfigError`."""
    from vsnd_hybrid.service.users import become, find_user

    return partial(become, find_user(text))


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
                    latency=stream.latency,
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


def _end_with(parent: int) -> None:
    try:
        _core.end_with_parent(parent)
    except OSError as error:
        raise ServiceError(str(error)) from None


def log_to_stderr(level: str, guest: str = "") -> None:
    """Log from `level` on, one line each; `guest` stands in each of them."""
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logging.addLevelName(number, logging.getLevelName(number).lower())
    whose = f"{guest}: " if guest else ""
    form = f"%(levelname)s {whose}%(name)s: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=_LEVELS[level], format=form, force=bool(guest))
