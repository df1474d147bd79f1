"""Guest memory behind every monitor: many regions, rings and buffers in any of them, plugged and unplugged while a guest plays."""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest

from tests.guests.audio import locate, numbered
from tests.processes import await_until
from tests.vmms.conftest import HostFactory, spoken
from tests.vmms.dialects import DIALECTS, CloudHypervisor, Crosvm, OldQemu, Qemu
from tests.vmms.vmm import Vmm

FRAMES = 9600
SECOND = 1_000_000
ENDLESS = 10 * 48000

PLACES = [
    pytest.param(dialect, rings, buffers, id=f"{dialect.name}-rings-{rings}-buffers-{buffers}")
    for dialect in DIALECTS
    for rings, buffers in itertools.product(range(dialect.plugged), repeat=2)
    # The queues of 32768 entries do not fit into the smallest.
    if dialect.memory[rings][1] > 4 << 20 or dialect.size <= 64
]


@pytest.mark.parametrize(("dialect", "rings", "buffers"), PLACES)
def test_rings_and_buffers_may_lie_in_any_region(
    host: HostFactory, dialect: type[Vmm], rings: int, buffers: int
) -> None:
    computer = host()
    with dialect(computer.socket, rings_in=rings, buffers_in=buffers) as vmm:
        recording = vmm.start_record(frames=FRAMES)
        assert vmm.play(numbered(FRAMES)).ok
        assert spoken(recording.wait().data).in_order
    assert locate(computer.take(), FRAMES).holds(FRAMES)


@pytest.mark.parametrize("dialect", [Qemu, OldQemu, CloudHypervisor], ids=lambda dialect: dialect.name)
def test_memory_that_is_plugged_in_while_a_guest_plays_can_be_played_from(host: HostFactory, dialect: Any) -> None:
    computer = host(outputs=2)
    with dialect(computer.socket) as vmm:
        first = vmm.start_play(numbered(FRAMES), stream=0)
        assert first.wait_messages(3, 10)
        vmm.plug()
        vmm.settle()
        assert computer.guest_maps() == vmm.plugged + 1
        vmm.driver.place_buffers(vmm.plugged)
        assert vmm.play(numbered(FRAMES, SECOND), stream=1).ok
        assert first.wait().ok
    assert locate(computer.take(0), FRAMES).holds(FRAMES)
    assert locate(computer.take(1), FRAMES, SECOND).holds(FRAMES, SECOND)


@pytest.mark.parametrize("dialect", [Qemu, OldQemu], ids=lambda dialect: dialect.name)
def test_memory_that_is_unplugged_is_let_go_while_a_guest_plays(host: HostFactory, dialect: Any) -> None:
    computer = host()
    with dialect(computer.socket) as vmm:
        run = vmm.start_play(numbered(FRAMES))
        assert run.wait_messages(2, 10)
        vmm.settle()
        descriptors = computer.descriptors()
        for messages in (3, 6, 9):
            vmm.plug()
            assert run.wait_messages(messages, 10)
            vmm.unplug()
            vmm.settle()
            assert computer.guest_maps() == vmm.plugged
            assert computer.descriptors() == descriptors
        assert run.wait().ok
    assert locate(computer.take(), FRAMES).holds(FRAMES)


def test_cloud_hypervisor_s_added_slots_and_its_table_live_in_one_session(host: HostFactory) -> None:
    computer = host()
    with CloudHypervisor(computer.socket) as vmm:
        run = vmm.start_play(numbered(FRAMES))
        assert run.wait_messages(2, 10)
        vmm.plug()
        # After a reset the table comes whole, and holds what was added.
        vmm.reset()
        assert run.stop().aborted
        assert computer.guest_maps() == vmm.plugged + 1
        vmm.driver.place_buffers(vmm.plugged)
        assert vmm.play(numbered(FRAMES, SECOND)).ok
    assert locate(computer.takes()[1], FRAMES, SECOND).holds(FRAMES, SECOND)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_table_that_comes_again_while_a_guest_plays_costs_no_frame(host: HostFactory, dialect: type[Vmm]) -> None:
    computer = host()
    with dialect(computer.socket) as vmm:
        run = vmm.start_play(numbered(FRAMES))
        assert run.wait_messages(1, 10)
        vmm.settle()
        descriptors = computer.descriptors()
        for messages in range(2, 12):
            # Also in another order: where a ring or a buffer lies in the table is nothing to rely on.
            vmm.link.memory(vmm.regions if messages % 2 else vmm.regions[::-1])
            assert run.wait_messages(messages, 10)
        vmm.settle()
        assert computer.guest_maps() == len(vmm.regions)
        await_until(lambda: computer.descriptors() == descriptors, 10, "the descriptors of earlier tables")
        assert run.wait().ok
    assert locate(computer.take(), FRAMES).holds(FRAMES)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_memory_that_is_cut_short_in_mid_play_ends_that_connection_and_nothing_else(
    host: HostFactory, dialect: type[Vmm]
) -> None:
    computer = host()
    with dialect(computer.socket, rings_in=0 if dialect is Crosvm else 1) as vmm:
        run = vmm.start_play(numbered(ENDLESS))
        assert run.wait_messages(3, 10)
        # This process has it mapped too: the guest must not look at it meanwhile.
        vmm.driver.hold(True)
        region = vmm.regions[-1]
        os.ftruncate(region.fd, 0)
        vmm.link.socket.settimeout(10)
        assert not vmm.link.socket.recv(1), "the device closes the connection"
        os.ftruncate(region.fd, region.size)
        vmm.kill()
    computer.await_maps(0)
    assert computer.daemon.process.running
    with dialect(computer.socket) as vmm:
        assert vmm.play(numbered(FRAMES, SECOND)).ok
    assert locate(computer.takes()[-1], FRAMES, SECOND).holds(FRAMES, SECOND)
