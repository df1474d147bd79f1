"""The demo's own measure, and the demo itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from vsnd_hybrid.tools import demo
from vsnd_hybrid.tools.demo.result import Match, Result, match
from vsnd_hybrid.tools.demo.session import read_wav
from vsnd_hybrid.tools.demo.tune import FRAME_BYTES, RATE, played, recorded

from tests.daemon import executable

FRAMES = 10_000
SENT = b"".join(number.to_bytes(4, "little") for number in range(1, FRAMES + 1))


def test_frames_in_one_piece_between_silences_are_exact() -> None:
    assert match(SENT, bytes(400) + SENT + bytes(800), 4) == Match(sent=FRAMES, found=FRAMES, exact=True)


def test_a_gap_is_not_exact_and_what_is_missing_is_not_found() -> None:
    heard = SENT[: 4 * 6400] + SENT[4 * 7040 :]
    assert match(SENT, heard, 4) == Match(sent=FRAMES, found=FRAMES - 640, exact=False)


def test_silence_in_the_middle_is_not_exact_though_all_is_found() -> None:
    heard = SENT[: 4 * 6400] + bytes(400) + SENT[4 * 6400 :]
    assert match(SENT, heard, 4) == Match(sent=FRAMES, found=FRAMES, exact=False)


def test_frames_out_of_order_are_not_found() -> None:
    half = 4 * 5056
    assert match(SENT, SENT[half:] + SENT[:half], 4).found < FRAMES


def test_bytes_beside_a_frame_s_border_are_not_found() -> None:
    assert match(SENT, b"\0" + SENT, 4).found == 0


def test_the_tunes_are_of_the_length_that_is_promised_and_not_silent() -> None:
    assert 5.5 < len(played()) / FRAME_BYTES / RATE < 6.5
    assert 2 < len(recorded()) / FRAME_BYTES / RATE < 4
    assert max(played()) > 0


@pytest.fixture
def result(tmp_path: Path) -> Result:
    whole = match(SENT, SENT, 4)
    return Result(
        rate=RATE,
        period_frames=480,
        played=whole,
        recorded=whole,
        heard=SENT,
        completions_s=(1.0, 1.01, 1.022, 1.03),
        xruns=0,
        kicks=0,
        signals=4,
        latency_ms=(1.0, 2.0),
        cpu_ms_per_s=3.0,
        files=(tmp_path / "played.wav",),
    )


def test_deviations_are_told_against_a_clock_that_ticks_a_period(result: Result) -> None:
    assert result.deviations_ms() == pytest.approx([0, 0, 2, 0], abs=1e-6)


@pytest.mark.parametrize(("exact", "status"), [(True, 0), (False, 1)])
def test_the_status_says_whether_every_frame_arrived(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    result: Result,
    exact: bool,
    status: int,
) -> None:
    monkeypatch.setattr(
        demo, "_measure", lambda directory: replace(result, recorded=replace(result.recorded, exact=exact))
    )
    assert demo.run(tmp_path) == status
    assert ("NOT bit-exact" in capsys.readouterr().out) == (not exact)


def test_the_demo_plays_and_records_every_frame_and_draws_it(tmp_path: Path) -> None:
    files = tmp_path / "a, b"
    done = subprocess.run(
        [executable(), "demo", "--dir", str(files)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert {file.name for file in files.iterdir()} == {"played.wav", "microphone.wav", "recorded.wav", "demo.png"}
    assert match(played(), read_wav(files / "played.wav"), FRAME_BYTES).exact
    assert read_wav(files / "recorded.wav") == recorded()
    assert (files / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert done.stdout.count(": bit-exact") == 2
    assert "vhost-user-snd-pci" in done.stdout


WITHOUT_EXTRAS = """
import sys
for name in ("rich", "matplotlib", "numpy"):
    sys.modules[name] = None
from vsnd_hybrid.tools.demo import run, tune
second = tune.recorded()[: tune.RATE * tune.FRAME_BYTES]
tune.played = tune.recorded = lambda: second
sys.exit(run(sys.argv[1]))
"""


def test_without_the_extra_packages_it_says_what_to_install_and_works(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": bit-exact") == 2
    assert "pip install 'vsnd-hybrid[demo]'" in done.stdout
    assert not (tmp_path / "demo.png").exists()


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [executable(), "demo", "--dir", str(tmp_path / "file")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"vsnd-hybrid: cannot write into {tmp_path}/file: ")
