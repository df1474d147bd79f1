"""A device's state, as monitors save and load it through pipes (SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE)."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from vsnd_hybrid._core import SoundDriver
from vsnd_hybrid.backends.base import Direction
from vsnd_hybrid.backends.null import NullBackend
from vsnd_hybrid.device import DeviceConfig, SoundDevice, StreamConfig
from vsnd_hybrid.device.life import State
from vsnd_hybrid.device.state import DeviceState
from vsnd_hybrid.guest import VirtualGuest
from vsnd_hybrid.vhost import running

SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE = 42, 43
SAVE, LOAD = 0, 1
#: The descriptor that the device gave back is none.
ACCEPTED = 0x100


def device(outputs: int = 1) -> SoundDevice:
    directions = [Direction.OUTPUT] * outputs + [Direction.INPUT]
    streams = tuple(StreamConfig(direction=direction, backend=NullBackend()) for direction in directions)
    return SoundDevice(DeviceConfig(streams=streams))


def transfer(driver: SoundDriver, direction: int, fd: int) -> None:
    answer = driver.message(SET_DEVICE_STATE_FD, struct.pack("<2I", direction, 0), fds=[fd], reply=True)
    assert int.from_bytes(answer, "little") == ACCEPTED
    os.close(fd)


def is_good(driver: SoundDriver) -> bool:
    return int.from_bytes(driver.message(CHECK_DEVICE_STATE, b"", reply=True), "little") == 0


def save(driver: SoundDriver) -> bytes:
    read, write = os.pipe()
    transfer(driver, SAVE, write)
    with open(read, "rb") as pipe:
        state = pipe.read()
    assert is_good(driver)
    return state


def load(driver: SoundDriver, state: bytes) -> bool:
    read, write = os.pipe()
    transfer(driver, LOAD, read)
    with open(write, "wb") as pipe:
        pipe.write(state)
    return is_good(driver)


def test_a_playing_device_is_saved_and_goes_on_in_another(run_dir: Path) -> None:
    with running(device(), run_dir / "a"), VirtualGuest(run_dir / "a") as guest:
        run = guest.start_play(bytes(4 * 48_000))
        assert run.wait_messages(3, 10)
        guest.stop_rings()
        state = save(guest.driver)
        guest.kill()
    saved = DeviceState.unpack(state)
    assert [stream.state for stream in saved.streams] == [State.RUNNING, State.NEW]
    heads, consumed = saved.streams[0].kept
    assert heads
    assert consumed < 4 * 480

    with running(device(), run_dir / "b") as second, VirtualGuest(run_dir / "b") as guest:
        guest.stop_rings()
        assert load(guest.driver, state)
        assert [stream.state for stream in second.streams] == [State.RUNNING, State.NEW]
        assert second.streams[0].params is not None
        assert DeviceState.unpack(save(guest.driver)) == saved


@pytest.mark.parametrize(
    "state",
    [
        b"nonsense",
        b"",
        b'{"version":99,"streams":[],"jacks":[]}',
        b'{"version":1,"streams":[["running",null,[],0],["new",null,[],0]],"jacks":[[1,0],[2,0]]}',
        b'{"version":1,"streams":[["new",null,[70000],0],["new",null,[],0]],"jacks":[[1,0],[2,0]]}',
        b'{"version":1,"streams":[["new",null,[1,1],0],["new",null,[],0]],"jacks":[[1,0],[2,0]]}',
        b'{"version":1,"streams":[["running","00",[],0],["new",null,[],0]],"jacks":[[1,0],[2,0]]}',
        b'{"version":2,"streams":[["new",null,[],0],["new",null,[],0]],"jacks":[[1,0],[2,0]]}',
        b'{"version":2,"streams":[["new",null,[],0,"AA="],["new",null,[],0,""]],"jacks":[[1,0],[2,0]]}',
        b'{"version":2,"streams":[["new",null,[],0,0],["new",null,[],0,""]],"jacks":[[1,0],[2,0]]}',
    ],
)
def test_a_state_that_is_none_is_refused_and_changes_nothing(
    run_dir: Path, state: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with running(device(), run_dir / "s") as served, VirtualGuest(run_dir / "s") as guest:
        guest.stop_rings()
        assert not load(guest.driver, state)
        assert [stream.state for stream in served.streams] == [State.NEW, State.NEW]
        guest.start_rings([0, 0, 0, 0])
        assert guest.play(bytes(4 * 4800)).frames == 4800
    assert "\n" not in caplog.messages[0]


def test_a_part_of_a_frame_that_was_read_ahead_is_refused(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(device(), run_dir / "s") as served, VirtualGuest(run_dir / "s") as guest:
        run = guest.start_play(bytes(4 * 48_000))
        assert run.wait_messages(3, 10)
        guest.stop_rings()
        saved = DeviceState.unpack(save(guest.driver))
        streams = [saved.streams[0]._replace(ahead=bytes(6)), saved.streams[1]]
        assert not load(guest.driver, saved._replace(streams=streams).pack())
        assert [stream.state for stream in served.streams] == [State.NEW, State.NEW]
    assert any("stream 0: 6 bytes read ahead: expected whole frames of 4 bytes" in line for line in caplog.messages)


def test_the_state_of_another_device_is_refused(run_dir: Path) -> None:
    with running(device(outputs=2), run_dir / "a"), VirtualGuest(run_dir / "a") as guest:
        guest.stop_rings()
        state = save(guest.driver)
    with running(device(outputs=1), run_dir / "b"), VirtualGuest(run_dir / "b") as guest:
        guest.stop_rings()
        assert not load(guest.driver, state)
