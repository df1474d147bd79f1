"""The benchmark itself, at work on real daemons: ours, and those that end, hang, are killed, or lose sound."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from vsnd_hybrid.tools.bench.result import Result, read
from vsnd_hybrid.tools.session.pipewire import PipeWireSession, installed

from tests.daemon import executable
from tests.processes import await_until

DAEMONS = Path(__file__).with_name("bench_daemons.py")


#: Accepts connections and says nothing.
MUTE = f"{shlex.quote(sys.executable)} {shlex.quote(str(DAEMONS))} mute {{sock}}"
#: In the environment of all that a bench of these tests starts.
MARK = f"VSND_BENCH_TEST={os.getpid()}"


def command_of(directory: Path, *arguments: str) -> list[str]:
    return [executable(), "bench", "--dir", str(directory), "--repeats", "1", "--seconds", "0.3", *arguments]


def environment() -> dict[str, str]:
    name, _, value = MARK.partition("=")
    return os.environ | {name: value}


def bench(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = command_of(directory, *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, env=environment())


def ours() -> str:
    streams = "--outputs {outputs} --inputs {inputs}"
    return f"--cmd=ours={executable()} run --socket-path {{sock}} --backend {{backend}} {streams}"


def needs_pipewire() -> None:
    if not installed():
        pytest.fail("PipeWire, WirePlumber and pipewire-bin are not installed: run scripts/system-setup")


def cmd(how: str) -> str:
    return f"--cmd={how}={shlex.quote(sys.executable)} {shlex.quote(str(DAEMONS))} {how} {{sock}}"


def left_behind() -> list[int]:
    """Processes that a bench of these tests started and that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and MARK.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def serves(pid: int) -> bool:
    """It is a daemon."""
    with suppress(OSError):
        return b"--socket-path" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def only_error(result: Result, contender: str) -> str:
    """The one line that says why all of a contender's runs failed."""
    (outcome,) = result.outcomes
    entry = outcome.entry(contender)
    assert entry is not None
    assert not entry.keys
    (error,) = entry.errors
    assert "\n" not in error
    return error


def test_a_small_bench_of_our_daemon_measures_and_reports(tmp_path: Path) -> None:
    scenarios = (
        "flood-16-indirect",
        "flood-copied-16-indirect",
        "flood-64-direct",
        "null-480x4-both-4",
        "control",
        "startup",
        "idle",
    )
    done = bench(tmp_path / "out", ours(), *(f"--scenario={name}" for name in (*scenarios, "daemons-4")))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    result = read(tmp_path / "out/bench.json")
    assert not list(result.failures())
    assert [c.name for c in result.contenders] == ["ours", "ours′"]
    figures = {o.scenario: o.entries[0].runs[0].values for o in result.outcomes}
    assert figures["flood-16-indirect"]["buffers_per_s"] > 100
    assert figures["flood-copied-16-indirect"]["cpu_ns_per_buffer"] > 0
    assert figures["flood-64-direct"]["buffers_per_s"] > 100
    both = figures["null-480x4-both-4"]
    assert {"cpu_ms_per_s", "interval_p999_us", "jitter_max_us", "pacing_ppm", "pss_mb", "xruns"} <= both.keys()
    assert both["kicks_per_period"] < 0.5, "paced by the clock, with MSG_POLLING"
    assert figures["control"]["release_p99_us"] > 0
    assert 0 < figures["startup"]["start_ms"] <= figures["startup"]["first_answer_ms"]
    assert figures["daemons-4"]["private_mb"] > 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"report.md", "bench.json", "ratios.png", "ratios.svg", "interval.png"} <= names
    assert "ours′" in done.stdout
    assert not left_behind()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("sh -c 'echo no card >&2; exit 3' {sock}", "the daemon ended with status 3: no card"),
        ("sh -c 'sleep 60 & wait' {sock}", "it did not accept a connection within"),
        (MUTE, "did not answer GET_FEATURES within"),
        (f"sh -c 'setsid $* & wait' - {MUTE}", "did not answer GET_FEATURES within"),
        ("/no/such/program {sock}", "cannot run /no/such/program"),
    ],
)
def test_a_command_that_serves_nothing_is_one_line(tmp_path: Path, command: str, expected: str) -> None:
    done = bench(tmp_path, "--no-noise", f"--cmd=dead={command}", "--scenario=idle", f"--json={tmp_path / 'r.json'}")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert expected in only_error(read(tmp_path / "r.json"), "dead")
    assert not left_behind()


@pytest.mark.parametrize(
    ("how", "expected"), [("stopped", "no message came back|did not answer STOP"), ("killed", "killed by SIGKILL")]
)
def test_a_daemon_that_hangs_or_dies_while_it_plays_is_one_line(tmp_path: Path, how: str, expected: str) -> None:
    done = bench(tmp_path, "--no-noise", "--no-syscalls", ours(), cmd(how), "--scenario=null-480x4-out", "--seconds=3")
    assert done.returncode == 0, "the first one is well: " + done.stdout + done.stderr
    assert re.search(expected, only_error(read(tmp_path / "bench.json"), how))
    assert f"{how}: failed 1 of 1" in done.stdout
    assert not left_behind()


@pytest.mark.parametrize("way", ["out", "in"])
def test_ours_and_the_floor_are_at_one_quantum(tmp_path: Path, way: str) -> None:
    needs_pipewire()
    names = [f"pipewire-480x4-low-{way}", f"pipewire-480x4-{way}"]
    done = bench(tmp_path, "--no-noise", "--no-syscalls", ours(), *(f"--scenario={name}" for name in names))
    assert done.returncode == 0, done.stdout + done.stderr
    for outcome in read(tmp_path / "bench.json").outcomes:
        quanta = {e.contender: e.runs[0].values["quantum_frames"] for e in outcome.entries}
        expected = 256 if "low" in outcome.scenario else 512
        assert quanta == {"ours": expected, "pw-cat": expected}


def test_the_floor_of_several_streams_is_a_pw_cat_for_each(tmp_path: Path) -> None:
    needs_pipewire()
    done = bench(tmp_path, "--no-noise", "--no-syscalls", ours(), "--scenario=pipewire-480x4-both-4")
    assert done.returncode == 0, done.stdout + done.stderr
    (outcome,) = read(tmp_path / "bench.json").outcomes
    quanta, threads = (
        {e.contender: e.runs[0].values[key] for e in outcome.entries} for key in ("quantum_frames", "threads")
    )
    assert quanta == {"ours": 512, "pw-cat": 512}
    assert threads["pw-cat"] >= 8


@pytest.mark.parametrize("shape", ["480x2", "480x3"])
def test_gaps_at_a_fixed_quantum_are_measured(tmp_path: Path, shape: str) -> None:
    needs_pipewire()
    done = bench(tmp_path, "--no-noise", ours(), f"--scenario=lost-{shape}-fixed-out")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = read(tmp_path / "bench.json").outcomes[0].entries[0].runs
    assert run.values["frames_lost"] == 0
    assert run.notes == ["the session's quantum is fixed at 1024 frames"]
    # A busy machine makes some; without reading ahead every quantum has one.
    assert run.values["gaps"] < 48000 // 1024 // 2


def test_a_quantum_is_fixed_for_a_block_whatever_happens_in_it() -> None:
    needs_pipewire()
    with PipeWireSession() as session:

        def forced() -> bool:
            return "'clock.force-quantum' value:'1024'" in session.run("pw-metadata", "-n", "settings")

        with pytest.raises(KeyError), session.fixed_quantum(1024):
            assert forced()
            raise KeyError
        assert not forced()


def test_frames_that_a_daemon_loses_are_counted(tmp_path: Path) -> None:
    needs_pipewire()
    done = bench(tmp_path, "--no-noise", cmd("dropping"), "--scenario=lost-480x4-out")
    assert done.returncode == 0, done.stdout + done.stderr
    values = read(tmp_path / "bench.json").outcomes[0].entries[0].runs[0].values
    assert values["frames_lost"] >= 480
    assert values["frames_repeated"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_bench_that_is_ended_reports_what_it_has_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    arguments = ("--seconds=60", "--scenario=null-480x4-out")
    with subprocess.Popen(
        command_of(tmp_path, *arguments), env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        await_until(lambda: any(map(serves, left_behind())), 30, "a daemon under measurement")
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert read(tmp_path / "bench.json").interrupted
    assert "ended before all scenarios were through" in (tmp_path / "report.md").read_text()
    assert not left_behind()


def test_the_scenarios_are_listed(tmp_path: Path) -> None:
    done = bench(tmp_path / "none", "--list")
    assert done.returncode == 0
    assert "flood-64-indirect" in done.stdout
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--cmd", "snd {sock}"], 1),
        (["--scenario", "nothing"], 1),
        (["--repeats", "0"], 2),
        (["--seconds", "x"], 2),
    ],
)
def test_options_that_make_no_sense_are_one_line(tmp_path: Path, arguments: list[str], status: int) -> None:
    done = bench(tmp_path / "none", *arguments)
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert line.startswith("vsnd-hybrid: ")
    assert not (tmp_path / "none").exists()
