"""The systemd units of `examples/deployment`, as far as they can be judged without a running systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from vsnd_hybrid.service.toml import load

from tests.daemon import executable

UNITS = Path(__file__).parents[2] / "examples" / "deployment" / "systemd"

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with the command where it is installed for the tests."""
    for source in UNITS.glob("vsnd-hybrid*.*"):
        text = source.read_text()
        (tmp_path / source.name).write_text(text.replace("/usr/bin/vsnd-hybrid", executable()))
    return tmp_path


@pytest.mark.parametrize("unit", ["vsnd-hybrid@guest.service", "vsnd-hybrid@guest.socket", "vsnd-hybrid-serve.service"])
def test_systemd_understands_every_line(units: Path, unit: str) -> None:
    assert str(units) not in analyze("verify", str(units / unit))


@pytest.mark.parametrize("unit", ["vsnd-hybrid@.service", "vsnd-hybrid-serve.service"])
def test_the_service_is_exposed_in_little(units: Path, unit: str) -> None:
    """Of 10; ordinary services have 9.6."""
    analyze("security", "--offline=yes", "--threshold=10", str(units / unit))


@pytest.mark.parametrize("file", ["guest.toml", "serve.toml"])
def test_the_example_s_configuration_is_one(file: str) -> None:
    settings = load(UNITS / file)
    assert settings.socket_path is None, "the socket is passed"
    assert [stream.direction for stream in settings.all_streams()] == ["output", "input"]
