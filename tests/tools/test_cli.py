"""The command line: the plain form that starts without click, help, and wrong commands."""

from __future__ import annotations

import subprocess
import sys

import pytest
from vsnd_hybrid.cli import RUN_OPTIONS, plain

from tests.daemon import executable


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([executable(), *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_the_plain_form_is_pairs_of_names_and_values() -> None:
    arguments = ["--socket-path", "/tmp/a b", "--backend=file,dir=x", "--outputs=2", "--log-level", "info", "--fd", "3"]
    assert plain(arguments, RUN_OPTIONS) == {
        "socket_path": "/tmp/a b",
        "backend": "file,dir=x",
        "outputs": 2,
        "log_level": "info",
        "fd": 3,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--print-capabilities"],
        ["--socket-path"],
        ["--socket", "/tmp/a"],
        ["/tmp/a"],
        ["--outputs", "-1"],
        ["--outputs", "two"],
        ["--log-level", "loud"],
        ["--outputs", "1", "--outputs", "2"],
    ],
)
def test_whatever_is_not_plain_is_left_to_click(arguments: list[str]) -> None:
    assert plain(arguments, RUN_OPTIONS) is None


def test_click_takes_the_same_options_when_the_form_is_not_plain() -> None:
    done = command("run", "--outputs", "0", "--inputs", "1", "--inputs", "0", "--socket-path", "/tmp/x")
    assert done.returncode == 1
    assert "at least one stream" in done.stderr


def test_the_daemon_starts_without_click_and_msgspec() -> None:
    code = (
        "import sys; from vsnd_hybrid.cli import RUN_OPTIONS, plain; import vsnd_hybrid.service.daemon;"
        "print(sorted({'click', 'msgspec', 'numpy', 'tomllib', 'asyncio', 'importlib.metadata'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys; import vsnd_hybrid; print([m for m in sys.modules if m.startswith('vsnd_hybrid.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("option", [option.name for option in RUN_OPTIONS])
def test_help_names_every_option(option: str) -> None:
    done = command("run", "--help")
    assert done.returncode == 0
    assert f"--{option} " in done.stdout


def test_help_lists_every_command() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert {"run", "demo", "bench"} <= set(done.stdout.split())


def test_the_version_is_told() -> None:
    import vsnd_hybrid

    assert command("--version").stdout == f"vsnd-hybrid {vsnd_hybrid.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["rum"], ["run", "--sockets", "x"], ["run", "--log-level", "loud"], ["demo", "x"], ["bench", "x"]]
)
def test_a_wrong_command_is_one_line_and_status_2(arguments: list[str]) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("vsnd-hybrid: ")
    assert "--help" in line
