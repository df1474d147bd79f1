"""A device written in Python, with a real guest: the random-number example."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from vsnd_hybrid.vhost import running

from examples.vhost_rng.rng import Rng
from tests.conftest import GuestFactory


def test_a_linux_guest_reads_the_devices_random_numbers(run_dir: Path, linux_guest: GuestFactory) -> None:
    if (
        "vhost-user-rng-pci"
        not in subprocess.run(
            ["qemu-system-x86_64", "-device", "help"], capture_output=True, text=True, check=True
        ).stdout
    ):
        pytest.skip("this QEMU has no vhost-user-rng-pci")
    given = bytearray()

    def numbers(count: int) -> bytes:
        """A sequence that nobody else has, and that we know."""
        block = b"".join(hashlib.sha256(f"{len(given)} {i}".encode()).digest() for i in range(count // 32 + 1))[:count]
        given.extend(block)
        return block

    socket = run_dir / "rng.sock"
    with running(Rng(numbers), socket) as rng:
        guest = linux_guest(["-chardev", f"socket,id=rng,path={socket}", "-device", "vhost-user-rng-pci,chardev=rng"])
        read = guest.run("cat /sys/class/misc/hw_random/rng_current; dd if=/dev/hwrng of=/tmp/numbers bs=64 count=16")
        assert "virtio_rng" in read.text
        got = guest.read_file("/tmp/numbers")
        assert rng.queue(0).running
    assert len(got) == 1024
    assert bytes(given).find(got[:64]) >= 0
    assert all(bytes(given).find(got[at : at + 32]) >= 0 for at in range(0, 1024, 32))
