"""Bytes that are no state of a device: each is refused by one line, however it is wrong."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from vsnd_hybrid.device.life import State
from vsnd_hybrid.device.state import VERSION, DeviceState, StreamState
from vsnd_hybrid.guest import VirtualGuest
from vsnd_hybrid.vhost import running

from tests.device.test_saved_state import device, load, save

NEW = StreamState(State.NEW, None, ((), 0))


def said(**changed: Any) -> bytes:
    """A state of one stream and one jack, with something of it changed."""
    good = json.loads(DeviceState([NEW], [(1, 0)], {}).pack())
    return json.dumps(good | changed).encode()


def stream(place: int, value: Any) -> bytes:
    """The same, with one value of the stream changed."""
    streams = json.loads(said())["streams"]
    streams[0][place] = value
    return said(streams=streams)


def test_what_is_changed_below_is_good() -> None:
    assert DeviceState.unpack(said()).jacks == [(1, 0)]
    assert DeviceState.unpack(stream(2, [(1 << 15) - 1])).streams[0].kept == ([(1 << 15) - 1], 0)


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b'{"version":' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        said(version=True),
        said(version=float(VERSION)),
        said(version=0),
        said(version="x" * 100_000),
        stream(2, [1 << 15]),
        stream(2, [True]),
        stream(0, "x" * 100_000),
        stream(3, False),
        said(jacks=[[1, False]]),
        said(answers=[[0, 7]]),
    ],
    ids=lambda state: state[:24].decode("latin-1"),
)
def test_it_is_refused_by_one_line_whatever_it_is(
    run_dir: Path, state: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="."):
        DeviceState.unpack(state)
    caplog.set_level(logging.DEBUG)
    with running(device(), run_dir / "s"), VirtualGuest(run_dir / "s") as guest:
        guest.stop_rings()
        assert not load(guest.driver, state)
        (line,) = [record for record in caplog.records if "refused" in record.getMessage()]
        assert line.levelname == "WARNING"
        assert line.getMessage().startswith("the state was refused: ")
        assert len(line.getMessage()) < 300
        assert load(guest.driver, save(guest.driver))
    assert not [record for record in caplog.records if record.exc_info or record.levelno > logging.WARNING]


def test_a_front_end_cannot_fill_the_log_with_states(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(device(), run_dir / "s"), VirtualGuest(run_dir / "s") as guest:
        guest.stop_rings()
        for _ in range(40):
            assert not load(guest.driver, b"\xff")
    assert len(caplog.records) <= 15
