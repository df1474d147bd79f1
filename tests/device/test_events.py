"""Events find their way to a driver whenever it gives buffers for them, and cost nothing while nobody waits."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from vsnd_hybrid.backends.base import Direction
from vsnd_hybrid.backends.null import NullBackend
from vsnd_hybrid.device import DeviceConfig, SoundDevice, StreamConfig, notify
from vsnd_hybrid.guest import VirtualGuest
from vsnd_hybrid.guest.queue import Queue
from vsnd_hybrid.loop import Loop
from vsnd_hybrid.vhost import running
from vsnd_hybrid.wire import EventCode, EventMsg

EVENT = 1
#: No test lasts so long.
NEVER_S = 3600.0


class Counting(SoundDevice):
    """Counts how often its loop is told of event buffers."""

    told = 0

    def attached(self, loop: Loop) -> None:
        self.loop = loop
        super().attached(loop)

    def replenished(self, queue: int) -> None:
        self.told += 1
        super().replenished(queue)


def device() -> Counting:
    return Counting(DeviceConfig(streams=(StreamConfig(direction=Direction.OUTPUT, backend=NullBackend()),)))


def pull_out(device: Counting, connected: bool = False) -> None:
    """Something happens to the first jack; returns when the device knows."""
    known = threading.Event()

    def pull() -> None:
        device.plug(0, connected)
        known.set()

    device.loop.call_soon(pull)
    assert known.wait(10)


def give(queue: Queue, count: int, *, kick: bool | None) -> None:
    for _ in range(count):
        queue.push([EventMsg.SIZE], publish=False)
    queue.publish(kick=kick)


def told(queue: Queue) -> EventMsg:
    assert queue.wait(1, 10), "no event"
    (used,) = queue.reap()
    assert used.token is not None
    return EventMsg.unpack(used.token.content)


@pytest.mark.parametrize("event_idx", [True, False], ids=["event index", "flags"])
def test_a_buffer_that_comes_while_an_event_waits_is_used_by_its_kick(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, event_idx: bool
) -> None:
    monkeypatch.setattr(notify, "LOOK_S", NEVER_S)
    with (
        running(device(), run_dir / "s") as served,
        VirtualGuest(run_dir / "s", events=False, event_idx=event_idx) as guest,
    ):
        queue = guest.queue(EVENT)
        for connected in (False, True, False):
            pull_out(served, connected)
            # None: as the device has asked for.
            give(queue, 1, kick=None)
            code = EventCode.JACK_CONNECTED if connected else EventCode.JACK_DISCONNECTED
            assert told(queue) == EventMsg(code, 0)


def test_a_driver_that_does_not_kick_is_told_all_the_same(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "LOOK_S", 0.01)
    with running(device(), run_dir / "s") as served, VirtualGuest(run_dir / "s", events=False) as guest:
        pull_out(served)
        give(guest.queue(EVENT), 1, kick=False)
        assert told(guest.queue(EVENT)) == EventMsg(EventCode.JACK_DISCONNECTED, 0)


def test_buffers_that_nobody_waits_for_wake_nobody(run_dir: Path) -> None:
    with running(device(), run_dir / "s") as served, VirtualGuest(run_dir / "s", events=False) as guest:
        queue = guest.queue(EVENT)
        for _ in range(20):
            give(queue, 2, kick=True)
        # Behind the kicks, by the same worker.
        assert guest.request((1).to_bytes(4, "little"))
        assert served.told == 0
        # One kick that is waited for is told once, however many follow.
        pull_out(served)
        assert told(queue) == EventMsg(EventCode.JACK_DISCONNECTED, 0)
        for _ in range(20):
            give(queue, 1, kick=True)
        assert guest.request((1).to_bytes(4, "little"))
        assert served.told == 0
