"""The backend in thirty lines, installed as its readers would install it, and heard."""

from __future__ import annotations

import importlib
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from vsnd_hybrid.backends import registry

from tests.backends.conftest import INPUT, OUTPUT, GuestFactory
from tests.guests import audio
from tests.processes import await_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_backend"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example in a directory on sys.path, with the metadata that an installer makes of its pyproject.toml."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    site = tmp_path / "site"
    metadata = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in groups]
    (metadata / "entry_points.txt").write_text("".join(lines))
    shutil.copy(EXAMPLE / "vsnd_command.py", site)
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    registry._found.cache_clear()
    yield
    monkeypatch.undo()
    registry._found.cache_clear()
    sys.modules.pop("vsnd_command", None)


@pytest.mark.usefixtures("installed")
def test_a_command_hears_every_frame(guest_on: GuestFactory, tmp_path: Path) -> None:
    heard = tmp_path / "heard.raw"
    assert "command" in registry.available()
    backend = registry.create(f"command,run=cat > {heard}; touch {heard}.whole")
    guest = guest_on(backend, (OUTPUT, INPUT))
    assert guest.play(audio.numbered(24000)).ok
    assert guest.record(frames=4800).data == audio.silence(4800)
    await_until(Path(f"{heard}.whole").exists, 5, "the command's end")
    assert audio.locate(heard.read_bytes(), 24000).holds(24000)


@pytest.mark.usefixtures("installed")
def test_a_command_that_ends_is_no_matter_to_the_guest(guest_on: GuestFactory) -> None:
    guest = guest_on(registry.create("command,run=true"), (OUTPUT,))
    assert guest.play(audio.numbered(24000)).ok


def test_it_is_thirty_lines_at_most() -> None:
    _docstring, *lines = (EXAMPLE / "vsnd_command.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 30
