"""Backends are found by name, and every mistake is one line that says what there is."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from vsnd_hybrid.backends import registry
from vsnd_hybrid.backends.base import Backend, BackendError, EngineUnavailable
from vsnd_hybrid.backends.null import NullBackend
from vsnd_hybrid.backends.options import BackendSpec, boolean, choice, number
from vsnd_hybrid.backends.pipewire import PipeWireBackend, library


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on sys.path with an installed distribution that registers three backends; its module is empty."""
    metadata = tmp_path / "plugin_of_tests-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-tests\nVersion: 1\n")
    names = "good = plugin_of_tests:Good\nodd = plugin_of_tests:Odd\ngone = plugin_of_tests_gone:Gone\n"
    (metadata / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{names}")
    monkeypatch.syspath_prepend(tmp_path)
    registry._found.cache_clear()
    yield tmp_path
    sys.modules.pop("plugin_of_tests", None)
    monkeypatch.undo()
    registry._found.cache_clear()


def error_of(spec: str) -> str:
    """What `create` says, on one line."""
    with pytest.raises(BackendError) as caught:
        registry.create(spec)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("null", "null", {}),
        ("file,dir=/tmp/x,loop=true", "file", {"dir": "/tmp/x", "loop": "true"}),
        ("file,dir=/tmp/a,,b", "file", {"dir": "/tmp/a,b"}),
        ("pipewire,props={ a=b c=d }", "pipewire", {"props": "{ a=b c=d }"}),
        ("file,input=", "file", {"input": ""}),
    ],
)
def test_a_spec_is_a_name_and_options(text: str, name: str, options: dict[str, str]) -> None:
    spec = BackendSpec.parse(text)
    assert (spec.name, spec.options) == (name, options)
    assert BackendSpec.parse(str(spec)) == spec


@pytest.mark.parametrize("text", ["null,paced", "null,=x", "null,paced=true,paced=true", "null,"])
def test_a_spec_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BackendError, match="option"):
        BackendSpec.parse(text)


def test_an_unknown_backend_lists_the_available_ones() -> None:
    text = error_of("nul")
    assert "unknown backend 'nul'" in text
    assert all(name in text for name in ("auto", "null", "file", "pipewire"))


def test_an_unknown_option_lists_the_known_ones() -> None:
    text = error_of("file,directory=/tmp")
    assert "no option 'directory'" in text
    assert all(name in text for name in ("dir", "format", "input", "loop"))


def test_a_bad_value_says_what_is_expected() -> None:
    assert error_of("null,paced=maybe") == "backend 'null': option paced=maybe: expected true or false"


def test_the_types_of_options() -> None:
    assert [boolean("x", text) for text in ("true", "YES", "off", "0")] == [True, True, False, False]
    assert number("x", "7", 0, 9) == 7
    for text in ("-1", "10", "x", "", "٣"):
        with pytest.raises(BackendError, match="from 0 to 9"):
            number("x", text, 0, 9)
    with pytest.raises(BackendError, match="expected a or b"):
        choice("x", "c", ("a", "b"))


def test_a_plug_in_is_found_and_gets_its_options(plug_in: Path) -> None:
    (plug_in / "plugin_of_tests.py").write_text(
        "from vsnd_hybrid.backends.null import NullBackend\n"
        "class Good(NullBackend):\n"
        "    name = 'good'\n"
        "    def __init__(self, *, colour='red'):\n"
        "        super().__init__()\n"
        "        self.colour = colour\n"
        "Odd = 42\n"
    )
    assert {"good", "odd", "gone"} < set(registry.available())
    assert vars(registry.create("good,colour=blue"))["colour"] == "blue"
    assert "is not a subclass" in error_of("odd")
    assert "'gone' cannot be loaded from plugin_of_tests_gone:Gone: No module named" in error_of("gone")


def test_a_plug_in_that_fails_is_one_line(plug_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: NullBackend, *, paced: str = "true") -> None:
        raise RuntimeError("out of\norder")

    monkeypatch.setattr(NullBackend, "__init__", fail)
    assert error_of("null") == "backend 'null' failed: RuntimeError: out of order"


def test_auto_takes_the_first_that_answers_and_says_why_not_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("PIPEWIRE_RUNTIME_DIR", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("PIPEWIRE_REMOTE", raising=False)
    with caplog.at_level(logging.INFO):
        backend = registry.create("auto")
    assert isinstance(backend, NullBackend)
    told = " ".join(record.message for record in caplog.records)
    assert "not pipewire" in told
    assert "backend auto: null" in told


def test_auto_names_only_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Backend, **options: str) -> None:
        raise EngineUnavailable("not here")

    monkeypatch.setattr(NullBackend, "__init__", refuse)
    monkeypatch.setattr(PipeWireBackend, "__init__", refuse)
    assert error_of("auto") == "backend 'auto': none of pipewire, null answers"


def test_streams_may_set_what_their_backend_declares_and_anything_where_it_declares_nothing(plug_in: Path) -> None:
    (plug_in / "plugin_of_tests.py").write_text(
        "from vsnd_hybrid.backends.base import Backend\nclass Good(Backend):\n    name = 'good'\n"
    )
    wanted = frozenset({"target", "colour"})
    assert registry.known_to_streams(BackendSpec("good"), wanted) == wanted
    assert registry.known_to_streams(BackendSpec("null"), wanted) == frozenset()
    assert registry.known_to_streams(BackendSpec("auto"), wanted) == {"target", "latency", "props"}


def test_auto_lets_streams_set_anything_where_a_backend_of_others_may_be_chosen(plug_in: Path) -> None:
    (plug_in / "plugin_of_tests-1.dist-info" / "entry_points.txt").write_text(
        f"[{registry.GROUP}]\njack = nowhere:Jack\n"
    )
    assert "colour" in registry.known_to_streams(BackendSpec("auto"), frozenset({"colour"}))


def test_auto_has_no_options() -> None:
    assert "has no options" in error_of("auto,paced=false")


def test_an_engine_that_is_not_installed_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "SONAME", "libpipewire-of-nobody.so.0")
    library.opened.cache_clear()
    library.load.cache_clear()
    with pytest.raises(EngineUnavailable, match="PipeWire is not installed: there is no libpipewire-of-nobody"):
        registry.create("pipewire")
    library.opened.cache_clear()
    library.load.cache_clear()
