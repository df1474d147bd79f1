"""The virtual guest on a real socket: what it does as an application, as a driver, and as a monitor."""

from __future__ import annotations

import socket
import threading
import wave
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from vsnd_hybrid import wire
from vsnd_hybrid.backends.base import Direction
from vsnd_hybrid.backends.file import FileBackend
from vsnd_hybrid.device.config import DeviceConfig, StreamConfig
from vsnd_hybrid.device.sound import SoundDevice
from vsnd_hybrid.guest import GuestError, VirtualGuest, numbered
from vsnd_hybrid.vhost import running
from vsnd_hybrid.wire import Status

FRAMES = 4800


class Bench:
    """A sound device with one output and one input, which hears numbered frames."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "snd"
        self._directory = directory
        microphone = directory / "in.wav"
        with wave.open(str(microphone), "wb") as file:
            file.setparams((2, 2, 48000, 0, "NONE", ""))
            file.writeframes(numbered(48000))
        backend = FileBackend(dir=str(directory), input=str(microphone))
        streams = tuple(StreamConfig(direction=direction, backend=backend) for direction in Direction)
        self._running = ExitStack()
        self._running.enter_context(running(SoundDevice(DeviceConfig(streams=streams)), self.socket))

    def close(self) -> None:
        self._running.close()

    def heard(self) -> bytes:
        """End the device; returns what went into its only take."""
        self.close()
        (take,) = self._directory.glob("out-*-take-*.wav")
        with wave.open(str(take)) as file:
            frames: bytes = file.readframes(file.getnframes())
        return frames

    def heard_all(self) -> bool:
        """End the device; tells whether the numbered frames went into its only take in one piece."""
        return numbered(FRAMES) in self.heard()


@pytest.fixture
def bench(run_dir: Path) -> Iterator[Bench]:
    bench = Bench(run_dir)
    yield bench
    bench.close()


@pytest.fixture
def device(bench: Bench) -> Path:
    """The socket of a device."""
    return bench.socket


# ---------------------------------------------------------------- the application


@pytest.mark.parametrize("event_idx", [True, False])
@pytest.mark.parametrize("indirect", [True, False])
def test_what_it_plays_is_heard(bench: Bench, event_idx: bool, indirect: bool) -> None:
    with VirtualGuest(bench.socket, event_idx=event_idx, indirect=indirect) as guest:
        playback = guest.play(numbered(FRAMES), period_frames=480)
        assert playback.ok
        assert playback.frames == FRAMES
        assert playback.periods == 10
        assert {m.used_len for m in playback.messages} == {8}
    assert bench.heard_all()


def test_messages_cut_into_odd_pieces_are_heard(bench: Bench) -> None:
    with VirtualGuest(bench.socket) as guest:
        assert guest.play(numbered(FRAMES), pieces=[1, 3, 7], message_bytes=1001).ok
    assert bench.heard_all()


def test_what_it_records_was_spoken(device: Path) -> None:
    with VirtualGuest(device) as guest:
        recording = guest.record(frames=FRAMES)
    assert recording.frames == FRAMES
    assert recording.data in numbered(48000)


def test_it_plays_and_records_at_once(device: Path) -> None:
    with VirtualGuest(device) as guest:
        playing, recording = guest.start_play(numbered(FRAMES)), guest.start_record(frames=FRAMES)
        assert playing.wait().ok
        assert recording.wait().frames == FRAMES


def test_a_paused_stream_goes_on_without_a_gap(bench: Bench) -> None:
    with VirtualGuest(bench.socket) as guest:
        run = guest.start_play(numbered(FRAMES))
        assert run.wait_messages(3)
        run.pause()
        run.resume()
        assert run.wait().ok
    assert bench.heard_all()


def test_starving_a_stream_is_an_xrun_that_the_device_tells(device: Path) -> None:
    with VirtualGuest(device) as guest:
        playback = guest.play(numbered(FRAMES), starve=(FRAMES // 2, 0.1))
        assert playback.ok
        assert playback.xruns > 0
        event = guest.wait_event("PCM_XRUN")
        assert event.data == playback.stream


def test_a_stream_with_polling_is_never_kicked(device: Path) -> None:
    with VirtualGuest(device) as guest:
        assert guest.play(numbered(FRAMES), polling=True).kicks == 0


def test_what_the_device_does_not_have_it_refuses_itself(device: Path) -> None:
    with VirtualGuest(device) as guest:
        with pytest.raises(GuestError, match="refused SET_PARAMS of stream 7: BAD_MSG"):
            guest.play(b"", stream=7)
        with pytest.raises(GuestError, match="NOT_SUPP"):
            guest.play(bytes(400), rate=384000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 12345}, "no rate 12345 Hz"),
        ({"rate": 1}, "no rate 1 Hz"),  # which set_params would take for the code of 8000 Hz
        ({"format": "MP3"}, "no format"),
        ({"channels": 0}, "channels is 0: expected a number from 1 to 255"),
        ({"period_frames": -1}, "period_frames is -1: expected a number from 1 to"),
        ({"period_frames": 1 << 31}, "period_frames is 2147483648"),
        ({"periods": 0}, "periods is 0"),
        ({"periods": 1 << 24}, "periods is 16777216"),
        ({"total_frames": -1}, "frames to move is -1"),
        ({"total_frames": 1 << 62}, "frames to move is 4611686018427387904"),
        ({"message_bytes": 0}, "message_bytes is 0"),
        ({"pieces": (4, 0)}, "a size in pieces is 0"),
        ({"stream": -1}, "stream is -1"),
        ({"stream": 1}, "stream 1 records; those that play: 0"),
    ],
)
def test_what_makes_no_sense_is_said_at_once(device: Path, options: dict[str, Any], said: str) -> None:
    with VirtualGuest(device) as guest:
        with pytest.raises(ValueError, match=said):
            guest.play(bytes(400), **options)
        assert guest.play(numbered(480)).ok, "nothing was sent"


def test_a_stream_that_plays_does_not_record(device: Path) -> None:
    with VirtualGuest(device) as guest, pytest.raises(ValueError, match="stream 0 plays; those that record: 1"):
        guest.record(frames=480, stream=0)


# ---------------------------------------------------------------- the driver


def test_the_device_s_description_is_decoded(device: Path) -> None:
    with VirtualGuest(device) as guest:
        output, microphone = guest.streams
        assert (output.direction, microphone.direction) == ("output", "input")
        assert "S16" in output.formats and 48000 in output.rates and "EVT_XRUNS" in output.features
        assert len(guest.jacks) == guest.config.jacks
        assert ("FL", "FR") in {chmap.positions for chmap in guest.chmaps}


def test_requests_are_answered_with_their_status(device: Path) -> None:
    with VirtualGuest(device) as guest:
        assert guest.start(0) == Status.BAD_MSG
        assert guest.set_params(0, buffer_bytes=7680, period_bytes=1920) == Status.OK
        assert guest.prepare(0) == guest.start(0) == guest.stop(0) == guest.release(0) == Status.OK
        assert guest.request(b"\x99\x09\0\0") == Status.NOT_SUPP.to_bytes(4, "little")
        assert guest.request(b"\1\0\0\0", 3) == b""


def test_a_chain_of_any_parts_comes_back_with_what_was_written(device: Path) -> None:
    with VirtualGuest(device) as guest:
        control = guest.queue(0)
        request = wire.QueryInfo(wire.Request.PCM_INFO, 0, 2, 32).pack()
        token = control.exchange([request[:5], request[5:], 1, 3, 64], indirect=False)
        assert token.used_len == 68
        assert token.written[:4] == Status.OK.to_bytes(4, "little")
        assert control.used_index == control.avail_index


def test_raw_descriptors_are_offered_as_they_are(device: Path) -> None:
    with VirtualGuest(device) as guest:
        control = guest.queue(0)
        at = guest.alloc(64)
        token = control.push_raw([(at, 4, 1, 1), (at + 16, 4, 1, 0)])
        assert not token.done
        assert control.wait()
        assert [used.token for used in control.reap()] == [token]


def test_memory_outside_of_the_guest_is_refused(device: Path) -> None:
    with VirtualGuest(device, memory_mib=1) as guest:
        guest.write(4096, b"abc")
        assert guest.read(4096, 3) == b"abc"
        with pytest.raises(GuestError, match="not in the guest's memory"):
            guest.read(1 << 20, 1)


# ---------------------------------------------------------------- the monitor


def test_stopped_rings_give_back_their_bases_and_go_on(bench: Bench) -> None:
    with VirtualGuest(bench.socket) as guest:
        run = guest.start_play(numbered(FRAMES))
        for messages in (2, 5):
            assert run.wait_messages(messages)
            bases = guest.stop_rings()
            assert bases[2] == guest.queue(2).used_index
            guest.start_rings(bases)
        assert run.wait().ok
    assert bench.heard_all()


@pytest.mark.parametrize("style", ["qemu", "crosvm", "libkrun", "reset-device"])
def test_a_reset_cuts_a_stream_off_and_the_next_driver_finds_a_new_device(device: Path, style: str) -> None:
    with VirtualGuest(device) as guest, guest.playing() as run:
        assert run.wait_messages(3)
        guest.reset(style)
        assert run.stop().aborted == "the guest was reset"
        assert guest.start(0) == Status.BAD_MSG
        assert guest.play(numbered(480)).ok


def test_memory_and_eventfds_are_replaced_while_a_stream_plays(bench: Bench) -> None:
    with VirtualGuest(bench.socket, regions=[(0, 1 << 20), (1 << 32, 4 << 20)]) as guest:
        run = guest.start_play(numbered(FRAMES))
        assert run.wait_messages(2)
        guest.remap()
        guest.replace_call(2)
        guest.replace_kick(2)
        assert run.wait().ok
    assert bench.heard_all()


def test_a_memory_slot_is_taken_away_and_given_back_while_a_stream_plays(bench: Bench) -> None:
    regions = [(0, 1 << 20), (16 << 20, 1 << 20), (64 << 20, 4 << 20)]
    with VirtualGuest(bench.socket, regions=regions) as guest:
        run = guest.start_play(numbered(FRAMES))
        assert run.wait_messages(2)
        guest.remove_region(1)
        guest.add_region(1)
        assert run.wait().ok
    assert bench.heard_all()


def test_a_killed_guest_leaves_the_device_to_the_next(device: Path) -> None:
    with VirtualGuest(device) as first, first.playing() as run:
        assert run.wait_messages(2)
        first.kill()
        assert run.wait().aborted == "the guest was killed"
    with VirtualGuest(device) as second:
        assert second.play(numbered(480)).ok


def test_an_answer_to_every_message_and_any_message_can_be_had(device: Path) -> None:
    with VirtualGuest(device, need_reply=True) as guest:
        get_features = 1
        assert guest.send_message(get_features, reply=True) == guest.driver.offered.to_bytes(8, "little")
        assert guest.play(numbered(480)).ok


def test_a_device_that_drops_the_connection_is_noticed(device: Path) -> None:
    with VirtualGuest(device) as guest:
        guest.send_message(9999)
        assert guest.wait_closed(5)
        with pytest.raises(GuestError, match="closed the connection"):
            guest.start(0)


# ---------------------------------------------------------------- nobody there


def test_nobody_listening_is_one_line(run_dir: Path) -> None:
    with pytest.raises(GuestError, match=r"cannot connect to .*/none: ") as told:
        VirtualGuest(run_dir / "none", connect_timeout=0)
    assert "\n" not in str(told.value)


def test_it_waits_for_somebody_to_listen(device: Path, run_dir: Path) -> None:
    later = run_dir / "later"
    threading.Timer(0.05, later.symlink_to, [device]).start()
    with VirtualGuest(later, connect_timeout=10) as guest:
        assert guest.streams


def test_a_peer_that_does_not_speak_is_one_line() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(GuestError, match="did not answer GET_FEATURES within 1 s"):
        VirtualGuest(ours.fileno(), connect_timeout=1)


@pytest.mark.parametrize("queue_size", [0, 48])
def test_a_queue_size_that_is_no_power_of_two_is_refused(device: Path, queue_size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        VirtualGuest(device, queue_size=queue_size)
