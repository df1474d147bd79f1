"""Streams on fakes, one each way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from vsnd_hybrid.backends.base import Direction

from tests.unit.stream_rig import (
    Rig,
)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig(Direction.OUTPUT)
    yield made
    made.close()


@pytest.fixture
def capture() -> Iterator[Rig]:
    made = Rig(Direction.INPUT)
    yield made
    made.close()
