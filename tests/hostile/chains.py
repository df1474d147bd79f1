"""Chains that no driver should make. Each is a list of raw descriptors, and what lies in the table that it may point to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

#: A raw descriptor: address, length, flags, next.
Raw = tuple[int, int, int, int]
NEXT, WRITE, INDIRECT = 1, 2, 4
#: Descriptors of the longest table that a length can tell.
LONGEST = 65535


@dataclass(frozen=True)
class Places:
    """Addresses in the guest's memory: a buffer of 4 KiB, a table of `LONGEST` entries, and the end of it all."""

    buffer: int
    table: int
    end: int


@dataclass(frozen=True)
class Chain:
    """Descriptors for the ring, and the content of `Places.table`."""

    ring: list[Raw]
    table: list[Raw]


Shape = Callable[[Places], Chain]


def direct(*raw: Raw) -> Chain:
    return Chain(list(raw), [])


def in_table(entries: int | None, *raw: Raw) -> Chain:
    """`entries` as the ring tells, if it tells another number than there are."""
    return Chain([(-1, 16 * (len(raw) if entries is None else entries), INDIRECT, 0)], list(raw))


SHAPES: dict[str, Shape] = {
    "a loop": lambda p: direct((p.buffer, 4, NEXT, 1), (p.buffer, 4, NEXT, 0)),
    "a descriptor that names itself": lambda p: direct((p.buffer, 4, NEXT, 0)),
    "a loop in a table": lambda p: in_table(LONGEST, (p.buffer, 4, NEXT, 0)),
    "next outside of the ring": lambda p: direct((p.buffer, 4, NEXT, 60000)),
    "an address outside of memory": lambda p: direct((p.buffer, 4, NEXT, 1), (p.end, 64, WRITE, 0)),
    "an address across the end of memory": lambda p: direct((p.end - 2, 4, NEXT, 1), (p.end - 4, 8, WRITE, 0)),
    "an address that wraps": lambda p: direct((2**64 - 2, 4, NEXT, 1), (2**64 - 8, 16, WRITE, 0)),
    "lengths that wrap": lambda p: direct((p.buffer, 2**32 - 1, NEXT, 1), (p.buffer, 2**32 - 1, WRITE, 0)),
    "a nested table": lambda p: in_table(None, (p.table, 16, INDIRECT, 0)),
    "a table of odd size": lambda p: Chain([(p.table, 40, INDIRECT, 0)], [(p.buffer, 4, 0, 0)]),
    "an empty table": lambda p: Chain([(p.table, 0, INDIRECT, 0)], []),
    "a table outside of memory": lambda p: Chain([(p.end, 160, INDIRECT, 0)], []),
    "a table with a next": lambda p: Chain([(p.table, 16, INDIRECT | NEXT, 1), (p.buffer, 8, WRITE, 0)], []),
    "the longest table": lambda p: in_table(LONGEST, *((p.buffer, 1, NEXT, i + 1) for i in range(LONGEST - 1))),
    "zero lengths": lambda p: direct((p.buffer, 0, NEXT, 1), (p.buffer, 0, WRITE, 0)),
    "written before read": lambda p: direct((p.buffer, 8, WRITE | NEXT, 1), (p.buffer, 4, 0, 0)),
    "only readable": lambda p: direct((p.buffer, 64, 0, 0)),
    "only writable": lambda p: direct((p.buffer, 64, WRITE, 0)),
    "a short answer part": lambda p: direct((p.buffer, 64, NEXT, 1), (p.buffer, 3, WRITE, 0)),
    "answers over each other": lambda p: direct((p.buffer, 16, NEXT, 1), (p.buffer, 16, WRITE, 0)),
    "unknown flags": lambda p: direct((p.buffer, 16, 0xFFF8 | NEXT, 1), (p.buffer, 16, 0xFFF8 | WRITE, 0)),
}


def _address(kind: int, places: Places) -> int:
    return (places.buffer, places.table, places.end - 1, places.end, 0, 2**64 - 1)[kind]


_fields = st.tuples(
    st.integers(0, 5),
    st.sampled_from((0, 1, 4, 8, 16, 64, 4096, 1 << 20, 2**32 - 1)),
    st.integers(0, 7),
    st.integers(0, 4) | st.just(60000),
)
_arbitrary = st.lists(_fields, min_size=1, max_size=5)


def _made(ring: list[tuple[int, int, int, int]], table: list[tuple[int, int, int, int]]) -> Shape:
    def shape(places: Places) -> Chain:
        def raw(fields: tuple[int, int, int, int]) -> Raw:
            return (_address(fields[0], places), *fields[1:])

        return Chain([raw(f) for f in ring], [raw(f) for f in table])

    return shape


#: Any of the named ones, or one of any fields.
shapes = st.sampled_from(sorted(SHAPES)).map(SHAPES.__getitem__) | st.builds(_made, _arbitrary, _arbitrary)
