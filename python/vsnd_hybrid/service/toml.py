"""Reads a TOML configuration file into `Settings`, and says in which line it is wrong.

Types and unknown keys are checked by msgspec, which is imported here only: a daemon without a file does not pay for it.
What the values mean together is `config`'s subject.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from vsnd_hybrid.backends import latency, registry
from vsnd_hybrid.backends.base import BackendError
from vsnd_hybrid.backends.formats import CHANNELS_MAX, RATES
from vsnd_hybrid.backends.options import BackendSpec
from vsnd_hybrid.service.config import (
    AUTO,
    LOG_LEVELS,
    MAX_STREAMS,
    MLOCK_MODES,
    MODE_ALLOWED,
    PRIORITY_MAX,
    SANDBOX_MODES,
    Settings,
    StreamSettings,
    permissions,
)
from vsnd_hybrid.service.errors import ConfigError
from vsnd_hybrid.wire import PcmFormat

Scalar = str | int | float | bool
#: Where a value stands in the decoded file: keys, and numbers for the items of a list.
Place = tuple[str | int, ...]

_BACKEND = 'a string such as "file,dir=/tmp" or a table such as { name = "file", dir = "/tmp" }'
_ALLOWED = {
    "socket-path": "a string: where the socket is made",
    "backend": _BACKEND,
    "outputs": f"a number from 0 to {MAX_STREAMS}",
    "inputs": f"a number from 0 to {MAX_STREAMS}",
    "log-level": ", ".join(f'"{level}"' for level in LOG_LEVELS),
    "sandbox": ", ".join(f'"{mode}"' for mode in SANDBOX_MODES),
    "user": 'a string: "NAME" or "NAME:GROUP"',
    "rt-priority": f"a number from 0 (none) to {PRIORITY_MAX}",
    "mlock": ", ".join(f'"{mode}"' for mode in MLOCK_MODES),
    "socket-mode": f"a string: {MODE_ALLOWED}",
    "socket-group": "a string: a group's name or number",
    "stream": "[[stream]] tables, one for each stream",
    "stream.direction": '"output" or "input"',
    "stream.backend": _BACKEND,
    "stream.target": "a string: the engine's name of a device",
    "stream.latency": ", ".join(f'"{word}"' for word in latency.WORDS) + f", or frames from 1 to {latency.FRAMES_MAX}",
    "stream.name": "a string: how the engine shows the stream",
    "stream.formats": "a list of " + ", ".join(f'"{name}"' for name in PcmFormat.__members__),
    "stream.rates": "a list of " + ", ".join(str(rate) for rate in sorted(RATES)),
    "stream.channels": f"a number from 1 to {CHANNELS_MAX}, or a list [smallest, largest] of two such numbers",
    "stream.options": "a table of strings, numbers and booleans",
}


class _Stream(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    direction: Literal["output", "input"]
    backend: str | dict[str, Scalar] | None = None
    target: str = ""
    latency: str | int = ""
    name: str = ""
    formats: list[str] | None = None
    rates: list[int] | None = None
    channels: int | list[int] | None = None
    options: dict[str, Scalar] = {}


class _File(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    socket_path: str | None = None
    backend: str | dict[str, Scalar] | None = None
    outputs: int | None = None
    inputs: int | None = None
    log_level: str | None = None
    sandbox: str | None = None
    user: str | None = None
    rt_priority: int | None = None
    mlock: str | None = None
    socket_mode: str | None = None
    socket_group: str | None = None
    stream: list[_Stream] = []


class _WrongError(Exception):
    """What is wrong at a place of the file."""

    def __init__(self, place: Place, text: str, allowed: str | None = None) -> None:
        self.place = place
        self.text = f"{text}; allowed: {allowed or _ALLOWED['.'.join(k for k in place if isinstance(k, str))]}"
        super().__init__(self.text)


def load(path: str | Path, backend: BackendSpec | None = None) -> Settings:
    """Read a configuration file.

    Parameters
    ----------
    backend
        The command line's, which takes the place of the file's: what streams may set depends on it.

    Raises
    ------
    ConfigError
        The file cannot be read, is no TOML, or says something that is not allowed; the message names the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is no UTF-8; a configuration is TOML in UTF-8") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax(str(path), text, str(error))) from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: a number of thousands of digits, or lists in lists without end") from None
    try:
        settings = _settings(data)
        _check_streams(settings, backend)
        return settings
    except _WrongError as error:
        raise ConfigError(f"{path}:{line_of(text, error.place)}: {error.text}") from None


def _syntax(path: str, text: str, message: str) -> str:
    """tomllib's message in our form: it ends in "(at line 3, column 5)" or "(at end of document)"."""
    at = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    line = at[1] if at and at[1] else str(max(1, len(text.splitlines())))
    what = message[: at.start()] if at else message
    return f"{path}:{line}: {what[:1].lower()}{what[1:]}; allowed: TOML"


def line_of(text: str, place: Place) -> int:
    """The line in which what stands at `place` begins (items of a list: the list's key).

    The shortest run of whole lines from the top that is valid TOML and has the place ends where the value ends; it
    begins behind the run before. That needs no TOML parser of our own, and is slow only where something is wrong.
    """
    while True:
        lines, begin = text.splitlines(), 1
        for end in range(1, len(lines) + 1):
            try:
                data = tomllib.loads("\n".join(lines[:end]) + "\n")
            except tomllib.TOMLDecodeError:
                continue
            if _has(data, place):
                return begin
            begin = end + 1
        if not place:
            return 1
        place = place[:-1]


def _has(data: Any, place: Place) -> bool:
    for key in place:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _settings(data: dict[str, Any]) -> Settings:
    try:
        file = msgspec.convert(data, _File)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    for key in ("outputs", "inputs"):
        count = getattr(file, key)
        if count is not None and not 0 <= count <= MAX_STREAMS:
            raise _WrongError((key,), f"{key} is {count}")
        if count is not None and file.stream:
            raise _WrongError((key,), f"{key} counts streams that [[stream]] describes", "one of the two")
    if file.log_level is not None and file.log_level not in LOG_LEVELS:
        raise _WrongError(("log-level",), f'log-level is "{file.log_level}"')
    if file.sandbox is not None and file.sandbox not in SANDBOX_MODES:
        raise _WrongError(("sandbox",), f'sandbox is "{file.sandbox}"')
    if file.rt_priority is not None and not 0 <= file.rt_priority <= PRIORITY_MAX:
        raise _WrongError(("rt-priority",), f"rt-priority is {file.rt_priority}")
    if file.mlock is not None and file.mlock not in MLOCK_MODES:
        raise _WrongError(("mlock",), f'mlock is "{file.mlock}"')
    socket_mode = None if file.socket_mode is None else permissions(file.socket_mode)
    if file.socket_mode is not None and socket_mode is None:
        raise _WrongError(("socket-mode",), f'socket-mode is "{file.socket_mode}"')
    for direction in ("output", "input"):
        of_it = [index for index, stream in enumerate(file.stream) if stream.direction == direction]
        if len(of_it) > MAX_STREAMS:
            raise _WrongError(
                ("stream", of_it[MAX_STREAMS]), f"{len(of_it)} {direction}s", f"at most {MAX_STREAMS} each way"
            )
    return Settings(
        socket_path=file.socket_path,
        backend=_backend(file.backend, ("backend",)),
        outputs=file.outputs,
        inputs=file.inputs,
        log_level=file.log_level,
        sandbox=file.sandbox,
        user=file.user,
        rt_priority=file.rt_priority,
        mlock=file.mlock,
        socket_mode=socket_mode,
        socket_group=file.socket_group,
        streams=tuple(_stream(stream, index) for index, stream in enumerate(file.stream)),
    )


def _stream(stream: _Stream, index: int) -> StreamSettings:
    place: Place = ("stream", index)
    for key in ("formats", "rates"):
        if getattr(stream, key) == []:
            raise _WrongError((*place, key), f"{key} is empty")
    for number, name in enumerate(stream.formats or ()):
        if name not in PcmFormat.__members__:
            raise _WrongError((*place, "formats", number), f'unknown format "{name}"')
    for number, rate in enumerate(stream.rates or ()):
        if rate not in RATES:
            raise _WrongError((*place, "rates", number), f"unknown rate {rate}")
    if stream.latency != "" and not latency.valid(str(stream.latency)):
        raise _WrongError((*place, "latency"), f"latency is {json.dumps(stream.latency)}")
    channels: tuple[int, int] | None = None
    if stream.channels is not None:
        pair = [stream.channels] * 2 if isinstance(stream.channels, int) else stream.channels
        if len(pair) != 2 or not 1 <= pair[0] <= pair[1] <= CHANNELS_MAX:
            raise _WrongError((*place, "channels"), f"channels is {stream.channels}")
        channels = (pair[0], pair[1])
    return StreamSettings(
        direction=stream.direction,
        backend=_backend(stream.backend, (*place, "backend")),
        target=stream.target,
        latency=str(stream.latency),
        name=stream.name,
        formats=tuple(stream.formats or ()),
        rates=tuple(stream.rates or ()),
        channels=channels,
        options=_strings(stream.options),
    )


def _check_streams(settings: Settings, backend: BackendSpec | None) -> None:
    """Refuse what a stream's backend would leave unread."""
    for index, stream in enumerate(settings.streams):
        places: dict[str, Place] = {key: ("options", key) for key in stream.options}
        places |= {key: (key,) for key in ("target", "latency") if getattr(stream, key)}
        if not places:
            continue
        spec = stream.backend or backend or settings.backend or AUTO
        try:
            known = registry.known_to_streams(spec, places.keys())
        except BackendError:
            continue  # the daemon cannot make it, and says why
        for key, place in places.items():
            if key not in known:
                allowed = ", ".join(sorted(known)) or "none of target, latency and options"
                raise _WrongError(
                    ("stream", index, *place), f'backend "{spec.name}" has no "{key}" of a stream', allowed
                )


def _backend(value: str | dict[str, Scalar] | None, place: Place) -> BackendSpec | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return BackendSpec.parse(value)
        except BackendError as error:
            raise _WrongError(place, str(error)) from None
    options = _strings(value)
    name = options.pop("name", "")
    if not name:
        raise _WrongError(place, "the table has no name")
    return BackendSpec(name, options)


def _strings(options: dict[str, Scalar]) -> dict[str, str]:
    """Options as a backend gets them from the command line."""
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in options.items()}


_TYPES = {"str": "a string", "int": "a whole number", "array": "a list", "object": "a table", "bool": "true or false"}
_TYPES |= {"float": "a number with a fraction", "date": "a date", "datetime": "a date"}


def _explain(message: str) -> _WrongError:
    """msgspec's message (``what - at `$.stream[0].rates[1]` ``) as a place of the file and what is allowed there."""
    what, _, where = message.partition(" - at `$")
    place: Place = tuple(
        int(index) if index else key for key, index in re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", where) if key or index
    )
    unknown = re.match(r"Object contains unknown field `(.*)`$", what)
    if unknown:
        section = "stream." if place else ""
        keys = [
            key.removeprefix(section) for key in _ALLOWED if key.startswith(section) and "." not in key[len(section) :]
        ]
        inside = " in [[stream]]" if place else ""
        return _WrongError((*place, unknown[1]), f'unknown key "{unknown[1]}"{inside}', ", ".join(keys))
    missing = re.match(r"Object missing required field `(.*)`$", what)
    if missing:
        return _WrongError(
            place, f"[[stream]] without {missing[1]}", f"{missing[1]} = {_ALLOWED[f'stream.{missing[1]}']}"
        )
    key = next((str(key) for key in reversed(place) if isinstance(key, str)), "")
    wrong_type = re.match(r"Expected `.*`, got `(\w+)`$", what)
    wrong_value = re.match(r"Invalid enum value '(.*)'$", what)
    if wrong_value:
        text = f'{key} is "{wrong_value[1]}"'
    elif wrong_type:
        inside = f"item {place[-1] + 1} of " if isinstance(place[-1], int) else ""
        item = ("a value in " if where.endswith("[...]`") else inside) + key
        text = f"{item} is {_TYPES.get(wrong_type[1], wrong_type[1])}"
    else:
        text = f"{key}: {what}"
    return _WrongError(place, text)
