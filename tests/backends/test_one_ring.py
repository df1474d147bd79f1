"""Streams of several engines share one ring: a native one that pulls, a clock, and one in pure Python that waits for kicks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from vsnd_hybrid._core import PcmPort
from vsnd_hybrid.backends import registry
from vsnd_hybrid.backends.base import Backend, Direction, EngineStream, EventSink, PcmCapabilities, PcmParams
from vsnd_hybrid.device import DeviceConfig, SoundDevice, StreamConfig
from vsnd_hybrid.guest import Playback, VirtualGuest
from vsnd_hybrid.guest.run import StreamRun
from vsnd_hybrid.vhost import running

from tests.backends.conftest import OUTPUT
from tests.device.engines import ThreadStream
from tests.guests import audio
from tests.processes import await_until
from tests.sessions.pipewire import PipeWireSession, Recording

FRAMES = 72_000
#: The numbers of each stream's first frame: what comes out of the wrong engine is foreign there.
FIRST = (0, 1_000_000, 2_000_000)
PERIOD = 480


class PythonBackend(Backend):
    """Reads a period, as a thread in Python does: it sleeps until there is something, then for a period."""

    name: ClassVar[str] = "python"

    def __init__(self) -> None:
        self.tape = bytearray()

    def capabilities(self, direction: Direction) -> PcmCapabilities:
        return PcmCapabilities(frozenset({"S16"}), frozenset({48000}))

    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> EngineStream:
        return PythonStream(port, params, self.tape)


class PythonStream(ThreadStream):
    def __init__(self, port: PcmPort, params: PcmParams, tape: bytearray) -> None:
        self._params, self._tape = params, tape
        super().__init__(port)

    def move(self) -> None:
        if self.port.wait(0.05):
            self._tape += self.port.read(self._params.period_bytes)

    def rest(self) -> None:
        self.ended.wait(self._params.period_frames / self._params.rate)


class Bench:
    """A device whose outputs are PipeWire, a file and Python, in this order; and its guest."""

    def __init__(
        self, device: SoundDevice, guest: VirtualGuest, recording: Recording, takes: Path, python: PythonBackend
    ) -> None:
        self.device, self.guest = device, guest
        self._recording, self._takes, self._python = recording, takes, python

    def begin(self, stream: int, **options: Any) -> StreamRun[Playback]:
        signal = audio.numbered(FRAMES, FIRST[stream])
        return self.guest.start_play(signal, stream=stream, period_frames=PERIOD, periods=4, **options)

    def heard(self) -> list[audio.Heard]:
        """What each engine played of its stream."""
        (path,) = self._takes.glob("out-1-take-*.wav")
        await_until(lambda: len(audio.wav_samples(path)) >= FRAMES * audio.FRAME_BYTES, 5, "the end of the take")
        tapes = (self._recording.stop(), audio.wav_samples(path), bytes(self._python.tape))
        return [audio.locate(tape, FRAMES, first) for tape, first in zip(tapes, FIRST, strict=True)]

    @property
    def too_busy(self) -> bool:
        """The machine kept an engine from its work for so long that the clock stood in, or the recorder was too late."""
        stalls = sum(stream.status()["stalls"] for stream in self.device.streams)
        return stalls > 0 or self._recording.missed_cycles


@contextmanager
def made(session: PipeWireSession, run_dir: Path) -> Iterator[Bench]:
    python = PythonBackend()
    backends: list[Backend] = [registry.create("pipewire"), registry.create(f"file,dir={run_dir}"), python]
    streams = tuple(StreamConfig(direction=OUTPUT, backend=b, name=f"ring-{b.name}") for b in backends)
    device = SoundDevice(DeviceConfig(streams=streams))
    with ExitStack() as stack:
        stack.enter_context(running(device, run_dir / "snd.sock"))
        guest = stack.enter_context(VirtualGuest(run_dir / "snd.sock"))
        yield Bench(device, guest, session.record(), run_dir, python)


def together(bench: Bench) -> None:
    """All three from the beginning to the end."""
    runs = [bench.begin(stream) for stream in range(3)]
    assert all(run.wait().ok for run in runs)


def paused_in_turns(bench: Bench) -> None:
    """STOP and START of one while the others go on."""
    runs = [bench.begin(stream) for stream in range(3)]
    for count in range(10, 130, 10):
        run = runs[count // 10 % 3]
        assert run.wait_messages(count)
        run.pause()
        run.resume()
    assert all(run.wait().ok for run in runs)


def starved_in_turns(bench: Bench) -> None:
    """Underruns of one while the others go on, and the last message of the ring is somebody else's."""
    runs = [bench.begin(stream, starve=(12_000 + 12_000 * stream, 0.15)) for stream in range(3)]
    assert all(run.wait().ok for run in runs)


def one_after_the_other(bench: Bench) -> None:
    """Each begins and ends while another plays: from kicks to none and back."""
    first = bench.begin(2)
    assert first.wait_messages(30)
    second = bench.begin(0)
    assert first.wait().ok
    third = bench.begin(1)
    assert second.wait().ok
    assert third.wait().ok


@pytest.mark.parametrize("play", [together, paused_in_turns, starved_in_turns, one_after_the_other])
def test_every_engine_hears_its_stream_whole(
    pipewire: PipeWireSession,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    play: Callable[[Bench], None],
) -> None:
    for name in ("XDG_RUNTIME_DIR", "PIPEWIRE_RUNTIME_DIR"):
        monkeypatch.setenv(name, pipewire.environment[name])
    monkeypatch.delenv("PIPEWIRE_REMOTE", raising=False)
    for attempt in range(4):
        directory = run_dir / str(attempt)
        directory.mkdir()
        caplog.clear()
        with made(pipewire, directory) as bench:
            play(bench)
            # Also where PipeWire itself was too late to run the stream.
            excused = bench.too_busy or "silence meanwhile" in caplog.text
            heard = bench.heard()
        if all(h.holds(FRAMES, first) for h, first in zip(heard, FIRST, strict=True)) or not excused:
            break
    for stream, first in zip(heard, FIRST, strict=True):
        assert stream.holds(FRAMES, first), heard
