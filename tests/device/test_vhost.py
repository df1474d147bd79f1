"""A vhost-user device of any kind in Python, with a driver that works its queues."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from vsnd_hybrid._core import DescriptorChain, DriverQueue, SoundDriver
from vsnd_hybrid.vhost import Device, running

from tests.processes import await_until


class Echo(Device):
    """Gives back what it reads, in four queues; its handler can be replaced."""

    device_id = 0xEC40
    queues = 4
    config = b"configuration"

    def __init__(self, handler: Callable[[DescriptorChain], None] | None = None) -> None:
        self.handler = handler
        self.told: list[str] = []
        self.held: list[DescriptorChain] = []

    def chain(self, queue: int, chain: DescriptorChain) -> None:
        self.told.append(f"chain {queue}")
        if self.handler is not None:
            self.handler(chain)
        else:
            chain.complete(chain.write(chain.read()))

    def started(self, queue: int, base: int, fresh: bool) -> None:
        self.told.append(f"started {queue} at {base}{' fresh' if fresh else ''}")

    def stopping(self, queue: int) -> None:
        self.told.append(f"stopping {queue}")
        for chain in self.held:
            chain.complete(0)
        self.held.clear()

    def stopped(self, queue: int, forced: int) -> None:
        self.told.append(f"stopped {queue}, {forced} forced")

    def features_acked(self, features: int) -> None:
        self.told.append("features")


class Bench:
    def __init__(self, device: Echo, path: Path) -> None:
        self.device = device
        self.driver = SoundDriver(str(path), events=False)

    def send(self, data: bytes, room: int = 16, queue: int = 0) -> DriverQueue:
        """Make a buffer available; the queue."""
        found = self.driver.queue(queue)
        buffer = self.driver.alloc(256)
        self.driver.write(buffer, data)
        self.answer = buffer + 128
        found.push([(buffer, len(data), False), (self.answer, room, True)])
        found.publish()
        return found

    def ask(self, data: bytes, queue: int = 0) -> bytes:
        """Send and wait; what came back."""
        found = self.send(data, queue=queue)
        assert found.wait()
        ((_, length, _),) = found.reap()
        return bytes(self.driver.read(self.answer, length))


@pytest.fixture
def bench(run_dir: Path) -> Iterator[Callable[[Echo], Bench]]:
    with ExitStack() as stack:

        def make(device: Echo) -> Bench:
            stack.enter_context(running(device, run_dir / "s"))
            made = Bench(device, run_dir / "s")
            stack.callback(made.driver.kill)
            return made

        yield make


Make = Callable[[Echo], Bench]


def test_chains_of_every_queue_reach_the_device(bench: Make) -> None:
    rig = bench(Echo())
    for queue in range(4):
        assert rig.ask(b"hello", queue) == b"hello"
    assert [what for what in rig.device.told if what.startswith("chain")] == [f"chain {queue}" for queue in range(4)]
    assert bytes(rig.driver.config).startswith(b"configuratio")


def test_more_chains_than_one_turn_takes_are_all_handled(bench: Make) -> None:
    rig = bench(Echo())
    queue = rig.driver.queue(0)
    buffer = rig.driver.alloc(16)
    for turn in range(4):
        for _ in range(64):
            queue.push([(buffer, 4, False), (buffer + 8, 4, True)])
        queue.publish()
        assert queue.wait(64, 10)
        assert len(queue.reap()) == 64, turn


def test_a_handler_that_fails_gives_the_chain_back_and_the_device_goes_on(
    bench: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(chain: DescriptorChain) -> None:
        raise ZeroDivisionError("what it says")

    rig = bench(Echo(fail))
    with caplog.at_level(logging.INFO):
        assert rig.ask(b"hello") == b""
    assert caplog.messages == ["Echo.chain (queue 0) failed: ZeroDivisionError: what it says"]
    assert caplog.records[0].exc_info is None
    rig.device.handler = None
    assert rig.ask(b"hello") == b"hello"


def test_a_handler_that_fails_after_it_completed_the_chain_harms_nothing(bench: Make) -> None:
    def fail(chain: DescriptorChain) -> None:
        chain.complete(chain.write(b"done"))
        raise ZeroDivisionError

    rig = bench(Echo(fail))
    assert rig.ask(b"hello") == b"done"
    rig.device.handler = None
    assert rig.ask(b"hello") == b"hello"


def test_a_chain_may_be_held_and_completed_later(bench: Make) -> None:
    device = Echo()
    device.handler = device.held.append
    rig = bench(device)
    queue = rig.send(b"hello")
    await_until(lambda: bool(device.held), 10, "the chain")
    assert queue.reap() == []
    chain = device.held.pop()
    assert chain.complete(chain.write(b"later"))
    assert queue.wait()


def test_chains_that_are_held_are_completed_when_their_ring_stops(bench: Make) -> None:
    device = Echo()
    device.handler = device.held.append
    rig = bench(device)
    rig.send(b"hello")
    await_until(lambda: bool(device.held), 10, "the chain")
    bases = rig.driver.stop_rings()
    assert bases[0] == rig.driver.queue(0).used_index == 1
    await_until(lambda: "stopped 0, 0 forced" in device.told, 10, "the ring's end")


def test_a_device_is_told_of_its_rings(bench: Make) -> None:
    rig = bench(Echo())
    assert rig.ask(b"hello") == b"hello"
    assert "features" in rig.device.told
    assert "started 0 at 0 fresh" in rig.device.told
    bases = rig.driver.stop_rings()
    rig.driver.start_rings(bases)
    await_until(lambda: "started 0 at 1" in rig.device.told, 10, "the first ring's second start")
    await_until(lambda: rig.device.told.count("started 3 at 0 fresh") == 2, 10, "the last ring's")
    rig.device.told.clear()
    rig.driver.reset()
    await_until(lambda: "started 3 at 0 fresh" in rig.device.told, 10, "the last ring")
    assert "started 0 at 0 fresh" in rig.device.told


def test_a_chain_that_points_outside_of_memory_is_an_error_of_the_handler_and_given_back(bench: Make) -> None:
    rig = bench(Echo())
    queue = rig.driver.queue(0)
    queue.push_raw([(1 << 40, 16, 0, 0)])
    queue.publish()
    assert queue.wait()
    assert [length for _, length, _ in queue.reap()] == [0]
    assert rig.ask(b"hello") == b"hello"
