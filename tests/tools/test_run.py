"""`vsnd-hybrid run`: how it starts, what it says when it cannot, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from vsnd_hybrid.guest import VirtualGuest

from tests.daemon import executable, listening
from tests.processes import Process, await_until

Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `vsnd-hybrid run` with these arguments; every process is ended with the test."""
    running: list[Process] = []

    def run(*arguments: str) -> Process:
        running.append(Process([executable(), "run", *arguments], tmp_path / f"log-{len(running)}"))
        return running[-1]

    yield run
    for process in running:
        process.close()


@pytest.fixture
def path(run_dir: Path) -> Path:
    return run_dir / "snd.sock"


def await_socket(process: Process, path: Path) -> None:
    """Wait until the daemon accepts connections."""
    await_until(lambda: listening(path) or not process.running, 10, f"{path} to accept")
    assert process.running, process.log()


def refused(*arguments: str, fds: tuple[int, ...] = (), status: int = 1) -> str:
    """Run the command, which must end with `status` and one line; returns that line."""
    done = subprocess.run(
        [executable(), "run", *arguments], capture_output=True, text=True, timeout=30, pass_fds=fds, check=False
    )
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    line, *more = done.stderr.splitlines()
    assert not more
    assert line.startswith("vsnd-hybrid: ")
    return line.removeprefix("vsnd-hybrid: ")


# ---------------------------------------------------------------- start and end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0_and_removes_the_socket(
    start: Start, path: Path, number: signal.Signals
) -> None:
    daemon = start("--socket-path", str(path), "--backend", "null")
    await_socket(daemon, path)
    daemon.signal(number)
    assert daemon.wait() == 0
    assert daemon.log() == ""
    assert not path.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_while_a_stream_plays(start: Start, path: Path, number: signal.Signals) -> None:
    daemon = start("--socket-path", str(path), "--backend", "null")
    await_socket(daemon, path)
    with VirtualGuest(path) as guest, guest.playing():
        daemon.signal(number)
        assert daemon.wait() == 0
    assert not path.exists()


def test_front_ends_are_served_one_after_the_other_and_the_socket_stays(start: Start, path: Path) -> None:
    daemon = start("--socket-path", str(path), "--backend", "null", "--outputs", "2", "--inputs", "1")
    await_socket(daemon, path)
    for _ in range(3):
        with VirtualGuest(path) as guest:
            assert len(guest.streams) == 3
        assert path.is_socket()
    assert daemon.running


def test_a_dead_daemon_s_socket_is_replaced(start: Start, path: Path) -> None:
    first = start("--socket-path", str(path), "--backend", "null")
    await_socket(first, path)
    first.kill()
    assert path.is_socket()
    await_socket(start("--socket-path", str(path), "--backend", "null"), path)


def test_a_socket_that_somebody_else_put_there_meanwhile_stays(start: Start, path: Path) -> None:
    daemon = start("--socket-path", str(path), "--backend", "null")
    await_socket(daemon, path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert path.is_socket()


def test_a_listening_descriptor_is_served(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        arguments = ["run", "--fd", str(listening.fileno()), "--backend", "null"]
        daemon = subprocess.Popen([executable(), *arguments], pass_fds=[listening.fileno()])
        try:
            for _ in range(2):
                with VirtualGuest(path) as guest:
                    assert len(guest.streams) == 2
            daemon.terminate()
            assert daemon.wait(10) == 0
        finally:
            daemon.kill()
            daemon.wait()
    assert path.is_socket(), "who made the socket removes it"


def test_a_connected_descriptor_is_served_until_it_closes() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            arguments = ["run", "--fd", str(theirs.fileno()), "--backend", "null"]
            daemon = subprocess.Popen([executable(), *arguments], pass_fds=[theirs.fileno()])
        try:
            get_features = (1).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(4)
            ours.sendall(get_features)
            assert ours.recv(20)[8:12] == (8).to_bytes(4, "little")
            ours.close()
            assert daemon.wait(10) == 0
        finally:
            daemon.kill()
            daemon.wait()


def test_a_file_is_obeyed_and_the_command_line_goes_before_it(start: Start, path: Path, tmp_path: Path) -> None:
    file = tmp_path / "vsnd.toml"
    file.write_text(f'socket-path = "{path}.other"\nbackend = "null"\noutputs = 3\ninputs = 0\n')
    await_socket(start("--config", str(file), "--socket-path", str(path), "--inputs", "1"), path)
    with VirtualGuest(path) as guest:
        assert len(guest.streams) == 4


def test_at_level_info_a_front_end_is_one_line(start: Start, path: Path) -> None:
    daemon = start("--socket-path", str(path), "--backend", "null", "--log-level", "info")
    await_socket(daemon, path)
    with VirtualGuest(path):
        daemon.await_log("connected")
    assert all(line.startswith("info vsnd_hybrid.") for line in daemon.log().splitlines())


def test_it_tells_what_it_is_in_qemu_s_form() -> None:
    done = subprocess.run([executable(), "run", "--print-capabilities"], capture_output=True, check=True, timeout=30)
    assert json.loads(done.stdout) == {"type": "sound"}
    assert done.stderr == b""


# ---------------------------------------------------------------- what it says when it cannot start


def test_no_socket_at_all() -> None:
    assert "--socket-path PATH" in refused()


def test_two_sockets(path: Path) -> None:
    assert "both given" in refused("--socket-path", str(path), "--fd", "0")


def test_a_living_daemon_s_socket(start: Start, path: Path) -> None:
    await_socket(start("--socket-path", str(path), "--backend", "null"), path)
    assert refused("--socket-path", str(path), "--backend", "null") == (
        f"{path} is in use by a living daemon; stop it or choose another path"
    )
    assert listening(path)


def test_an_unknown_backend_lists_those_that_are_there(path: Path) -> None:
    line = refused("--socket-path", str(path), "--backend", "tape")
    assert "'tape'" in line
    assert all(name in line for name in ("auto", "file", "null", "pipewire"))


def test_an_unknown_backend_option_lists_those_that_are_there(path: Path) -> None:
    line = refused("--socket-path", str(path), "--backend", "null,pased=false")
    assert "'pased'" in line
    assert "paced" in line.replace("pased", "")


def test_an_option_that_is_no_option(path: Path) -> None:
    assert "key=value" in refused("--socket-path", str(path), "--backend", "file,dir")


def test_an_engine_that_does_not_answer(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PIPEWIRE_RUNTIME_DIR", str(tmp_path))
    assert "pipewire" in refused("--socket-path", str(path), "--backend", "pipewire").lower()
    assert not path.exists()


def test_a_wrong_configuration(tmp_path: Path) -> None:
    file = tmp_path / "vsnd.toml"
    file.write_text('# a guest\n[[stream]]\ndirection = "out"\n')
    assert refused("--config", str(file)) == f'{file}:3: direction is "out"; allowed: "output" or "input"'


def test_a_stream_that_the_engine_cannot_do(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "vsnd.toml"
    file.write_text('backend = "null"\n[[stream]]\ndirection = "output"\nformats = ["DSD_U8"]\n')
    line = refused("--config", str(file), "--socket-path", str(path))
    assert "DSD_U8" in line
    assert "S16" in line


def test_a_device_without_streams(path: Path) -> None:
    line = refused("--socket-path", str(path), "--backend", "null", "--outputs", "0", "--inputs", "0")
    assert "at least one stream" in line


def test_a_path_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    assert "at most 107" in refused("--socket-path", str(tmp_path / ("x" * 108)))


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert f"no directory {tmp_path}/none" in refused("--socket-path", str(tmp_path / "none" / "snd.sock"))


def test_a_file_that_is_no_socket(path: Path) -> None:
    path.write_text("precious")
    assert "is no socket" in refused("--socket-path", str(path))
    assert path.read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_one_may_not_write_in(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert "Permission denied" in refused("--socket-path", str(closed / "snd.sock"), "--backend", "null")


def test_a_descriptor_that_is_not_open() -> None:
    assert "--fd 977: not an open descriptor" in refused("--fd", "977")


def test_a_socket_that_nobody_can_come_in_by(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unused:
        for _ in range(2):
            assert "neither a listening nor a connected socket" in refused(
                "--fd", str(unused.fileno()), fds=(unused.fileno(),)
            )
            if not path.exists():
                unused.bind(str(path))


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        (("--outputs", "-1"), "--outputs is -1; allowed: a number from 0 to 32", 1),
        (("--inputs=33",), "--inputs is 33; allowed: a number from 0 to 32", 1),
        (("--rt-priority", "-1"), "--rt-priority is -1; allowed: a number from 0", 1),
        (("--outputs", "9" * 5000), "is not a whole number", 2),
        (("--outputs", "two"), "'two' is not a whole number", 2),
    ],
)
def test_a_number_that_is_not_allowed(path: Path, arguments: tuple[str, ...], said: str, status: int) -> None:
    assert said in refused("--socket-path", str(path), *arguments, status=status)


def test_a_descriptor_that_is_no_socket(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert "not a socket" in refused("--fd", str(file.fileno()), fds=(file.fileno(),))


def test_a_descriptor_of_another_kind_of_socket() -> None:
    with socket.socket(socket.AF_INET) as other:
        assert "not a Unix stream socket" in refused("--fd", str(other.fileno()), fds=(other.fileno(),))


def test_an_unknown_option_is_a_wrong_command() -> None:
    assert "--sockets" in refused("--sockets", "/tmp/x", status=2)
