"""`vsnd-hybrid serve`: many guests, each in a process of its own that is forked when its front end comes."""

from __future__ import annotations

import errno
import json
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from vsnd_hybrid.guest import VirtualGuest
from vsnd_hybrid.service.stale import sweep

from tests.daemon import executable, listening
from tests.guests import audio
from tests.processes import Process, await_until

FRAMES = 48_000
GUESTS = tuple(f"phone{number:02}" for number in range(16))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


class Serving:
    """A running `serve`, its sockets and takes in a directory of its own."""

    def __init__(self, directory: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.directory = directory
        command = [executable(), "serve", "--socket-dir", str(directory), "--log-level", "info", *arguments]
        self.process = Process(command, directory / "log", environment, prefer=True)
        control = directory / "control.sock"
        await_until(lambda: listening(control) or not self.process.running, 20, "the control socket")
        assert self.process.running, self.log()

    def log(self) -> str:
        return self.process.log()

    def path(self, name: str) -> Path:
        return self.directory / f"{name}.sock"

    def take(self, name: str) -> Path:
        return self.directory / name / "out-0-take-001.wav"

    def guests(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        verb, *rest = arguments
        command = [executable(), "guests", verb, "--socket-dir", str(self.directory), *rest]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    def processes(self) -> dict[str, int | None]:
        """The process of each guest, by name."""
        done = self.guests("list")
        assert done.returncode == 0, done.stderr
        rows = [line.split("\t") for line in done.stdout.splitlines()]
        return {name: None if pid == "-" else int(pid) for name, _, pid in rows}

    def process_of(self, name: str) -> int:
        pid = self.processes()[name]
        assert pid is not None, self.log()
        return pid


Serve = Callable[..., Serving]


@pytest.fixture
def serve(run_dir: Path) -> Iterator[Serve]:
    """Start it: ``serve("a", "b", backend="null")`` serves the guests a and b."""
    with ExitStack() as stack:

        def start(*names: str, backend: str = "null", more: tuple[str, ...] = ()) -> Serving:
            named = [argument for name in names for argument in ("--guest", name)]
            serving = Serving(run_dir, "--backend", backend, *named, *more)
            stack.callback(serving.process.close)
            return serving

        yield start


def playing_into_files(serve: Serve, run_dir: Path, names: tuple[str, ...]) -> Serving:
    for name in names:
        (run_dir / name).mkdir()
    serving = serve(*names, backend=f"file,dir={run_dir}/{{name}}")
    await_until(lambda: all(listening(serving.path(name)) for name in names), 20, "the sockets")
    return serving


def finished(serving: Serving, name: str) -> Path:
    """The guest's take, once its process has closed it."""
    pid = serving.process_of(name)

    def closed() -> bool:
        return all(
            os.readlink(entry) != str(serving.take(name))
            for entry in Path(f"/proc/{pid}/fd").iterdir()
            if entry.is_symlink()
        )

    await_until(closed, 10, f"the take of {name} to be finished")
    return serving.take(name)


def dead_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as unused:
        unused.bind(str(path))
    return path


def test_sockets_that_a_killed_server_left_are_removed_and_nothing_else_is(serve: Serve, run_dir: Path) -> None:
    first = serve("stays", "goes", "played")
    with VirtualGuest(first.path("played")) as guest, guest.playing():
        first.process.kill()
    assert first.path("goes").is_socket()
    foreign = [run_dir / "notes.sock", run_dir / "no guest.sock", run_dir / "other.socket", run_dir / "link.sock"]
    foreign[0].write_text("precious")
    dead_socket(foreign[1])
    dead_socket(foreign[2])
    foreign[3].symlink_to(foreign[2])
    other_s = dead_socket(run_dir / "other-user-s.sock")
    if os.geteuid() == 0:
        os.chown(other_s, 65534, 65534)
    with socket.socket(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX) as living:
        bound.bind(str(run_dir / "bound.sock"))
        living.bind(str(run_dir / "living.sock"))
        living.listen()
        second = serve("stays")
        await_until(
            lambda: not (second.path("goes").exists() or second.path("played").exists()), 10, "an empty directory"
        )
        assert listening(second.path("stays"))
        assert second.path("bound").is_socket()
        assert listening(second.path("living"))
        living.settimeout(0)
        with pytest.raises(BlockingIOError):
            living.accept()  # it was not even connected to
    assert all(path.exists() for path in foreign)
    assert other_s.is_socket() == (os.geteuid() == 0)
    second.process.signal(signal.SIGTERM)
    assert second.process.wait() == 0


def test_what_cannot_be_removed_is_told(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    path = dead_socket(run_dir / "phone.sock")
    monkeypatch.setattr(os, "unlink", refuse)
    assert not sweep(str(run_dir), ())
    assert f"{path} was left by a 'serve' that was killed, and stays: Operation not permitted" in caplog.text


def test_sixteen_guests_play_at_once_and_each_is_heard_whole_in_its_own_place(serve: Serve, run_dir: Path) -> None:
    serving = playing_into_files(serve, run_dir, GUESTS)
    with ExitStack() as stack:
        guests = [stack.enter_context(VirtualGuest(serving.path(name))) for name in GUESTS]
        runs = [guest.start_play(audio.numbered(FRAMES), period_frames=1024) for guest in guests]
        assert all(run.wait().ok for run in runs)
        for name in GUESTS:
            assert audio.locate(audio.wav_samples(finished(serving, name)), FRAMES).holds(FRAMES), name
        assert len(set(serving.processes().values())) == len(GUESTS)


def test_a_guest_whose_process_is_killed_harms_nobody_and_is_served_again(serve: Serve, run_dir: Path) -> None:
    serving = playing_into_files(serve, run_dir, ("one", "two"))
    with VirtualGuest(serving.path("two")) as other:
        run = other.start_play(audio.numbered(FRAMES), period_frames=1024)
        with VirtualGuest(serving.path("one")) as guest, guest.playing(period_frames=1024) as doomed:
            assert doomed.wait_messages(4)
            os.kill(serving.process_of("one"), signal.SIGKILL)
            assert guest.driver.wait_closed(5), "its front end notices at once"
        with VirtualGuest(serving.path("one")) as guest:
            assert guest.play(audio.numbered(FRAMES), period_frames=1024).ok
        assert run.wait().ok
        assert audio.locate(audio.wav_samples(finished(serving, "two")), FRAMES).holds(FRAMES)
    serving.process.await_log("guest one: its process was killed by SIGKILL; its socket is served again")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_in_order_and_leaves_nothing(serve: Serve, number: signal.Signals) -> None:
    serving = serve("one", "two", "idle")
    with ExitStack() as stack:
        guests = [stack.enter_context(VirtualGuest(serving.path(name))) for name in ("one", "two")]
        for guest in guests:
            stack.enter_context(guest.playing())
        pids = children(serving.process.pid)
        assert len(pids) == 2, "a guest without a front end has no process"
        serving.process.signal(number)
        assert serving.process.wait() == 0
        assert not any(map(alive, pids))
        assert list(serving.directory.glob("*.sock")) == []
        assert all(guest.driver.wait_closed(5) for guest in guests)


def test_the_guests_end_when_the_supervisor_is_killed(serve: Serve) -> None:
    serving = serve("one", "two")
    with VirtualGuest(serving.path("one")) as one, VirtualGuest(serving.path("two")) as two, two.playing():
        pids = children(serving.process.pid)
        serving.process.kill()
        assert one.driver.wait_closed(5)
        assert two.driver.wait_closed(5)
        await_until(lambda: not any(map(alive, pids)), 10, "the guests' processes to end")


def test_a_guest_s_process_has_no_descriptor_of_another_guest(serve: Serve) -> None:
    serving = serve("one", "two", "three")
    with VirtualGuest(serving.path("one")), VirtualGuest(serving.path("two")):
        # By the number of each socket: what is listening at a path belongs to this guest's process alone.
        unix = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
        where = {fields[7]: fields[6] for fields in unix if len(fields) > 7 and fields[3] == "00010000"}
        number = {name: where[str(serving.path(name))] for name in ("one", "two", "three", "control")}
        for name in ("one", "two"):
            links = [os.readlink(link) for link in Path(f"/proc/{serving.process_of(name)}/fd").iterdir()]
            held = {other for other, inode in number.items() if f"socket:[{inode}]" in links}
            assert held == {name}


def test_guests_come_and_go_while_it_runs(serve: Serve) -> None:
    serving = serve("first")
    added = serving.guests("add", "second")
    assert added.stdout == f"{serving.path('second')}\n"
    with VirtualGuest(serving.path("second")) as guest:
        pid = serving.process_of("second")
        assert serving.processes() == {"first": None, "second": pid}
        assert serving.guests("remove", "second").returncode == 0
        assert not alive(pid)
        assert guest.driver.wait_closed(5)
    assert not serving.path("second").exists()
    assert serving.processes() == {"first": None}
    assert serving.guests("add", "second").returncode == 0, "the name is free again"


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (("add", "first"), "guest 'first' is served already"),
        (("add", "../etc"), "a name has"),
        (("add", "control"), "choose another"),
        (("add", "x" * 65), "a name has"),
        (("remove", "nobody"), "there is no guest 'nobody'; it has: first"),
    ],
)
def test_what_cannot_be_done_is_one_line(serve: Serve, request_: tuple[str, ...], answer: str) -> None:
    serving = serve("first")
    done = serving.guests(*request_)
    assert done.returncode == 1
    assert answer in done.stderr
    assert done.stderr.count("\n") == 1


def test_other_lines_on_the_control_socket_are_answered_and_change_nothing(serve: Serve) -> None:
    serving = serve("first")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(serving.directory / "control.sock"))
        client.sendall(b"dance\nlist all\n\nlist\n")
        with client.makefile("r") as answers:
            for _ in range(3):
                assert answers.readline().startswith("error ")
            word, _, rest = answers.readline().partition(" ")
            assert word == "ok"
            assert [guest["name"] for guest in json.loads(rest)] == ["first"]
        client.sendall(b"x" * 8192)
        assert client.recv(1) == b"", "nobody reads a line without an end for ever"
    assert serving.processes() == {"first": None}


def test_an_engine_that_is_not_there_is_reported_by_guest_and_tried_again(serve: Serve) -> None:
    serving = serve("first", backend="pipewire,remote=vsnd-{name}-nowhere")
    with socket.socket(socket.AF_UNIX) as front_end:
        front_end.connect(str(serving.path("first")))
        serving.process.await_log("guest first: its process ended with status 1; its socket is served again in 0.1 s")
        serving.process.await_log("served again in 0.2 s", 20)
    assert "error first: " in serving.log()
    assert "vsnd-first-nowhere" in serving.log()
    assert serving.guests("remove", "first").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_each_guest_s_process_is_its_user_s_and_ends_with_the_supervisor_all_the_same(serve: Serve) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    serving = serve("nobody", more=("--user", "{name}"))
    with VirtualGuest(serving.path("nobody")) as guest:
        pid = serving.process_of("nobody")
        assert Path(f"/proc/{pid}").stat().st_uid == nobody
        assert Path(f"/proc/{pid}/comm").read_text() == "vsnd nobody\n"
        serving.process.kill()
        assert guest.driver.wait_closed(5)
        await_until(lambda: not alive(pid), 10, "the guest's process to end")


def test_the_service_manager_hears_of_the_supervisor_alone(run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(run_dir / "notify"))
        environment = os.environ | {"NOTIFY_SOCKET": str(run_dir / "notify")}
        with Serving(run_dir, "--guest", "one", "--backend", "null", environment=environment).process as process:
            assert manager.recv(4096).decode().splitlines()[0] == "READY=1"
            with VirtualGuest(run_dir / "one.sock"):
                process.signal(signal.SIGTERM)
                assert process.wait() == 0
            assert manager.recv(4096).decode().splitlines()[0] == "STOPPING=1"
            manager.setblocking(False)
            with pytest.raises(BlockingIOError):
                manager.recv(4096)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--guest", "a", "--guest", "a"), "guest 'a' is served already"),
        (("--guest", "a/b"), "a name has"),
        (("--backend", "nope"), "unknown backend 'nope'"),
        (("--backend", "null,loud=1"), "has no option 'loud'"),
        (("--outputs", "0", "--inputs", "0"), "at least one stream"),
        (("--user", "nobody-of-this-name"), "there is no user"),
        (("--config", "socket.toml"), "serve makes the socket NAME.sock"),
    ],
)
def test_a_mistake_is_one_line_at_the_start(run_dir: Path, arguments: tuple[str, ...], text: str) -> None:
    (run_dir / "socket.toml").write_text('socket-path = "/tmp/one.sock"\n')
    done = subprocess.run(
        [executable(), "serve", "--socket-dir", ".", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=run_dir,
    )
    assert done.returncode == 1
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(run_dir.glob("*.sock")) == []


def test_a_directory_that_is_not_there_is_one_line() -> None:
    command = [executable(), "serve", "--socket-dir", "/nowhere", "--backend", "null"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "there is no directory /nowhere" in done.stderr


def test_asking_where_nobody_serves_is_one_line(run_dir: Path) -> None:
    command = [executable(), "guests", "list", "--socket-dir", str(run_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "nobody serves guests" in done.stderr
