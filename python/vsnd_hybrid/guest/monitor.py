"""What a virtual machine monitor does to a device while its guest runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vsnd_hybrid._core import SoundDriver

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Monitor:
    """The monitor's part of `VirtualGuest`: memory, rings, resets, the end."""

    driver: SoundDriver

    def read(self, addr: int, n: int) -> bytes:
        """A copy of guest memory. GuestError if any of it is outside."""
        return self.driver.read(addr, n)

    def write(self, addr: int, data: Buffer) -> None:
        """Write to guest memory. GuestError if any of it is outside."""
        self.driver.write(addr, data)

    def alloc(self, n: int, align: int = 16) -> int:
        """Take memory for a buffer; returns its guest-physical address."""
        return self.driver.alloc(n, align)

    def free(self, addr: int, n: int) -> None:
        """Give back what `alloc` took, with the same size."""
        self.driver.free(addr, n)

    def stop_rings(self) -> list[int]:
        """Stop every ring as a paused QEMU does (ENABLE 0, then GET_VRING_BASE); returns the bases.

        Streams wait from here to `start_rings`.
        """
        return self.driver.stop_rings()

    def start_rings(self, bases: Sequence[int] = (0, 0, 0, 0)) -> None:
        """Start every ring at its base, and let streams go on. Returns when the device has taken it."""
        self.driver.start_rings(list(bases))

    def stop_ring(self, index: int) -> int:
        """GET_VRING_BASE of one ring; returns the base."""
        return self.driver.stop_ring(index)

    def start_ring(self, index: int, base: int = 0) -> None:
        """Start one ring."""
        self.driver.start_ring(index, base)

    def enable(self, index: int, on: bool) -> None:
        """SET_VRING_ENABLE of one ring. Returns when the device has taken it."""
        self.driver.enable(index, on)

    def hold(self, on: bool) -> None:
        """Stop the virtual processors: streams take and offer nothing; or let them go on."""
        self.driver.hold(on)

    def reset(self, style: str = "qemu") -> None:
        """Reboot the guest: streams are cut off, memory is zeroed, the rings begin anew.

        `style` is how the monitor says so: ``"qemu"`` (ENABLE 0, GET_VRING_BASE, SET_FEATURES, bases 0), ``"crosvm"`` (the
        same without SET_FEATURES), ``"libkrun"`` (ENABLE 0 only; SET_OWNER again), ``"reset-device"`` (RESET_DEVICE).
        """
        self.driver.reset(style)

    def remap(self) -> None:
        """SET_MEM_TABLE anew, with the same memory, while rings run."""
        self.driver.remap()

    def remove_region(self, region: int) -> None:
        """REM_MEM_REG of a region, counted from 0. Rings lie in the first, buffers in the last."""
        self.driver.remove_region(region)

    def add_region(self, region: int) -> None:
        """ADD_MEM_REG of a region that was removed."""
        self.driver.add_region(region)

    def replace_kick(self, index: int) -> None:
        """A new kick eventfd for a running ring."""
        self.driver.replace_kick(index)

    def replace_call(self, index: int) -> None:
        """A new call eventfd for a running ring."""
        self.driver.replace_call(index)

    def send_message(
        self, code: int, body: Buffer = b"", *, flags: int = 0, fds: Sequence[int] = (), reply: bool = False
    ) -> bytes:
        """Send any vhost-user message (`flags` without the version); with `reply`, returns the body of the answer."""
        return self.driver.message(code, body, flags=flags, fds=list(fds), reply=reply)

    def wait_closed(self, timeout: float = 1.0) -> bool:
        """Wait until the device closed the connection. False: not within `timeout` s."""
        return self.driver.wait_closed(timeout)

    def kill(self) -> None:
        """Cut the connection without a word, as a killed monitor does."""
        self.driver.kill()

    def close(self) -> None:
        """Stop the rings, then close the connection. GuestError if the device does not answer."""
        self.driver.close()
