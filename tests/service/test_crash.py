"""A daemon that is killed leaves nothing behind that is in anybody's way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from vsnd_hybrid.guest import VirtualGuest

from tests.daemon import executable, listening
from tests.guests import audio
from tests.processes import Process, await_until
from tests.sessions.pipewire import PipeWireSession, Recording, heard_of

FRAMES = 48_000


class Starts:
    """Daemons on one path, one after the other."""

    def __init__(self, directory: Path, backend: str, environment: dict[str, str] | None) -> None:
        self.path = directory / "snd.sock"
        self._directory, self._backend, self._environment = directory, backend, environment
        self._all: list[Process] = []

    def start(self) -> Process:
        command = [executable(), "run", "--socket-path", str(self.path), "--backend", self._backend]
        process = Process(command, self._directory / f"log-{len(self._all)}", self._environment)
        self._all.append(process)
        await_until(lambda: listening(self.path) or not process.running, 20, "the socket")
        assert process.running, process.log()
        return process

    def killed_while_playing(self) -> int:
        """Start one and kill it in mid-play; returns the number of its process."""
        daemon = self.start()
        with VirtualGuest(self.path) as guest, guest.playing(period_frames=1024) as run:
            assert run.wait_messages(20)
            daemon.kill()
            assert guest.driver.wait_closed(5), "its front end notices at once"
        assert self.path.is_socket()
        return daemon.pid

    def close(self) -> None:
        for process in self._all:
            process.close()


@pytest.fixture(params=["null", "file", "pipewire"])
def starts(request: pytest.FixtureRequest, run_dir: Path) -> Iterator[Starts]:
    backend, environment = request.param, None
    if backend == "file":
        backend = f"file,dir={run_dir}"
    elif backend == "pipewire":
        environment = request.getfixturevalue("pipewire").environment
    starts = Starts(run_dir, backend, environment)
    yield starts
    starts.close()


def test_the_next_start_on_the_same_path_serves_at_once(starts: Starts) -> None:
    for _ in range(2):
        starts.killed_while_playing()
    starts.start()
    with VirtualGuest(starts.path) as guest:
        assert guest.play(audio.numbered(FRAMES), period_frames=1024).ok


def test_takes_of_the_dead_are_kept_and_not_continued(run_dir: Path) -> None:
    starts = Starts(run_dir, f"file,dir={run_dir}", None)
    try:
        starts.killed_while_playing()
        first = run_dir / "out-0-take-001.wav"
        before = first.read_bytes()
        starts.start()
        with VirtualGuest(starts.path) as guest:
            assert guest.play(audio.numbered(FRAMES)).ok
        second = run_dir / "out-0-take-002.wav"
        await_until(lambda: audio.locate(audio.wav_samples(second), FRAMES).holds(FRAMES), 10, "the second take")
        assert first.read_bytes() == before
    finally:
        starts.close()


def test_pipewire_forgets_the_dead_and_plays_on(run_dir: Path, pipewire: PipeWireSession) -> None:
    def processes() -> set[str]:
        objects = json.loads(pipewire.run("pw-dump") or "[]")
        kinds = ("PipeWire:Interface:Client", "PipeWire:Interface:Node")
        found = (o["info"]["props"] for o in objects if o["type"] in kinds)
        return {str(p.get("application.process.id", p.get("pipewire.sec.pid", ""))) for p in found}

    starts = Starts(run_dir, "pipewire", pipewire.environment)
    try:
        session = pipewire.record()
        dead = starts.killed_while_playing()
        await_until(lambda: str(dead) not in processes(), 10, "the dead daemon's nodes to go")
        session.await_frames(4800)
        starts.start()

        def play(_: Recording) -> None:
            with VirtualGuest(starts.path) as guest:
                assert guest.play(audio.numbered(FRAMES), period_frames=1024).ok

        heard = heard_of(pipewire, play, FRAMES)
        assert heard.holds(FRAMES), heard
        session.stop()
    finally:
        starts.close()
