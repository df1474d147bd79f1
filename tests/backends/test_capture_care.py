"""Recording has the same care as playing: full messages, none early, no kick either way, and what does not fit is counted and told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from vsnd_hybrid.backends import registry
from vsnd_hybrid.device import DeviceConfig, SoundDevice, StreamConfig
from vsnd_hybrid.guest import StreamRun, VirtualGuest
from vsnd_hybrid.vhost import running

from tests.backends.conftest import INPUT, OUTPUT
from tests.guests import audio

#: Status of an RX message: virtio 1.3, 5.14.6.8.
STATUS_BYTES = 8
MESSAGES = 60


class Bench:
    def __init__(self, device: SoundDevice, guest: VirtualGuest) -> None:
        self._device, self.guest = device, guest

    def stats(self) -> dict[str, int]:
        return dict(self._device.streams[0].status())


@pytest.fixture(params=["file", pytest.param("pipewire", marks=pytest.mark.pipewire)])
def bench(request: pytest.FixtureRequest, run_dir: Path) -> Iterator[Bench]:
    """A guest with an input and an output, on the clock and on PipeWire."""
    spec = "pipewire"
    if request.param == "file":
        speech = run_dir / "speech.wav"
        speech.write_bytes(audio.wav(audio.numbered(480_000)))
        spec = f"file,input={speech},dir={run_dir}"
    else:
        request.getfixturevalue("session")
    backend = registry.create(spec)
    streams = tuple(StreamConfig(direction=d, backend=backend, name=f"vsnd-{d.name.lower()}") for d in (INPUT, OUTPUT))
    device = SoundDevice(DeviceConfig(streams=streams))
    with ExitStack() as stack:
        stack.enter_context(running(device, run_dir / "snd.sock"))
        yield Bench(device, stack.enter_context(VirtualGuest(run_dir / "snd.sock")))


@pytest.mark.parametrize("period_frames", [480, 777])
def test_every_message_comes_back_full(bench: Bench, period_frames: int) -> None:
    report = bench.guest.record(frames=MESSAGES * period_frames, period_frames=period_frames, periods=4)
    assert report.ok
    full = [m.used_len == m.bytes + STATUS_BYTES for m in report.done[:MESSAGES]]
    assert full == [True] * MESSAGES


def test_no_message_comes_back_before_its_audio(bench: Bench) -> None:
    """A busy machine makes them late, nothing makes them early."""
    report = bench.guest.record(frames=MESSAGES * 480, period_frames=480, periods=4)
    for count, message in enumerate(report.done[:MESSAGES], 1):
        passed_s = (message.done_ns - report.started_ns) / 1e9
        # An engine may hand over one quantum that was recorded before START was answered.
        assert count * 480 <= passed_s * audio.RATE + 2 * 1024


@pytest.mark.parametrize("polling", [True, False], ids=["polling", "not-polling"])
@pytest.mark.parametrize("capture", [False, True], ids=["playback", "capture"])
def test_the_guest_sends_no_kick(bench: Bench, capture: bool, polling: bool) -> None:
    """Not even one that was not told of polling: nobody waits for what it offers."""
    run: StreamRun[Any]
    if capture:
        run = bench.guest.start_record(period_frames=480, periods=4, polling=polling)
    else:
        sound = audio.numbered(audio.RATE)
        run = bench.guest.start_play(sound, total_frames=1 << 40, period_frames=480, periods=4, polling=polling)
    assert run.wait_messages(MESSAGES)
    assert run.stop().kicks_running == 0


def test_what_does_not_fit_is_counted_and_told(bench: Bench) -> None:
    run = bench.guest.start_record(period_frames=480, periods=4)
    assert run.wait_messages(8)
    before = bench.stats()
    run.starve()
    while bench.stats()["missing_bytes"] < before["missing_bytes"] + 4 * 480 * 4:
        bench.guest.wait_event("PCM_XRUN", after=len(bench.guest.events))
    run.starve(False)
    assert run.wait_messages(run.messages_done + 8)
    report = run.stop()
    assert bench.stats()["xruns"] > before["xruns"]
    assert report.xruns > 0


def test_a_recording_is_in_order_and_what_is_missing_is_what_was_counted(run_dir: Path) -> None:
    """Of a file, whose every frame has a number."""
    speech = run_dir / "speech.wav"
    speech.write_bytes(audio.wav(audio.numbered(480_000)))
    stream = StreamConfig(direction=INPUT, backend=registry.create(f"file,input={speech}"))
    device = SoundDevice(DeviceConfig(streams=(stream,)))
    with running(device, run_dir / "snd.sock"), VirtualGuest(run_dir / "snd.sock") as guest:
        run = guest.start_record(period_frames=480, periods=4)
        assert run.wait_messages(20)
        run.starve()
        guest.wait_event("PCM_XRUN", timeout=5)
        run.starve(False)
        assert run.wait_messages(60)
        report = run.stop()
        missing = device.streams[0].status()["missing_bytes"] // audio.FRAME_BYTES
    heard = audio.locate(report.data + report.tail, 480_000)
    assert not (heard.repeated or heard.disordered or heard.foreign), heard
    assert heard.first == 0
    assert 0 < sum(count for _, count in heard.missing) <= missing
