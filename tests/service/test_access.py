"""Who may connect: the socket's mode and group, the user that the daemon becomes, and what is said about mistakes."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import vsnd_hybrid
from vsnd_hybrid._core import Listener
from vsnd_hybrid.guest import VirtualGuest
from vsnd_hybrid.vhost import Device, running

from tests.conftest import DaemonFactory
from tests.daemon import listening
from tests.guests import audio
from tests.processes import Process, await_until, threads
from tests.tools.test_run import refused

#: "nobody" and "nogroup" nearly everywhere, by number so that they need not be.
NOBODY = 65534
STRANGER = 65533

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

CONNECT = """
import os, socket, sys
uid, gid, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.setgroups([]); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
print(socket.socket(socket.AF_UNIX).connect_ex(path))
"""


def connected_as(uid: int, gid: int, path: Path) -> int:
    """The errno of a connection that somebody else tries; 0 if it succeeds."""
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, str(uid), str(gid), str(path)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# ---------------------------------------------------------------- the socket


def test_without_being_asked_nobody_else_may_connect(daemon: DaemonFactory) -> None:
    served = daemon("--backend", "null")
    assert mode_of(served.socket) == 0o600


@needs_root
def test_another_user_of_the_host_is_turned_away(daemon: DaemonFactory) -> None:
    served = daemon("--backend", "null")
    served.directory.chmod(0o755)
    assert connected_as(NOBODY, NOBODY, served.socket) == errno.EACCES
    with VirtualGuest(served.socket) as guest:
        assert guest.streams


@needs_root
def test_the_group_that_was_named_may_connect_and_strangers_may_not(daemon: DaemonFactory) -> None:
    served = daemon("--backend", "null", "--socket-mode", "0660", "--socket-group", str(NOBODY))
    served.directory.chmod(0o755)
    assert mode_of(served.socket) == 0o660
    assert served.socket.stat().st_gid == NOBODY
    assert connected_as(STRANGER, NOBODY, served.socket) == 0
    assert connected_as(STRANGER, STRANGER, served.socket) == errno.EACCES


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_the_mode_is_the_one_that_was_asked_for_whatever_the_umask(run_dir: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        listener = Listener(run_dir / "s", mode=0o660)
    finally:
        os.umask(before)
    assert mode_of(run_dir / "s") == 0o660
    listener.close()
    listener.close()
    assert not (run_dir / "s").exists()


def test_nobody_can_connect_before_the_mode_is_set(run_dir: Path) -> None:
    """A group that cannot be set ends it between the binding and the listening: what was there has gone again."""
    if os.geteuid() == 0:
        pytest.skip("root may set any group")
    with pytest.raises(PermissionError):
        Listener(run_dir / "s", mode=0o666, group=0)
    assert not (run_dir / "s").exists()


def test_front_ends_wait_at_a_listener_until_it_is_served(run_dir: Path) -> None:
    listener = Listener(run_dir / "s")
    with socket.socket(socket.AF_UNIX) as front_end:
        front_end.connect(str(run_dir / "s"))
        with pytest.raises(OSError, match="in use") as caught:
            Listener(run_dir / "s")
        assert caught.value.errno == errno.EADDRINUSE
        with running(Device(), listener):
            front_end.sendall((1).to_bytes(4, "little") * 2 + bytes(4))
            assert len(front_end.recv(20)) == 20
            listener.close()
            assert listening(run_dir / "s"), "it is the server's now"
        assert not (run_dir / "s").exists()
        with pytest.raises(ValueError, match="served"), running(Device(), listener):
            pass


# ---------------------------------------------------------------- the user


@pytest.fixture
def start_as_anybody(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts the daemon with an interpreter and a copy of the package that every user can read."""
    package = Path("/tmp") / f"vsnd-package-{os.getpid()}"
    shutil.copytree(
        Path(vsnd_hybrid.__file__).parent, package / "vsnd_hybrid", ignore=shutil.ignore_patterns("__pycache__")
    )
    system = Path("/usr/bin/python3")
    python = sys.executable if not sys.base_prefix.startswith("/root") else str(system)
    if not Path(python).exists():
        pytest.skip("there is no interpreter that other users can read")
    running: list[Process] = []

    def start(*arguments: str) -> Process:
        code = "from vsnd_hybrid.cli import main; main()"
        environment = {"PYTHONPATH": str(package), "PATH": "/usr/bin:/bin"}
        running.append(Process([python, "-c", code, "run", *arguments], tmp_path / f"log-{len(running)}", environment))
        return running[-1]

    yield start
    for process in running:
        process.close()
    shutil.rmtree(package)


@needs_root
@pytest.mark.parametrize("mode", ["strict", "none"])
def test_it_becomes_the_user_and_keeps_nothing_of_root(
    start_as_anybody: Callable[..., Process], run_dir: Path, mode: str
) -> None:
    run_dir.chmod(0o755)
    takes = run_dir / "takes"
    takes.mkdir()
    os.chown(takes, NOBODY, NOBODY)
    path = run_dir / "snd.sock"
    served = start_as_anybody(
        *("--socket-path", str(path), "--backend", f"file,dir={takes}"),
        *("--user", f"{NOBODY}:{NOBODY}", "--sandbox", mode),
    )
    await_until(lambda: listening(path) or not served.running, 10, "the socket")
    with VirtualGuest(path) as guest:
        assert guest.play(audio.numbered(48000)).ok
    for status in threads(served.pid):
        assert status["Uid"].split() == [str(NOBODY)] * 4
        assert status["Gid"].split() == [str(NOBODY)] * 4
        assert status["Groups"].split() == []
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[kind], 16) == 0, kind
    (take,) = takes.iterdir()
    assert take.stat().st_uid == NOBODY
    assert path.stat().st_uid == 0, "made where only root may"
    served.close()
    assert served.status == 0, served.log()


@needs_root
def test_what_the_user_may_not_is_said_at_the_start(start_as_anybody: Callable[..., Process], run_dir: Path) -> None:
    run_dir.chmod(0o755)
    served = start_as_anybody(
        *("--socket-path", str(run_dir / "s"), "--backend", f"file,dir={run_dir}", "--user", f"{NOBODY}:{NOBODY}")
    )
    assert served.wait() == 1
    assert served.log() == f"vsnd-hybrid: backend 'file': option dir={run_dir}: no permission to write there\n"
    assert not listening(run_dir / "s")


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--socket-mode", "rw"), "--socket-mode is 'rw'; allowed: octal permissions such as 0660"),
        (("--socket-mode", "1777"), "--socket-mode is '1777'; allowed: octal permissions such as 0660"),
        (
            ("--socket-group", "no-such-group"),
            "--socket-group: there is no group 'no-such-group'; name one that exists",
        ),
        (("--user", "no-such-user"), "--user no-such-user: there is no user 'no-such-user'; name one that exists"),
        (("--user", ""), "--user : there is no user ''; name one that exists"),
        (("--user", ":0"), "there is no user ''; name one that exists"),
        (("--user", "9" * 5000), "name one that exists"),
        (("--socket-group", ""), "--socket-group: there is no group ''; name one that exists"),
        (("--socket-mode", ""), "--socket-mode is ''; allowed: octal permissions such as 0660"),
        (("--config", ""), "--config is empty"),
        (("--backend", ""), "unknown backend ''"),
        (("--backend", "file,dir="), "option dir=: there is no such directory"),
        (("--user", "4000000"), "there is no user '4000000'; name one that exists, or give UID:GROUP"),
        (("--user", "root"), "this is root; name the user whose audio session it shall be"),
        (("--user", "4000000:no-such-group"), "there is no group 'no-such-group'"),
    ],
)
def test_a_mistake_is_one_line(run_dir: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused("--socket-path", str(run_dir / "s"), "--backend", "null", *arguments)


def test_an_empty_user_in_a_file_does_not_mean_root(run_dir: Path) -> None:
    file = run_dir / "vsnd.toml"
    file.write_text('backend = "null"\nuser = ""\n')
    assert "there is no user ''" in refused("--socket-path", str(run_dir / "s"), "--config", str(file))


def test_an_empty_path_of_the_socket_is_a_mistake() -> None:
    assert "socket's path is empty" in refused("--socket-path", "", "--backend", "null")
    assert "both given" in refused("--socket-path", "", "--fd", "0")


def test_the_mode_of_a_socket_that_somebody_else_made_is_theirs() -> None:
    assert "--socket-mode and --socket-group are for --socket-path" in refused("--fd", "0", "--socket-mode", "0660")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('sandbox = "tight"', 'sandbox is "tight"; allowed: "auto", "strict", "none"'),
        ('socket-mode = "rw"', 'socket-mode is "rw"; allowed: a string: octal permissions such as 0660'),
        ("socket-mode = 432", "socket-mode is a whole number; allowed: a string: octal permissions such as 0660"),
        ("user = 7", 'user is a whole number; allowed: a string: "NAME" or "NAME:GROUP"'),
    ],
)
def test_a_mistake_in_a_file_is_one_line_with_its_place(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "vsnd.toml"
    file.write_text(f"# who may connect\n{line}\n")
    assert refused("--config", str(file)) == f"{file}:2: {said}"


def test_the_file_says_it_and_the_command_line_goes_before_it(daemon: DaemonFactory, tmp_path: Path) -> None:
    file = tmp_path / "vsnd.toml"
    file.write_text('backend = "null"\nsandbox = "none"\nsocket-mode = "0666"\n')
    assert mode_of(daemon("--config", str(file)).socket) == 0o666
    served = daemon("--config", str(file), "--socket-mode", "640", "--sandbox", "auto")
    assert mode_of(served.socket) == 0o640
    assert "NoNewPrivs:\t1" in Path(f"/proc/{served.pid}/status").read_text()
