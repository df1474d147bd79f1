"""What monitors say that has nothing to do with audio: features, the configuration space, queue sizes, acknowledgements."""

from __future__ import annotations

import pytest

from tests.guests.audio import locate, numbered
from tests.vmms.conftest import HostFactory
from tests.vmms.dialects import DIALECTS, CloudHypervisor, Crosvm, Libkrun, Qemu
from tests.vmms.link import Message, Protocol, Refused
from tests.vmms.vmm import CONTROL, EVENT, PROTOCOL_FEATURES, Vmm

FRAMES = 4800
#: jacks, streams, chmaps as a guest reads them.
CONFIG_BYTES = 12
#: Where a device's configuration space ends at the latest, and what fits into one message.
END, MOST = 4096, 4096 - 12
dialects = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


@dialects
def test_only_protocol_features_that_work_are_offered(host: HostFactory, dialect: type[Vmm]) -> None:
    with dialect(host().socket) as vmm:
        offered = Protocol(vmm.link.ask_u64(Message.GET_PROTOCOL_FEATURES))
        # Each has a test; there are no requests of the back end, so no channel for them.
        assert offered == (
            Protocol.MQ | Protocol.CONFIG | Protocol.REPLY_ACK | Protocol.CONFIGURE_MEM_SLOTS | Protocol.RESET_DEVICE
            | Protocol.STATUS | Protocol.INFLIGHT_SHMFD | Protocol.DEVICE_STATE
        )  # fmt: skip
        assert vmm.link.ask_u64(Message.GET_QUEUE_NUM) == 4
        if Protocol.CONFIGURE_MEM_SLOTS in vmm.wants:
            assert vmm.link.ask_u64(Message.GET_MAX_MEM_SLOTS) >= 8


@dialects
@pytest.mark.parametrize("flags", [0, 1], ids=["plain", "writable"])
def test_the_configuration_is_read_from_anywhere_in_any_width(
    host: HostFactory, dialect: type[Vmm], flags: int
) -> None:
    with dialect(host().socket) as vmm:
        whole = vmm.link.config(0, CONFIG_BYTES, flags)
        # What lies beyond the end is zero.
        expected = (whole + bytes(END))[:END]
        for offset in (*range(20), 100, 254, 256, END - 1):
            for size in (1, 2, 3, 4, 8, 12, 256, END - offset):
                if size <= END - offset and size <= MOST:
                    assert vmm.link.config(offset, size, flags) == expected[offset : offset + size]
        assert vmm.play(numbered(480)).ok


@pytest.mark.parametrize("size", [1 << n for n in range(6, 16)])
def test_queues_of_any_size_play(host: HostFactory, size: int) -> None:
    computer = host()
    with CloudHypervisor(computer.socket, queue_size=size) as vmm:
        assert vmm.play(numbered(FRAMES)).ok
        assert vmm.play(numbered(FRAMES), indirect=False).ok
    for take in computer.takes():
        assert locate(take, FRAMES).holds(FRAMES)


def test_a_queue_size_that_no_ring_has_is_refused_and_nothing_else(host: HostFactory) -> None:
    with CloudHypervisor(host().socket) as vmm:
        for size in (0, 3, 48, 65536, 1 << 31):
            with pytest.raises(Refused):
                vmm.link.ring(Message.SET_VRING_NUM, CONTROL, size)
        assert vmm.play(numbered(480)).ok


def test_a_message_with_an_answer_of_its_own_is_answered_once(host: HostFactory) -> None:
    with CloudHypervisor(host().socket) as vmm:
        for message in (Message.GET_FEATURES, Message.GET_QUEUE_NUM, Message.GET_MAX_MEM_SLOTS):
            vmm.link.ask(message)
            vmm.settle()
            assert vmm.link.silent


@dialects
def test_the_event_queue_works_wherever_it_is_said_to_begin(host: HostFactory, dialect: type[Vmm]) -> None:
    # cloud-hypervisor begins it at the guest's available index: all buffers look used.
    with dialect(host().socket) as vmm:
        assert vmm.queue(EVENT).avail_index == vmm.driver.queue(EVENT).size
        for count in range(1, 4):
            vmm.play(numbered(FRAMES), starve=(FRAMES // 2, 0.1))
            assert vmm.wait_event("PCM_XRUN", after=count - 1)


def test_cloud_hypervisor_reconnects_without_asking_for_features_again(host: HostFactory) -> None:
    class Reconnecting(CloudHypervisor):
        def negotiate(self) -> None:
            self.link.tell(Message.SET_OWNER)
            self.accept(self.link.ask_u64(Message.GET_FEATURES))
            # As they were agreed on in its first connection.
            self.wants = Protocol.CONFIG | Protocol.MQ | Protocol.CONFIGURE_MEM_SLOTS | Protocol.REPLY_ACK
            self.agree(ask=False)

    computer = host()
    with CloudHypervisor(computer.socket) as vmm:
        assert vmm.play(numbered(480)).ok
        vmm.kill()
    with Reconnecting(computer.socket) as vmm:
        assert vmm.play(numbered(FRAMES)).ok
    assert locate(computer.takes()[1], FRAMES).holds(FRAMES)


def test_the_owner_may_be_set_over_and_over(host: HostFactory) -> None:
    computer = host()
    with Libkrun(computer.socket) as vmm:
        run = vmm.start_play(numbered(FRAMES))
        for messages in range(1, 5):
            vmm.link.tell(Message.SET_OWNER)
            assert run.wait_messages(messages, 10)
        assert run.wait().ok
    assert locate(computer.take(), FRAMES).holds(FRAMES)


def test_a_ring_that_is_enabled_is_looked_at_without_a_kick(host: HostFactory) -> None:
    with Crosvm(host().socket) as vmm:
        control = vmm.queue(CONTROL)
        vmm.link.ring(Message.SET_VRING_ENABLE, CONTROL, 0)
        vmm.settle()
        token = control.push([(1).to_bytes(4, "little"), 4])
        control.publish(kick=False)
        vmm.link.ring(Message.SET_VRING_ENABLE, CONTROL, 1)
        assert control.wait(1, 10)
        assert [used.token for used in control.reap()] == [token]


def test_without_the_bit_for_protocol_features_rings_begin_enabled(host: HostFactory) -> None:
    class Plain(Qemu):
        """A front end of the first days."""

        def accept(self, offered: int) -> None:
            super().accept(offered & ~PROTOCOL_FEATURES)

        def activate(self, bases: object) -> None:
            self.say_features()
            self.say_memory()
            for i in range(4):
                self.link.ring(Message.SET_VRING_NUM, i, self.driver.queue(i).size)
                self.link.ring(Message.SET_VRING_BASE, i, 0)
                self.say_address(i)
                self.say_kick(i)
                self.say_call(i)

        def deactivate(self) -> list[int]:
            return [self.link.ring_base(i) for i in range(4)]

    computer = host()
    with Plain(computer.socket) as vmm:
        assert vmm.play(numbered(FRAMES)).ok
        vmm.reset()
        assert vmm.play(numbered(FRAMES)).ok
    for take in computer.takes():
        assert locate(take, FRAMES).holds(FRAMES)
