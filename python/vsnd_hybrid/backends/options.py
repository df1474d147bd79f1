"""Options of a backend: the text form `NAME,key=value,...`, and the types that the values stand for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from vsnd_hybrid.backends.base import BackendError


class BackendSpec(NamedTuple):
    """A backend's name and its options, as they were given."""

    name: str
    options: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def parse(cls, text: str) -> BackendSpec:
        """Read ``NAME[,key=value...]``. A comma inside of a value is written twice, as in QEMU.

        Raises
        ------
        BackendError
            A part is not ``key=value``, or a key is given twice.
        """
        name, *parts = (part.replace("\0", ",") for part in text.replace(",,", "\0").split(","))
        options: dict[str, str] = {}
        for part in parts:
            key, equals, value = part.partition("=")
            if not (key and equals):
                raise BackendError(f"backend {text!r}: {part!r} is no option, expected key=value")
            if key in options:
                raise BackendError(f"backend {text!r}: option {key!r} is given twice")
            options[key] = value
        return cls(name, options)

    def __str__(self) -> str:
        return ",".join([self.name, *(f"{k}={v}".replace(",", ",,") for k, v in self.options.items())])


def boolean(name: str, text: str) -> bool:
    """A yes or no. Raises `BackendError` if `text` is neither."""
    match text.lower():
        case "true" | "yes" | "on" | "1":
            return True
        case "false" | "no" | "off" | "0":
            return False
    raise BackendError(f"option {name}={text}: expected true or false")


def number(name: str, text: str, lowest: int, highest: int) -> int:
    """A whole number in a range. Raises `BackendError` if `text` is none."""
    # Python refuses to read a number of thousands of digits.
    if text.isascii() and text.isdigit() and len(text) <= 18 and lowest <= int(text) <= highest:
        return int(text)
    raise BackendError(f"option {name}={text}: expected a whole number from {lowest} to {highest}")


def size(name: str, text: str) -> int:
    """Bytes: a whole number, with K, M, G or T behind it for powers of 1024. Raises `BackendError` if `text` is none."""
    digits, power = (text[:-1], "KMGT".find(text[-1].upper()) + 1) if text[-1:].isalpha() else (text, 0)
    if digits.isascii() and digits.isdigit() and len(digits) <= 18 and (power or not text[-1].isalpha()):
        return int(digits) << 10 * power
    raise BackendError(f"option {name}={text}: expected bytes, such as 500M or 16G")


def choice(name: str, text: str, choices: tuple[str, ...]) -> str:
    """One of several words. Raises `BackendError` if `text` is none of them."""
    if text in choices:
        return text
    raise BackendError(f"option {name}={text}: expected {' or '.join(choices)}")
