"""A guest's stream does not suffer from what Python does in its daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.isolation import install, suffer
from tests.sessions.pipewire import PipeWireSession

FRAMES = 128
SECONDS = 3.0


@pytest.fixture(scope="module")
def session() -> Iterator[PipeWireSession]:
    with PipeWireSession(quantum=FRAMES) as session:
        yield session


@pytest.fixture
def site(tmp_path: Path) -> dict[str, str]:
    return install(tmp_path / "site")


@pytest.mark.pipewire
@pytest.mark.parametrize("engine", ["native", "clock"])
@pytest.mark.parametrize("load", ["compute", "collect", "compute+collect"])
def test_no_frame_is_missing_because_python_is_busy(
    session: PipeWireSession, site: dict[str, str], load: str, engine: str
) -> None:
    suffered = suffer(session, site, f"hog,load={load},engine={engine}", FRAMES, SECONDS)
    assert suffered.turns > 100
    # In steady state nobody but the engine takes its locks, however long others wait for the interpreter's.
    assert suffered.busy == 0, suffered
    # A callback finds all that the guest has offered: what it misses the guest was late with, by so much.
    assert suffered.missing_frames <= suffered.guest_missed, suffered
