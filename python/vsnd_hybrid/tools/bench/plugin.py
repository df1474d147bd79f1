"""Has a daemon of ours find `busy`: by an entry point in a directory that only this environment names."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_ENTRY_POINTS = "[vsnd_hybrid.backends]\nbench-busy = vsnd_hybrid.tools.bench.busy:BusyBackend\n"
_METADATA = "Metadata-Version: 2.1\nName: vsnd-hybrid-bench\nVersion: 0\n"


@cache
def _site() -> str:
    directory = tempfile.mkdtemp(prefix="vsnd-bench-site-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    about = Path(directory, "vsnd_hybrid_bench-0.dist-info")
    about.mkdir()
    (about / "METADATA").write_text(_METADATA)
    (about / "entry_points.txt").write_text(_ENTRY_POINTS)
    return directory


def environment(base: Mapping[str, str]) -> Mapping[str, str]:
    """`base`, in which the backend can be found."""
    path = [_site(), *filter(None, [base.get("PYTHONPATH")])]
    return {**base, "PYTHONPATH": os.pathsep.join(path)}
