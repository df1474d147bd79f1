"""A backend of somebody else's, installed where the daemon finds it and nobody else does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def spy(tmp_path: Path) -> Mapping[str, str]:
    """The environment in which ``--backend spy``, ``spy-null`` and ``spy-pipewire`` are what `spy.py` says."""
    site = tmp_path / "site"
    metadata = site / "vsnd_spy-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: vsnd-spy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[vsnd_hybrid.backends]\n"
        "spy = vsnd_spy:FileSpy\nspy-null = vsnd_spy:NullSpy\nspy-pipewire = vsnd_spy:PipeWireSpy\n"
    )
    shutil.copy(HERE / "spy.py", site / "vsnd_spy.py")
    return os.environ | {"PYTHONPATH": str(site)}
