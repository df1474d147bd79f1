"""Real-time priority and locked memory: taken where permitted, refused in one line where asked for and not permitted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from vsnd_hybrid.guest import VirtualGuest

from tests.conftest import DaemonFactory
from tests.daemon import Daemon, executable
from tests.guests import audio
from tests.processes import await_until, threads

AUDIO_THREADS = {"vsnd-io", "vsnd-clock"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may take these away from itself")


def priorities(pid: int) -> dict[str, int]:
    """SCHED_FIFO priorities, 0 for none, of the daemon's own threads."""
    found = {}
    for thread in threads(pid):
        if thread["Name"].startswith("vsnd-"):
            number = int(thread["Pid"])
            fifo = os.sched_getscheduler(number) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO
            found[thread["Name"]] = os.sched_getparam(number).sched_priority if fifo else 0
    return found


def as_asked(priority: int, found: dict[str, int]) -> bool:
    """The threads that move audio have it, and no other one has any."""
    return found.keys() >= AUDIO_THREADS and all(
        p == (priority if name in AUDIO_THREADS else 0) for name, p in found.items()
    )


@pytest.mark.parametrize(("arguments", "priority"), [([], 20), (["--rt-priority", "7"], 7)])
def test_the_threads_that_move_audio_take_their_priority(
    daemon: DaemonFactory, arguments: list[str], priority: int
) -> None:
    served = daemon("--backend", "null", "--sandbox", "strict", *arguments)
    with VirtualGuest(served.socket) as guest, guest.playing() as run:
        assert run.wait_messages(5, 5)
        await_until(lambda: as_asked(priority, priorities(served.pid)), 10, f"priority {priority}")


def test_priority_0_is_none(daemon: DaemonFactory) -> None:
    served = daemon("--backend", "null", "--rt-priority", "0")
    with VirtualGuest(served.socket) as guest, guest.playing() as run:
        assert run.wait_messages(5, 5)
        assert as_asked(0, priorities(served.pid)), priorities(served.pid)


def may_raise_limits() -> bool:
    """Root in a container may not."""
    raised = ["prlimit", "--rtprio=9", "--", "true"]
    return subprocess.run(raised, capture_output=True, check=False).returncode == 0


def test_root_permits_to_the_user_what_was_asked_for(daemon: DaemonFactory) -> None:
    if not may_raise_limits():
        pytest.skip("root may not raise limits here")
    served = daemon("--backend", "null", "--user", "nobody", "--rt-priority", "9")
    with VirtualGuest(served.socket) as guest:
        assert guest.play(audio.numbered(4800)).ok
        await_until(lambda: as_asked(9, priorities(served.pid)), 10, "priority 9")


def locked(pid: int) -> int:
    """kB that are locked in memory."""
    found = re.search(r"^VmLck:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def guest_memory(pid: int) -> list[str]:
    """Of each mapping of the guest's memory what /proc says of it."""
    maps = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path(f"/proc/{pid}/smaps").read_text(), flags=re.MULTILINE)
    return [m for m in maps if "memfd:" in m.partition("\n")[0]]


def test_the_daemons_memory_is_locked_and_its_guests_is_not(daemon: DaemonFactory) -> None:
    served = daemon("--backend", "null", "--mlock", "on", "--sandbox", "strict")
    assert locked(served.pid) > 0
    with VirtualGuest(served.socket, memory_mib=256) as guest:
        assert guest.play(audio.numbered(4800)).ok
        mappings = guest_memory(served.pid)
        assert mappings
        for mapping in mappings:
            flags = re.search(r"^VmFlags: (.*)$", mapping, re.MULTILINE)
            assert flags
            assert "lo" not in flags[1].split(), mapping


def test_memory_is_not_locked_when_that_is_off(daemon: DaemonFactory) -> None:
    assert locked(daemon("--backend", "null", "--mlock", "off").pid) == 0


#: A prefix for a command that shall have no right to any of this.
POWERLESS = [
    *("setpriv", "--bounding-set=-sys_nice,-ipc_lock", "--inh-caps=-sys_nice,-ipc_lock", "--"),
    *("prlimit", "--rtprio=0", "--memlock=65536", "--"),
]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rt-priority", "20"], "--rt-priority 20: Operation not permitted; raise the limit (LimitRTPRIO="),
        (["--mlock", "on"], "--mlock=on: Cannot allocate memory; raise the limit (LimitMEMLOCK="),
    ],
)
def test_what_was_asked_for_and_is_not_permitted_is_one_line(run_dir: Path, arguments: list[str], said: str) -> None:
    command = [*POWERLESS, executable(), "run", "--socket-path", str(run_dir / "snd.sock"), "--backend", "null"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_was_not_asked_for_and_is_not_permitted_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert shutil.which("prlimit")
    program = executable()
    script = tmp_path / "vsnd-hybrid"
    script.write_text(f'#!/bin/sh\nexec {" ".join(POWERLESS)} {program} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr("tests.daemon.executable", lambda: str(script))
    with Daemon("--backend", "null", "--log-level", "info") as served, VirtualGuest(served.socket) as guest:
        assert guest.play(audio.numbered(4800)).ok
        assert as_asked(0, priorities(served.pid)), priorities(served.pid)
        assert "no real-time priority: Operation not permitted" in served.log()
        assert "memory is not locked: Cannot allocate memory" in served.log()


@pytest.mark.parametrize("option", ["--rt-priority=100", "--mlock=perhaps"])
def test_a_value_that_is_not_there_is_a_mistake(option: str) -> None:
    done = subprocess.run(
        [executable(), "run", "--socket-path", "/tmp/x", option], capture_output=True, text=True, check=False
    )
    assert done.returncode in (1, 2)
    assert option.partition("=")[0] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "allowed"), [("rt-priority = 100", "from 0 (none) to 99"), ('mlock = "perhaps"', '"auto", "on", "off"')]
)
def test_the_same_in_a_file(tmp_path: Path, line: str, allowed: str) -> None:
    file = tmp_path / "guest.toml"
    file.write_text(f'socket-path = "/tmp/x"\n{line}\n')
    done = subprocess.run([executable(), "run", "--config", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{file}:2: " in done.stderr
    assert allowed in done.stderr
