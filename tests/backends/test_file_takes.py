"""What the file engine leaves behind: numbered in time, and no more than the host allows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from vsnd_hybrid.backends import registry
from vsnd_hybrid.backends.base import BackendError
from vsnd_hybrid.backends.file.takes import LOOK_S, Take, Takes
from vsnd_hybrid.guest import VirtualGuest, numbered
from vsnd_hybrid.logs import LimitedLog

from tests.backends.conftest import OUTPUT, GuestFactory
from tests.backends.test_file import finished
from tests.clock import Clock
from tests.conftest import DaemonFactory
from tests.guests import audio
from tests.processes import await_until


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> LimitedLog:
    caplog.set_level(logging.INFO)
    return LimitedLog(logging.getLogger("takes"))


def test_a_take_is_numbered_behind_the_last_one_without_trying_those_before(
    tmp_path: Path, log: LimitedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 301):
        (tmp_path / f"out-0-take-{number:03}.wav").touch()
    (tmp_path / "out-1-take-1205.flac").touch()
    takes = Takes(tmp_path, "wav", 0, 0, log)
    tried = []
    opened = Path.open

    def noted(path: Path, *mode: Any, **how: Any) -> Any:
        tried.append(path.name)
        return opened(path, *mode, **how)

    monkeypatch.setattr(Path, "open", noted)
    for stream_id in (0, 0, 1, 2):
        take = takes.begin(stream_id)
        assert take is not None
        take.file.close()
    assert tried == ["out-0-take-301.wav", "out-0-take-302.wav", "out-1-take-1206.wav", "out-2-take-001.wav"]


def test_a_file_that_somebody_else_made_meanwhile_is_left_alone(tmp_path: Path, log: LimitedLog) -> None:
    takes = Takes(tmp_path, "wav", 0, 0, log)
    (tmp_path / "out-0-take-001.wav").write_text("mine")
    take = takes.begin(0)
    assert take is not None
    take.file.close()
    assert take.path.name == "out-0-take-002.wav"
    assert (tmp_path / "out-0-take-001.wav").read_text() == "mine"


def test_the_sandbox_lets_the_daemon_find_the_last_number(daemon: DaemonFactory, tmp_path: Path) -> None:
    (tmp_path / "out-0-take-007.wav").touch()
    served = daemon("--backend", f"file,dir={tmp_path}")
    with VirtualGuest(served.socket) as guest:
        guest.play(numbered(4800))
    await_until((tmp_path / "out-0-take-008.wav").exists, 5, "a take behind the last one")


def test_a_take_without_a_frame_does_not_stay(tmp_path: Path, guest_on: GuestFactory) -> None:
    backend = registry.create(f"file,dir={tmp_path}")
    guest = guest_on(backend, (OUTPUT,))
    for _ in range(3):
        with guest.playing(period_frames=24000, periods=2):
            pass  # it stops before the clock took its first period
    guest.play(numbered(4800), rate=44100)
    heard = finished(tmp_path / "out-0-take-001.wav")
    await_until(lambda: [path.name for path in tmp_path.iterdir()] == [heard.name], 5, "the empty takes to be gone")
    assert numbered(4800) in audio.wav_samples(heard)


def test_a_guest_plays_on_unheard_when_the_directory_has_as_many_takes_as_it_may(
    tmp_path: Path, guest_on: GuestFactory, caplog: pytest.LogCaptureFixture
) -> None:
    guest = guest_on(registry.create(f"file,dir={tmp_path},max_takes=2"), (OUTPUT,))
    for rate in (48000, 44100, 48000, 44100, 48000):  # another rate, so another engine stream at once
        report = guest.play(numbered(4800), rate=rate)
        assert report.ok
        assert report.frames == 4800
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-0-take-001.wav", "out-0-take-002.wav"]
    assert [r.levelname for r in caplog.records if "is full" in r.getMessage()] == ["WARNING"], "said once"


def test_a_take_ends_where_the_directory_is_as_large_as_it_may_be_and_the_guest_does_not(
    tmp_path: Path, guest_on: GuestFactory, caplog: pytest.LogCaptureFixture
) -> None:
    guest = guest_on(registry.create(f"file,dir={tmp_path},max_bytes=64K"), (OUTPUT,))
    for rate in (48000, 44100):
        report = guest.play(audio.numbered(24000), rate=rate)
        assert report.ok
        assert report.frames == 24000
    (path,) = tmp_path.iterdir()
    finished(path)
    assert (1 << 16) - 8 <= path.stat().st_size <= 1 << 16
    assert audio.wav_samples(path).strip(b"\0") in audio.numbered(24000), "what is there is right"
    assert len([r for r in caplog.records if "is full" in r.getMessage()]) == 1


def test_takes_go_on_when_somebody_made_room(tmp_path: Path, log: LimitedLog, clock: Clock) -> None:
    takes = Takes(tmp_path, "wav", 2, 0, log, clock)
    for _ in range(2):
        take = takes.begin(0)
        assert take is not None
        take.file.close()
        take.finish(empty=False)
    assert takes.begin(0) is None
    (tmp_path / "out-0-take-001.wav").unlink()
    clock.now = LOOK_S / 2
    assert takes.begin(0) is None, "looked at too often, a directory costs each START its time"
    clock.now = LOOK_S
    found: list[Take] = []

    def begun() -> bool:
        if take := takes.begin(0):
            take.file.close()
            found.append(take)
        return bool(found)

    assert not begun(), "START does not wait for a look"
    await_until(begun, 5, "a take, since there is room")
    assert [take.path.name for take in found] == ["out-0-take-003.wav"]


def test_what_lies_there_at_the_start_counts(tmp_path: Path, log: LimitedLog) -> None:
    (tmp_path / "out-5-take-001.flac").write_bytes(bytes(1000))
    (tmp_path / "something else.wav").write_bytes(bytes(5000))
    assert Takes(tmp_path, "wav", 1, 0, log).begin(0) is None
    assert Takes(tmp_path, "wav", 0, 1000, log).begin(0) is None
    assert Takes(tmp_path, "wav", 2, 2000, log).room == 1000


@pytest.mark.parametrize("option", ["max_takes=-1", "max_takes=many", "max_bytes=-1", "max_bytes=G", "max_bytes=1X"])
def test_a_bound_that_is_none_is_a_mistake(tmp_path: Path, option: str) -> None:
    with pytest.raises(BackendError, match="expected"):
        registry.create(f"file,dir={tmp_path},{option}")


def test_a_guest_cannot_fill_the_log_with_takes(daemon: DaemonFactory, tmp_path: Path) -> None:
    served = daemon("--backend", f"file,dir={tmp_path}", "--log-level", "info")
    with VirtualGuest(served.socket) as guest:
        for turn in range(40):
            guest.play(numbered(480), period_frames=240, rate=(48000, 44100)[turn % 2])
    assert served.log().count("writing") <= 15, "a burst of 10 and 10 a minute"
