"""The settings of one guest among many: what its name is, and where ``{name}`` stands in the settings of all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from vsnd_hybrid.backends.options import BackendSpec
from vsnd_hybrid.service.config import Settings
from vsnd_hybrid.service.errors import ConfigError

#: What a guest's name may be: it becomes a file name, and stands in paths and in the names of audio streams.
NAME_ALLOWED: Final = "1 to 64 letters, digits, '_', '-' and '.', beginning with a letter or a digit"
#: The name that the supervisor's own socket has.
CONTROL: Final = "control"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PLACE: Final = "{name}"


def check_name(name: str) -> str:
    """`name`, if a guest may be called so. Raises `ConfigError`."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"guest {name[:80]!r}: a name has {NAME_ALLOWED}")
    if name == CONTROL:
        raise ConfigError(f"guest {name!r}: the control socket has this name; choose another")
    return name


def check_directory(directory: str) -> str:
    """`directory`, if it can be one. Raises `ConfigError`: an empty one would be the current directory."""
    if not directory:
        raise ConfigError("--socket-dir is empty; name the directory of the guests' sockets")
    return directory


def settings_for(name: str, settings: Settings, fd: int) -> Settings:
    """The settings of the guest `name`, whose listening socket is `fd`: what they say of the socket has been done."""
    return settings._replace(
        socket_path=None,
        socket_mode=None,
        socket_group=None,
        fd=fd,
        user=settings.user and _put(name, settings.user),
        backend=_spec(name, settings.backend),
        streams=tuple(
            stream._replace(
                backend=_spec(name, stream.backend),
                target=_put(name, stream.target),
                name=_put(name, stream.name),
                options=_options(name, stream.options),
            )
            for stream in settings.streams
        ),
    )


def _put(name: str, text: str) -> str:
    return text.replace(_PLACE, name)


def _options(name: str, options: Mapping[str, str]) -> dict[str, str]:
    return {key: _put(name, value) for key, value in options.items()}


def _spec(name: str, spec: BackendSpec | None) -> BackendSpec | None:
    return spec and BackendSpec(spec.name, _options(name, spec.options))
