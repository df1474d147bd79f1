"""The sandbox, by trying what must fail inside of a running daemon that plays, and by using what must not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from vsnd_hybrid.guest import VirtualGuest

from tests.conftest import DaemonFactory
from tests.daemon import Daemon, executable
from tests.guests import audio
from tests.processes import await_until, threads
from tests.sessions.pipewire import TAIL_FRAMES, PipeWireSession, Recording, heard_of, unless_late

FRAMES = 48_000

#: What becomes of a spy's attempts inside of the walls.
WALLED = {
    "read /etc/passwd": "EACCES",
    "list /": "EACCES",
    "read outside": "EACCES",
    "write outside": "EACCES",
    "change outside": "EACCES",
    "remove outside": "EACCES",
    "truncate outside": "EACCES",
    "start a program": "EPERM",
    "execve": "EPERM",
    "internet socket": "EPERM",
    "packet socket": "EPERM",
    "local socket": "EPERM",
    "signal another": "EPERM",
    "writable code": "EPERM",
    "change a mode": "EPERM",
    "unknown call": "ENOSYS",
    "write inside": "done",
    "import later": "done",
    "import a package later": "done",
    "signal itself": "done",
    "random": "done",
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that no backend declares, with a secret and things to be destroyed."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "secret").write_text("secret")
    for thread in ("early", "late"):
        (directory / f"prey-{thread}").touch()
    return directory


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """The directory of the file backend."""
    directory = tmp_path / "inside"
    directory.mkdir()
    return directory


def attempts(inside: Path) -> dict[str, dict[str, str]]:
    """What the spy reports, when it does."""
    report = inside / "attempts.json"
    await_until(report.exists, 20, "the spy's report")
    found: dict[str, dict[str, str]] = json.loads(report.read_text())
    return found


def take(inside: Path, number: int = 1) -> bytes:
    return audio.wav_samples(inside / f"out-0-take-{number:03}.wav")


def whole_take(inside: Path, number: int = 1) -> bool:
    return audio.locate(take(inside, number), FRAMES).holds(FRAMES)


# ---------------------------------------------------------------- what must fail


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_a_daemon_that_plays_cannot_be_used_for_anything_else(
    daemon: DaemonFactory, spy: Mapping[str, str], inside: Path, outside: Path, mode: str
) -> None:
    spec = f"spy,dir={inside},outside={outside}"
    served = daemon("--backend", spec, "--sandbox", mode, "--log-level", "info", environment=spy)
    with VirtualGuest(served.socket) as guest:
        assert guest.play(audio.numbered(FRAMES)).ok
        found = attempts(inside)
    assert found["early"] == WALLED, "a thread from before the walls"
    assert found["late"] == WALLED
    assert (outside / "secret").read_text() == "secret"
    assert not (outside / "new").exists()
    await_until(partial(whole_take, inside), 10, "every frame of the take")
    assert "sandbox: files and system calls are restricted" in served.log()


def test_nor_can_one_that_plays_into_nothing(
    daemon: DaemonFactory, spy: Mapping[str, str], inside: Path, outside: Path
) -> None:
    served = daemon("--backend", f"spy-null,dir={inside},outside={outside}", "--sandbox", "strict", environment=spy)
    with VirtualGuest(served.socket) as guest:
        assert guest.play(audio.numbered(FRAMES)).ok
        assert attempts(inside) == {"early": WALLED, "late": WALLED}


def plays_whole(guest: VirtualGuest, _: Recording) -> None:
    assert guest.play(audio.numbered(FRAMES), period_frames=1024).ok


def test_nor_can_one_that_plays_through_pipewire(
    daemon: DaemonFactory, spy: Mapping[str, str], inside: Path, outside: Path, pipewire: PipeWireSession
) -> None:
    environment = dict(pipewire.environment) | {"PYTHONPATH": spy["PYTHONPATH"]}
    spec = f"spy-pipewire,dir={inside},outside={outside}"
    served = daemon("--backend", spec, "--sandbox", "strict", environment=environment)
    with VirtualGuest(served.socket) as guest:
        heard = heard_of(pipewire, partial(plays_whole, guest), FRAMES)
        # It connects to its server again when that was restarted; nothing else is let through.
        walled = WALLED | {"local socket": "done"}
        assert attempts(inside) == {"early": walled, "late": walled}
        assert heard.holds(FRAMES), heard


def test_the_same_attempts_succeed_without_walls(
    daemon: DaemonFactory, spy: Mapping[str, str], inside: Path, outside: Path
) -> None:
    spec = f"spy,dir={inside},outside={outside}"
    served = daemon("--backend", spec, "--sandbox", "none", environment=spy)
    with VirtualGuest(served.socket) as guest:
        assert guest.play(audio.numbered(FRAMES)).ok
        free = dict.fromkeys(WALLED, "done") | {"unknown call": "ENOSYS"}
        assert attempts(inside) == {"early": free, "late": free}


def test_who_touches_another_process_is_killed(spy: Mapping[str, str], inside: Path, outside: Path) -> None:
    spec = f"spy,dir={inside},outside={outside},deadly=yes"
    served = Daemon("--backend", spec, "--sandbox", "strict", environment=spy)
    try:
        served.start()
        with VirtualGuest(served.socket) as guest, guest.playing():
            assert served.process.wait() == -signal.SIGSYS
    finally:
        served.close()


def test_its_limits_and_privileges(daemon: DaemonFactory) -> None:
    served = daemon("--backend", "null", "--sandbox", "strict")
    limits = Path(f"/proc/{served.pid}/limits").read_text().splitlines()
    assert next(line for line in limits if line.startswith("Max core file size")).split()[-3:] == ["0", "0", "bytes"]
    soft, hard = next(line for line in limits if line.startswith("Max open files")).split()[3:5]
    assert soft == hard
    assert int(hard) <= 1024
    for thread in threads(served.pid):
        assert thread["Seccomp"] == "2", thread["Name"]
        assert thread["NoNewPrivs"] == "1", thread["Name"]


# ---------------------------------------------------------------- what must go on working


def test_takes_and_captures_are_whole_inside(daemon: DaemonFactory, inside: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.wav"
    source.write_bytes(audio.wav(audio.numbered(FRAMES)))
    served = daemon("--backend", f"file,dir={inside},input={source}", "--sandbox", "strict")
    for number in (1, 2):
        with VirtualGuest(served.socket) as guest:
            assert guest.play(audio.numbered(FRAMES)).ok
            recorded = guest.record(frames=FRAMES + 4800, period_frames=1024, periods=16)
            assert audio.locate(recorded.data, FRAMES).holds(FRAMES)
        await_until(partial(whole_take, inside, number), 10, "the take")


def test_flac_is_written_and_read_inside(daemon: DaemonFactory, inside: Path, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    source = tmp_path / "in.flac"
    samples = np.frombuffer(audio.numbered(4800), np.int16).reshape(-1, 2)
    soundfile.write(source, samples, 48000, subtype="PCM_16")
    served = daemon("--backend", f"file,dir={inside},input={source},format=flac", "--sandbox", "strict")
    with VirtualGuest(served.socket) as guest:
        assert guest.play(audio.numbered(FRAMES)).ok
        recorded = guest.record(frames=9600, period_frames=1024, periods=16)
        assert audio.locate(recorded.data, 4800).holds(4800)
    written = inside / "out-0-take-001.flac"
    await_until(lambda: soundfile.info(written).frames >= FRAMES, 10, "the take")


def test_pipewire_is_heard_inside_also_when_its_server_was_restarted(
    daemon: DaemonFactory, pipewire: PipeWireSession
) -> None:
    arguments = ["--backend", "pipewire", "--sandbox", "strict", "--log-level", "info"]
    served = daemon(*arguments, environment=pipewire.environment)
    with VirtualGuest(served.socket) as guest:
        heard = heard_of(pipewire, partial(plays_whole, guest), FRAMES)
        assert heard.holds(FRAMES), heard
        with guest.playing(period_frames=1024, stall=30) as run:
            assert run.wait_messages(20)
            pipewire.stop()
            served.process.await_log("PipeWire is gone")
            pipewire.start()
            served.process.await_log("on PipeWire again", 30)
        heard = heard_of(pipewire, partial(plays_whole, guest), FRAMES)
        assert heard.holds(FRAMES), heard


def test_pipewire_is_recorded_inside(daemon: DaemonFactory, pipewire: PipeWireSession) -> None:
    served = daemon("--backend", "pipewire", "--sandbox", "strict", environment=pipewire.environment)
    with VirtualGuest(served.socket) as guest:

        def hear() -> tuple[audio.Heard, bool]:
            run = guest.start_record(period_frames=1024, periods=8)
            assert run.wait_messages(4)
            pause = audio.silence(TAIL_FRAMES)
            speech = pipewire.speak(pause + audio.numbered(FRAMES) + pause)
            speech.wait()
            recorded = run.stop()
            return audio.locate(recorded.data + recorded.tail, FRAMES), speech.whole

        heard = unless_late(hear, FRAMES)
    assert heard.holds(FRAMES), heard


def test_the_real_time_thread_of_pipewire_is_one_inside_too(daemon: DaemonFactory, pipewire: PipeWireSession) -> None:
    def policies(mode: str) -> set[int]:
        served = daemon("--backend", "pipewire", "--sandbox", mode, environment=pipewire.environment)
        with VirtualGuest(served.socket) as guest, guest.playing(period_frames=1024) as run:
            assert run.wait_messages(20)
            return {os.sched_getscheduler(int(task.name)) for task in Path(f"/proc/{served.pid}/task").iterdir()}

    assert policies("strict") == policies("none")


# ---------------------------------------------------------------- hosts that have less

#: A process for which landlock_create_ruleset (444 everywhere) is ENOSYS becomes the daemon.
WITHOUT_LANDLOCK = """
import ctypes, os, struct, sys
steps = (0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7fff0000)
filter = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("H6xP", len(steps), ctypes.addressof(filter)))
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, program) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def without_landlock(*arguments: str) -> list[str]:
    return [sys.executable, "-c", WITHOUT_LANDLOCK, executable(), "run", *arguments]


def test_strict_does_not_start_where_a_wall_is_missing() -> None:
    door, monitor = socket.socketpair()
    with door, monitor:
        arguments = ["--fd", str(door.fileno()), "--backend", "null", "--sandbox", "strict"]
        done = subprocess.run(
            without_landlock(*arguments),
            capture_output=True,
            text=True,
            timeout=30,
            pass_fds=[door.fileno()],
            check=False,
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("vsnd-hybrid: --sandbox=strict: no wall around files: ")
    assert line.endswith("--sandbox=auto starts without it")


def test_auto_takes_what_there_is_and_says_what_is_not(run_dir: Path, tmp_path: Path) -> None:
    path = run_dir / "snd.sock"
    with socket.socket(socket.AF_UNIX) as door, (tmp_path / "log").open("wb") as log:
        door.bind(str(path))
        door.listen()
        arguments = ["--fd", str(door.fileno()), "--backend", "null", "--log-level", "info"]
        child = subprocess.Popen(without_landlock(*arguments), stderr=log, pass_fds=[door.fileno()])
        try:
            with VirtualGuest(path, connect_timeout=20) as guest:
                assert guest.play(audio.numbered(4800)).ok
            child.terminate()
            assert child.wait(10) == 0
        finally:
            child.kill()
            child.wait()
    told = [line for line in (tmp_path / "log").read_text().splitlines() if "sandbox" in line]
    assert len(told) == 1
    assert "without walls around files (this kernel has no Landlock, or it is off)" in told[0]


# ---------------------------------------------------------------- what each permit lets through

PERMITTED = """
import json, mmap, os, socket, subprocess, sys, threading, fcntl, termios, resource
from vsnd_hybrid import _core
permits = json.loads(sys.argv[1])
terminal, _ = os.openpty()
_core.no_new_privileges()
_core.restrict_calls(permits)
attempts = {
    "local-sockets": lambda: socket.socket(socket.AF_UNIX).connect_ex("/none"),
    "network": lambda: socket.socket(socket.AF_INET).bind(("127.0.0.1", 0)),
    "real-time": lambda: (os.setpriority(os.PRIO_PROCESS, 0, 1), resource.setrlimit(resource.RLIMIT_CORE, (0, 0))),
    "devices": lambda: fcntl.ioctl(terminal, termios.TIOCOUTQ, bytes(4)),
    "processes": lambda: subprocess.run(["/bin/true"], check=True),
    "executable-memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
}
def possible(attempt):
    try:
        attempt()
    except PermissionError:
        return False
    return True
thread = threading.Thread(target=lambda: None)
thread.start()
thread.join()
print(json.dumps([name for name, attempt in attempts.items() if possible(attempt)]))
"""

PERMITS = ["local-sockets", "network", "real-time", "devices", "processes", "executable-memory"]


@pytest.mark.parametrize(
    "permits", [[], *([permit] for permit in PERMITS), PERMITS], ids=lambda p: "+".join(p) or "none"
)
def test_a_permit_lets_through_what_it_names_and_no_more(permits: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PERMITTED, json.dumps(permits)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == permits


def test_a_program_that_the_command_backend_starts_runs_inside(
    daemon: DaemonFactory, spy: Mapping[str, str], tmp_path: Path
) -> None:
    """`base.EVERYTHING` is enough for whatever a user has a backend do."""
    site = Path(spy["PYTHONPATH"])
    example = Path(__file__).parents[2] / "examples" / "custom_backend" / "vsnd_command.py"
    (site / "vsnd_command.py").write_text(example.read_text())
    (site / "vsnd_spy-1.0.dist-info" / "entry_points.txt").write_text(
        "[vsnd_hybrid.backends]\ncommand = vsnd_command:CommandBackend\n"
    )
    heard = tmp_path / "heard.raw"
    served = daemon("--backend", f"command,run=cat > {heard}", "--sandbox", "strict", environment=spy)
    with VirtualGuest(served.socket) as guest:
        assert guest.play(audio.numbered(FRAMES)).ok
    await_until(
        lambda: heard.exists() and audio.locate(heard.read_bytes(), FRAMES).holds(FRAMES), 10, "what the command heard"
    )
