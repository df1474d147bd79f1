"""libpipewire by cffi in ABI mode: loading it and calling it. Nothing is linked, so this imports where it is missing.

What is a static inline in the headers is done here by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from vsnd_hybrid.backends.base import EngineUnavailable
from vsnd_hybrid.backends.pipewire import _abi

ffi: Final[Any] = _abi.ffi

SONAME: Final = "libpipewire-0.3.so.0"


@cache
def opened() -> Any:
    """The library. Raises `EngineUnavailable` if it is not installed."""
    try:
        return ffi.dlopen(SONAME)
    except OSError as error:
        raise EngineUnavailable(f"PipeWire is not installed: there is no {SONAME}") from error


@cache
def load() -> Any:
    """The library, initialised once a process. Raises `EngineUnavailable` if it is not installed."""
    lib = opened()
    lib.pw_init(ffi.NULL, ffi.NULL)
    return lib


def version(lib: Any) -> tuple[int, ...]:
    """The library's own version, such as (1, 4, 2)."""
    return tuple(int(part) for part in text(lib.pw_get_library_version()).split(".") if part.isdigit())


def address(lib: Any, name: str) -> int:
    """Where a function of the library is, for native callers."""
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))


def pointer(cdata: Any) -> int:
    """A C pointer as a number."""
    return int(ffi.cast("uintptr_t", cdata))


def text(chars: Any) -> str:
    """A C string; empty for NULL."""
    return bytes(ffi.string(chars)).decode("utf-8", "replace") if chars else ""


def callback(signature: str, function: Callable[..., None]) -> Any:
    """A Python function for C to call. Whoever gives it away keeps it until C has let go of it."""
    return ffi.callback(signature, function)


def call(proxy: Any, table: str, method: str, *arguments: Any) -> Any:
    """Call a method of a proxy through its `spa_interface`, as the inline `pw_*` macros do. Under the loop lock."""
    interface = ffi.cast("struct spa_interface *", proxy)
    function = getattr(ffi.cast(f"struct {table} *", interface.cb.funcs), method)
    return function(interface.cb.data, *arguments)
