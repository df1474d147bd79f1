"""What each virtual machine monitor says, in the order of its sources. A class is one monitor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vsnd_hybrid.wire import Config

from tests.vmms.link import Inflight, Message, Protocol, Region
from tests.vmms.vmm import GIB, INDIRECT_DESC, KIB, MIB, QUEUES, Vmm


class Qemu(Vmm):
    """QEMU 10, `vhost-user-snd-pci`: memory slots are told once and kept."""

    name = "qemu"
    wants = Protocol((1 << 20) - 1) & ~Protocol.INBAND_NOTIFICATIONS & ~Protocol.XEN_MMAP
    acked = frozenset({Message.SET_MEM_TABLE, Message.ADD_MEM_REG, Message.REM_MEM_REG})
    memory = ((0, 640 * KIB), (768 * KIB, 16 * MIB), (4 * GIB, 4 * MIB), (5 * GIB, 4 * MIB))
    kicked_before = True

    def negotiate(self) -> None:
        link = self.link
        self._told: list[Region] = []
        link.ask(Message.GET_FEATURES)
        self.agree()
        link.ask(Message.GET_QUEUE_NUM)
        if Protocol.CONFIGURE_MEM_SLOTS in self.protocol:
            link.ask(Message.GET_MAX_MEM_SLOTS)
        link.tell(Message.SET_OWNER)
        self.accept(link.ask_u64(Message.GET_FEATURES))

    def read_config(self) -> Config:
        # The call descriptors come with the device, long before its guest has a driver.
        for i in QUEUES:
            self.say_call(i)
            self.link.ring_fd(Message.SET_VRING_ERR, i, self.driver.queue(i).call_fd)
        return self.config_bytes(12)

    def activate(self, bases: Sequence[int]) -> None:
        self.say_features()
        self.say_memory()
        for i in QUEUES:
            self.link.ring(Message.SET_VRING_NUM, i, self.driver.queue(i).size)
            self.link.ring(Message.SET_VRING_BASE, i, bases[i])
            self.say_address(i)
            self.say_kick(i)
            self.say_call(i)
        for i in QUEUES:
            self.link.ring(Message.SET_VRING_ENABLE, i, 1)

    def say_memory(self) -> None:
        for region in [r for r in self._told if r not in self.regions]:
            self.link.remove_memory(region)
        for region in [r for r in self.regions if r not in self._told]:
            self.link.add_memory(region)
        self._told = list(self.regions)

    def deactivate(self) -> list[int]:
        for i in QUEUES:
            self.link.ring(Message.SET_VRING_ENABLE, i, 0)
        return [self.link.ring_base(i) for i in QUEUES]

    def suspend(self) -> None:
        self._bases = self.deactivate()

    def wake(self) -> None:
        self.activate(self._bases)

    def plug(self) -> None:
        """Plug the last memory region in."""
        self.regions.append(Region(*self.driver.slots[self.plugged]))
        self.say_memory()

    def unplug(self) -> None:
        """Pull it out."""
        self.regions.pop()
        self.say_memory()


class OldQemu(Qemu):
    """QEMU without memory slots: the whole table at each start, and at each change."""

    name = "qemu-table"
    wants = Qemu.wants & ~Protocol.CONFIGURE_MEM_SLOTS

    def say_memory(self) -> None:
        self.link.memory(self.regions)


class Crosvm(Vmm):
    """crosvm: no acknowledgements, the largest queues, no SET_FEATURES after a reset."""

    name = "crosvm"
    wants = Protocol.CONFIG | Protocol.MQ | Protocol.BACKEND_REQ | Protocol.DEVICE_STATE | Protocol.REPLY_ACK
    hides = INDIRECT_DESC
    size = 32768
    memory = ((0, 16 * MIB), (4 * GIB, 4 * MIB))
    plugged = 2

    def negotiate(self) -> None:
        self.link.tell(Message.SET_OWNER)
        self.accept(self.link.ask_u64(Message.GET_FEATURES))
        self.agree()
        self.link.ask(Message.GET_QUEUE_NUM)

    def read_config(self) -> Config:
        self.say_features()
        return self.config_bytes(4, 4, 4, flags=1)

    def activate(self, bases: Sequence[int]) -> None:
        self.link.memory(self.regions)
        for i in QUEUES:
            self.link.ring(Message.SET_VRING_NUM, i, self.driver.queue(i).size)
            self.say_address(i)
            self.link.ring(Message.SET_VRING_BASE, i, bases[i])
            self.say_call(i)
            self.say_kick(i)
            self.link.ring(Message.SET_VRING_ENABLE, i, 1)

    def deactivate(self) -> list[int]:
        bases = []
        for i in QUEUES:
            self.link.ring(Message.SET_VRING_ENABLE, i, 0)
            bases.append(self.link.ring_base(i))
        return bases

    def suspend(self) -> None:
        self._bases = self.deactivate()

    def wake(self) -> None:
        self.activate(self._bases)

    def snapshot(self) -> bytes:
        return self.link.save_state()

    def negotiate_again(self) -> None:
        self.negotiate()

    def load(self, state: bytes) -> None:
        # The rings follow when the machine wakes.
        self.say_features()
        self.link.load_state(state)


class CloudHypervisor(Vmm):
    """cloud-hypervisor: every message acknowledged, rings begin at the guest's available index, a pause is ENABLE 0 only."""

    name = "cloud-hypervisor"
    wants = (
        Protocol.CONFIG | Protocol.MQ | Protocol.CONFIGURE_MEM_SLOTS | Protocol.REPLY_ACK | Protocol.INFLIGHT_SHMFD
        | Protocol.LOG_SHMFD | Protocol.DEVICE_STATE | Protocol.BACKEND_REQ
    )  # fmt: skip
    acked = frozenset(Message)
    _inflight: Inflight | None = None
    memory = ((0, 640 * KIB), (MIB, 16 * MIB), (4 * GIB, 4 * MIB), (5 * GIB, 4 * MIB))

    def negotiate(self) -> None:
        self.link.tell(Message.SET_OWNER)
        self.accept(self.link.ask_u64(Message.GET_FEATURES))
        self.agree()
        self.link.ask(Message.GET_QUEUE_NUM)

    def read_config(self) -> Config:
        return self.config_bytes(4, 4, 4)

    def activate(self, bases: Sequence[int]) -> None:
        self.say_features()
        self.link.memory(self.regions)
        self.start_rings()

    def kill(self) -> None:
        super().kill()
        self._forget_inflight()

    def _forget_inflight(self) -> None:
        if self._inflight is not None:
            os.close(self._inflight.fd)
            self._inflight = None

    def start_rings(self, bases: Sequence[int] = ()) -> None:
        for i in QUEUES:
            self.link.ring(Message.SET_VRING_NUM, i, self.driver.queue(i).size)
        if Protocol.INFLIGHT_SHMFD in self.protocol:
            if self._inflight is None:
                self._inflight = self.link.inflight(len(QUEUES), self.driver.queue(0).size)
            self.link.set_inflight(self._inflight)
        for i in QUEUES:
            self.say_address(i)
            self.link.ring(Message.SET_VRING_BASE, i, self.driver.queue(i).avail_index)
            self.say_call(i)
            self.say_kick(i)
        for i in QUEUES:
            self.link.ring(Message.SET_VRING_ENABLE, i, 1)

    def deactivate(self) -> list[int]:
        self.suspend()
        return [self.link.ring_base(i) for i in QUEUES]

    def restart(self) -> None:
        # Each activation asks for an area of its own.
        self._forget_inflight()
        self.link.memory(self.regions)
        self.start_rings()

    def negotiate_again(self) -> None:
        # What was agreed on before is not asked for again.
        self.link.tell(Message.SET_OWNER)
        self.link.ask(Message.GET_FEATURES)
        self.agree(ask=False)

    def reconnect(self, device: Path) -> None:
        """The device is gone, and there is another: the guest, which runs, does not notice."""
        self.link.socket.close()
        self._connect(device)
        self.negotiate_again()
        self.activate([])

    def snapshot(self) -> bytes:
        for i in QUEUES:
            self.link.ring_base(i)
        return self.link.save_state()

    def load(self, state: bytes) -> None:
        self._forget_inflight()
        self.link.load_state(state)
        self.activate([])

    def suspend(self) -> None:
        for i in QUEUES:
            self.link.ring(Message.SET_VRING_ENABLE, i, 0)

    def wake(self) -> None:
        for i in QUEUES:
            self.link.ring(Message.SET_VRING_ENABLE, i, 1)

    def plug(self) -> None:
        """Plug the last memory region in."""
        self.regions.append(Region(*self.driver.slots[self.plugged]))
        self.link.add_memory(self.regions[-1])


class Libkrun(Vmm):
    """libkrun: one call descriptor for all queues, memory before features, a reset is ENABLE 0 and everything anew."""

    name = "libkrun"
    wants = Protocol.CONFIG | Protocol.MQ
    #: The last is a shared-memory window.
    memory = ((0, 16 * MIB), (4 * GIB, 4 * MIB), (8 * GIB, 4 * MIB))
    one_call = True

    def negotiate(self) -> None:
        self.accept(self.link.ask_u64(Message.GET_FEATURES))
        self.agree()
        self.link.ask(Message.GET_QUEUE_NUM)

    def read_config(self) -> Config:
        return self.config_bytes(4, 4, 4)

    def activate(self, bases: Sequence[int]) -> None:
        self.link.tell(Message.SET_OWNER)
        self.link.memory(self.regions)
        self.say_features()
        for i in QUEUES:
            self.link.ring(Message.SET_VRING_NUM, i, self.driver.queue(i).size)
            self.link.ring(Message.SET_VRING_BASE, i, 0)
            self.say_address(i)
            self.say_kick(i)
            self.say_call(i)
            self.link.ring(Message.SET_VRING_ENABLE, i, 1)

    def deactivate(self) -> list[int]:
        for i in QUEUES:
            self.link.ring(Message.SET_VRING_ENABLE, i, 0)
        return []


DIALECTS: tuple[type[Vmm], ...] = (Qemu, OldQemu, Crosvm, CloudHypervisor, Libkrun)
#: Those that can pause a machine.
PAUSING: tuple[type[Vmm], ...] = (Qemu, OldQemu, Crosvm, CloudHypervisor)
