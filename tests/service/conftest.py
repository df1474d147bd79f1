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
    """The environment in which ``--backend spy`` is what `spy.py` says."""
    site = tmp_path / "site"
    metadata = site / "vsnd_spy-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: vsnd-spy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[vsnd_hybrid.backends]\nspy = vsnd_spy:SpyBackend\n")
    shutil.copy(HERE / "spy.py", site / "vsnd_spy.py")
    return os.environ | {"PYTHONPATH": str(site)}
