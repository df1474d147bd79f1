"""Many streams in one device: each has its own audio, and none costs a thread."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from vsnd_hybrid.backends.null import NullBackend
from vsnd_hybrid.guest import VirtualGuest

from tests.device.conftest import Serve
from tests.device.engines import TapBackend
from tests.guests import audio
from tests.processes import threads

FRAMES = 9600


def test_sixty_four_streams_play_and_record_at_once_and_each_has_its_own_audio(serve: Serve, socket_path: Path) -> None:
    backend = TapBackend(audio.numbered(FRAMES))
    serve(backend, outputs=32, inputs=32)
    with VirtualGuest(socket_path, queue_size=256, memory_mib=64) as guest:
        firsts = [stream * 2 * FRAMES for stream in range(32)]
        playing = [
            guest.start_play(audio.numbered(FRAMES, first), stream=stream, stall=30)
            for stream, first in enumerate(firsts)
        ]
        recording = [guest.start_record(frames=3 * FRAMES, stream=stream, stall=30) for stream in range(32, 64)]
        assert all(run.wait().ok for run in playing)
        recorded = [run.wait().data for run in recording]
    for stream, first in enumerate(firsts):
        assert audio.locate(backend.by_id[stream].tape(), FRAMES, first).holds(FRAMES, first), stream
    for data in recorded:
        assert audio.locate(data, FRAMES).holds(FRAMES)


@pytest.mark.parametrize("outputs", [1, 32])
def test_streams_have_no_threads(serve: Serve, socket_path: Path, outputs: int) -> None:
    before = threading.active_count()
    serve(NullBackend(), outputs=outputs, inputs=0)
    with VirtualGuest(socket_path, queue_size=256) as guest, ExitStack() as stack:
        for stream in range(outputs):
            stack.enter_context(guest.playing(stream=stream))
        names = [thread["Name"] for thread in threads(os.getpid())]
        assert threading.active_count() == before + 1, "the device's loop"
        assert names.count("vsnd-clock") == 1
        assert names.count("vsnd-io") == 1
