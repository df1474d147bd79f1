"""Finds backends, our own by name and others by their entry points, and makes instances of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import cache, reduce
from importlib import import_module
from operator import or_
from typing import Final

from vsnd_hybrid.backends.base import Backend, BackendError, EngineUnavailable, Needs
from vsnd_hybrid.backends.options import BackendSpec

log = logging.getLogger(__name__)

#: Where a distribution registers its backends: ``name = "module:Class"``.
GROUP: Final = "vsnd_hybrid.backends"

#: Our own, as in pyproject.toml. Looking through the metadata of all that is installed takes a third of a daemon's start.
OWN: Final = {
    "null": "vsnd_hybrid.backends.null:NullBackend",
    "file": "vsnd_hybrid.backends.file:FileBackend",
    "pipewire": "vsnd_hybrid.backends.pipewire:PipeWireBackend",
}

#: What `auto` tries, in this order, of what is installed: a package may bring those that are not our own.
AUTO: Final = ("pipewire", "pulse", "jack", "alsa", "null")


@cache
def _found() -> Mapping[str, str]:
    from importlib.metadata import entry_points

    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def available() -> tuple[str, ...]:
    """The names for ``--backend``, sorted; nothing is imported for it."""
    return tuple(sorted({"auto", *OWN, *_found()}))


def load(name: str) -> type[Backend]:
    """Import a backend's class.

    Raises
    ------
    BackendError
        There is none of this name, or its code cannot be imported or is no `Backend`.
    """
    where = OWN.get(name) or _found().get(name)
    if where is None:
        raise BackendError(f"unknown backend {name!r}, available: {', '.join(available())}")
    module, _, attribute = where.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # a plug-in is foreign code: whatever it raises is one line for the user
        raise BackendError(f"backend {name!r} cannot be loaded from {where}: {_line(error)}") from error
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise BackendError(f"backend {name!r}: {where} is not a subclass of vsnd_hybrid.backends.base.Backend")
    return found


def known_options(backend: type[Backend]) -> tuple[str, ...]:
    """The options of a backend: the keyword-only parameters of its constructor."""
    import inspect  # a tenth of a daemon's start, and few are given options

    parameters = inspect.signature(backend).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def known_to_streams(spec: BackendSpec, wanted: AbstractSet[str]) -> frozenset[str]:
    """What a stream may set for the backend that `spec` names (`Backend.stream_options`); for `auto`, for any that it may choose.
    One that declares nothing may know all of `wanted`. Raises `BackendError` as `check`.
    """
    known: frozenset[str] = frozenset()
    for backend in check(spec):
        known |= wanted if backend.stream_options is None else backend.stream_options
    if spec.name == "auto" and not wanted <= known and any(name in _found() for name in AUTO if name not in OWN):
        known |= wanted
    return known


def needs(spec: BackendSpec) -> Needs:
    """What the backend that `spec` names uses of the host; for `auto`, any that it may choose. Raises `BackendError`."""
    if spec.name == "auto":
        # One that is not our own has what every backend has by default; nothing is searched for it.
        return reduce(or_, (load(name).needs({}) for name in AUTO if name in OWN), Needs())
    backend = load(spec.name)
    try:
        return backend.needs(spec.options)
    except Exception as error:  # foreign code, as in `load`
        raise BackendError(f"backend {spec.name!r} failed: {type(error).__name__}: {_line(error)}") from error


def check(spec: BackendSpec) -> tuple[type[Backend], ...]:
    """The classes that `spec` may mean (one, unless it is `auto`), imported. Raises `BackendError` as `create`, for what is wrong
    whatever the engine says.
    """
    if spec.name == "auto":
        _no_options(spec.options)
        return tuple(load(name) for name in AUTO if name in OWN)
    backend = load(spec.name)
    for key in spec.options:
        known = known_options(backend)
        if key not in known:
            listed = f"it knows {', '.join(known)}" if known else "it has none"
            raise BackendError(f"backend {spec.name!r} has no option {key!r}: {listed}")
    return (backend,)


def create(spec: BackendSpec | str) -> Backend:
    """Make an instance of the backend that `spec` names, connected to its engine.

    Raises
    ------
    EngineUnavailable
        The engine is not installed or not running.
    BackendError
        Unknown backend or option, or an option that makes no sense. The message is one line.
    """
    if isinstance(spec, str):
        spec = BackendSpec.parse(spec)
    if spec.name == "auto":
        return _auto(spec.options)
    (backend,) = check(spec)
    try:
        return backend(**spec.options)
    except BackendError as error:
        raise type(error)(f"backend {spec.name!r}: {_line(error)}") from error
    except Exception as error:  # foreign code, as above
        raise BackendError(f"backend {spec.name!r} failed: {type(error).__name__}: {_line(error)}") from error


def _no_options(options: Mapping[str, str]) -> None:
    if options:
        raise BackendError(f"backend 'auto' has no options, but {', '.join(options)} was given: name a backend")


def _auto(options: Mapping[str, str]) -> Backend:
    _no_options(options)
    tried = []
    for name in AUTO:
        if name not in OWN and name not in _found():
            continue
        tried.append(name)
        try:
            backend = create(BackendSpec(name))
        except BackendError as error:
            level = logging.INFO if isinstance(error, EngineUnavailable) else logging.WARNING
            log.log(level, "backend auto: not %s: %s", name, error)
            continue
        log.info("backend auto: %s", name)
        return backend
    raise EngineUnavailable(f"backend 'auto': none of {', '.join(tried)} answers")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
