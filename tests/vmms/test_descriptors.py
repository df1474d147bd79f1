"""Descriptors of a front end's that block whoever writes to them or reads them: nobody waits in one for good."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
from vsnd_hybrid.guest import VirtualGuest

from tests.conftest import DaemonFactory
from tests.guests.audio import numbered
from tests.hostile.test_any_guest import Usage
from tests.processes import await_until, threads
from tests.sessions.pipewire import PipeWireSession
from tests.vmms.conftest import HostFactory
from tests.vmms.dialects import CloudHypervisor, Crosvm
from tests.vmms.link import Message, Refused
from tests.vmms.vmm import QUEUES, TX

#: A front end is answered in this time whatever another one has done; the daemon's own limits are seconds.
ANSWER_S = 5.0


class Descriptors(ExitStack):
    """Descriptors that live as long as the test."""

    def own(self, fd: int) -> int:
        self.callback(os.close, fd)
        return fd

    def full_eventfd(self) -> int:
        """A write to it blocks: it is where an eventfd ends."""
        fd = self.own(os.eventfd(0, os.EFD_CLOEXEC))
        os.eventfd_write(fd, 2**64 - 2)
        return fd

    def full_pipe(self) -> int:
        """A write to it would block: nobody reads."""
        _, write = map(self.own, os.pipe())
        os.set_blocking(write, False)
        with suppress(BlockingIOError):
            while True:
                os.write(write, bytes(4096))
        os.set_blocking(write, True)
        return write


@pytest.fixture
def descriptors() -> Iterator[Descriptors]:
    with Descriptors() as stack:
        yield stack


MAKERS = pytest.mark.parametrize("make", [Descriptors.full_eventfd, Descriptors.full_pipe], ids=["eventfd", "pipe"])


@MAKERS
def test_a_call_descriptor_that_blocks_ends_with_its_front_end(
    daemon: DaemonFactory, descriptors: Descriptors, make: Callable[[Descriptors], int]
) -> None:
    served = daemon("--backend", "null")
    with Crosvm(served.socket) as vmm:
        playing = vmm.start_play(numbered(48_000), total_frames=1 << 40)
        assert playing.wait_messages(4)
        for queue in QUEUES:
            vmm.link.ring_fd(Message.SET_VRING_CALL, queue, make(descriptors))
        # Each is answered, though a write to the ring's descriptor may be blocking a thread.
        for queue in QUEUES:
            vmm.link.ring_base(queue)
        vmm.kill()
    with VirtualGuest(served.socket, connect_timeout=ANSWER_S, request_timeout=ANSWER_S) as guest:
        assert guest.play(numbered(4800)).ok
        assert guest.streams
    # That SIGTERM ends the daemon is what the fixture sees to.


@pytest.mark.parametrize("leave", [True, False], ids=["gone", "there"])
def test_nor_does_an_engines_callback_wait_in_one(
    daemon: DaemonFactory, descriptors: Descriptors, pipewire: PipeWireSession, leave: bool
) -> None:
    served = daemon("--backend", "pipewire", environment=pipewire.environment)
    vmm = Crosvm(served.socket)
    playing = vmm.start_play(numbered(48_000), total_frames=1 << 40, period_frames=1024)
    assert playing.wait_messages(20)
    vmm.link.ring_fd(Message.SET_VRING_CALL, TX, descriptors.full_eventfd())
    # Periods go by unsignalled; the monitor's own guest notices by looking.
    assert playing.wait_messages(playing.messages_done + 20)
    if leave:
        vmm.kill()
        with VirtualGuest(served.socket, connect_timeout=ANSWER_S, request_timeout=ANSWER_S) as guest:
            assert guest.play(numbered(4800), period_frames=1024).ok
    served.process.close(ANSWER_S)
    assert served.process.status == 0
    vmm.kill()


def test_a_ring_is_signalled_by_nothing_that_is_no_eventfd(host: HostFactory, descriptors: Descriptors) -> None:
    with CloudHypervisor(host().socket) as vmm:
        for path in ("/dev/null", "/"):
            with pytest.raises(Refused):
                vmm.link.ring_fd(Message.SET_VRING_CALL, TX, descriptors.own(os.open(path, os.O_RDONLY)))
        assert vmm.play(numbered(480)).ok


def test_a_refused_kick_descriptor_leaves_the_ring_with_its_old_one(
    host: HostFactory, descriptors: Descriptors
) -> None:
    with CloudHypervisor(host().socket) as vmm:
        # Nobody can wait for a regular file.
        with pytest.raises(Refused):
            vmm.link.ring_fd(Message.SET_VRING_KICK, TX, descriptors.own(os.memfd_create("kick")))
        assert vmm.play(numbered(480)).ok


@pytest.mark.parametrize("blocks", [False, True], ids=["silent", "blocking"])
def test_a_state_that_does_not_come_holds_up_nobody_whose_front_end_is_gone(
    daemon: DaemonFactory, descriptors: Descriptors, blocks: bool
) -> None:
    served = daemon("--backend", "null")
    with VirtualGuest(served.socket):
        before = Usage(served.pid)
    for _ in range(3):
        vmm = CloudHypervisor(served.socket)
        vmm.deactivate()
        theirs, ours = map(descriptors.own, os.pipe())
        vmm.link.transfer(1, os.dup(theirs))
        if blocks:
            # The flag is shared: what reads the pipe blocks, although it was told not to.
            fcntl.fcntl(theirs, fcntl.F_SETFL, 0)
            os.write(ours, b"x")
        # It does not wait for the answer.
        vmm.link.socket.sendall(b"".join(n.to_bytes(4, "little") for n in (Message.CHECK_DEVICE_STATE, 1, 0)))
        vmm.kill()
    with VirtualGuest(served.socket, connect_timeout=2, request_timeout=2) as guest:
        assert guest.play(numbered(480)).ok
        await_until(lambda: len(threads(served.pid)) <= before.threads + 1, 5, "the end of the transfers' threads")
