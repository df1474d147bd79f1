"""What a daemon was asked to be: by its command line, by a file (`toml` reads it), or by default.

The device's own view of this is `vsnd_hybrid.device.config`; nothing here knows of virtio.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from vsnd_hybrid.backends.base import BackendError
from vsnd_hybrid.backends.options import BackendSpec
from vsnd_hybrid.service.errors import ConfigError

#: Streams of one device, each way, counted or described. A stream costs the guest a PCM device.
MAX_STREAMS = 32
LOG_LEVELS = ("error", "warning", "info", "debug")
SANDBOX_MODES = ("auto", "strict", "none")
MLOCK_MODES = ("auto", "on", "off")
#: The highest SCHED_FIFO priority.
PRIORITY_MAX = 99
MODE_ALLOWED = "octal permissions such as 0660"

AUTO = BackendSpec("auto")


class StreamSettings(NamedTuple):
    """One stream. What is empty or None is the engine's choice."""

    direction: Literal["output", "input"]
    #: None: the daemon's.
    backend: BackendSpec | None = None
    #: The engine's name of a device.
    target: str = ""
    #: How often the engine shall wake up (`backends.latency`).
    latency: str = ""
    #: How the engine's user interfaces show the stream.
    name: str = ""
    formats: tuple[str, ...] = ()
    rates: tuple[int, ...] = ()
    #: Smallest and largest number of channels.
    channels: tuple[int, int] | None = None
    options: Mapping[str, str] = MappingProxyType({})


class Settings(NamedTuple):
    """A daemon's settings; None is "not said"."""

    socket_path: str | None = None
    fd: int | None = None
    backend: BackendSpec | None = None
    outputs: int | None = None
    inputs: int | None = None
    log_level: str | None = None
    sandbox: str | None = None
    user: str | None = None
    #: 0: none.
    rt_priority: int | None = None
    mlock: str | None = None
    socket_mode: int | None = None
    socket_group: str | None = None
    streams: tuple[StreamSettings, ...] = ()

    def over(self, file: Settings) -> Settings:
        """These settings, and what they do not say as `file` says it.

        Raises `ConfigError` if `outputs` or `inputs` are given over streams that the file describes.
        """
        if file.streams and (self.outputs is not None or self.inputs is not None):
            raise ConfigError("--outputs and --inputs count streams that the configuration describes; leave them out")
        if self.fd is not None:
            file = file._replace(socket_path=None)
        # What is empty was said: an empty user must not become "stay root".
        said = {key: value for key, value in self._asdict().items() if value is not None and key != "streams"}
        return file._replace(**said)

    def backends(self) -> tuple[BackendSpec, ...]:
        """Every backend that a stream uses, once. Raises `ConfigError` as `all_streams`."""
        default = self.backend or AUTO
        return tuple({str(spec): spec for spec in (s.backend or default for s in self.all_streams())}.values())

    def all_streams(self) -> tuple[StreamSettings, ...]:
        """Every stream, those that are only counted included; by default one each way. Outputs come first.

        Raises `ConfigError` if there is none.
        """
        if self.streams:
            return self.streams
        outputs = 1 if self.outputs is None else self.outputs
        inputs = 1 if self.inputs is None else self.inputs
        if outputs + inputs == 0:
            raise ConfigError("no streams: outputs and inputs are both 0; at least one stream is needed")
        return (StreamSettings(direction="output"),) * outputs + (StreamSettings(direction="input"),) * inputs


def permissions(text: str) -> int | None:
    """The mode of a socket from its octal digits, such as ``0660``; None if it is none."""
    return int(text, 8) if re.fullmatch("0?[0-7]{3}", text) else None


def from_options(
    *, backend: str | None = None, config: str | None = None, socket_mode: str | None = None, **values: Any
) -> Settings:
    """The settings of a command line, and of the configuration file that it names.

    Raises `ConfigError`.
    """
    try:
        spec = None if backend is None else BackendSpec.parse(backend)
    except BackendError as error:
        raise ConfigError(str(error)) from None
    mode = None if socket_mode is None else permissions(socket_mode)
    if socket_mode is not None and mode is None:
        raise ConfigError(f"--socket-mode is {socket_mode!r}; allowed: {MODE_ALLOWED}")
    settings = Settings(backend=spec, socket_mode=mode, **values)
    for name in ("outputs", "inputs"):
        count = getattr(settings, name)
        if count is not None and not 0 <= count <= MAX_STREAMS:
            raise ConfigError(f"--{name} is {count}; allowed: a number from 0 to {MAX_STREAMS}")
    if settings.rt_priority is not None and not 0 <= settings.rt_priority <= PRIORITY_MAX:
        raise ConfigError(f"--rt-priority is {settings.rt_priority}; allowed: a number from 0 (none) to {PRIORITY_MAX}")
    if config is None:
        return settings
    if not config:
        raise ConfigError("--config is empty; it is the path of a file")
    from vsnd_hybrid.service import toml

    return settings.over(toml.load(config, spec))
