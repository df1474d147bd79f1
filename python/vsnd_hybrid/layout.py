"""A binary structure: named fields, and how `struct` packs them. What the structures are is told in `wire`."""

from __future__ import annotations

from struct import Struct
from typing import Any, ClassVar, Self, dataclass_transform


def _field(index: int) -> property:
    def value(self: Layout) -> Any:
        return self._values[index]

    return property(value)


@dataclass_transform(frozen_default=True)
class Layout:
    """A structure of the specification: fields in order, and how `struct` packs them.

    A subclass names its fields as annotations. This is a frozen dataclass without the price of one: the daemon's start
    pays for each class, and the `dataclass` decorator costs a millisecond.
    """

    __slots__ = ("_values",)
    STRUCT: ClassVar[Struct]
    #: Bytes of the structure.
    SIZE: ClassVar[int]
    FIELDS: ClassVar[tuple[str, ...]]
    _values: tuple[Any, ...]

    def __init_subclass__(cls, *, layout: str) -> None:
        cls.STRUCT = Struct("<" + layout)
        cls.SIZE = cls.STRUCT.size
        cls.FIELDS = tuple(cls.__annotations__)
        for index, name in enumerate(cls.FIELDS):
            setattr(cls, name, _field(index))

    def __init__(self, *values: Any, **named: Any) -> None:
        values += tuple(named.pop(name) for name in self.FIELDS[len(values) :] if name in named)
        if named or len(values) != len(self.FIELDS):
            raise TypeError(f"{type(self).__name__} takes {', '.join(self.FIELDS)}")
        object.__setattr__(self, "_values", values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is read-only")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._values == self._values

    def __hash__(self) -> int:
        return hash((type(self), self._values))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in zip(self.FIELDS, self._values, strict=True))
        return f"{type(self).__name__}({fields})"

    def pack(self) -> bytes:
        """The structure as bytes. `struct.error` if a value does not fit its field."""
        return self.STRUCT.pack(*self._values)

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview, offset: int = 0) -> Self:
        """Read the structure at `offset`. `struct.error` if `data` is too short."""
        return cls(*cls.STRUCT.unpack_from(data, offset))
