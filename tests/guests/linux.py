"""A Linux guest under QEMU: booted in about two seconds, told what to do over virtio-serial, always ended.

The guest's RAM is shared memory, so vhost-user devices work. Emulation is the default because hardware virtualisation
cannot be counted on where tests run; VSND_GUEST_ACCEL=kvm chooses it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.guests.channel import Channel, Finished, Job
from tests.guests.image import Image, newc
from tests.processes import Process

KERNEL_ARGUMENTS = (
    "console=ttyS0 panic=-1 quiet nokaslr mitigations=off no_timer_check cryptomgr.notests random.trust_cpu=on "
    "rcupdate.rcu_expedited=1"
)
#: Commands that can run at once.
CHANNELS = 4
#: What the kernel says when the device or its driver misbehaves.
COMPLAINTS = ("virtio_snd", "virtsnd", "BUG:", "WARNING:", "Oops", "Call Trace", "rcu_sched", "hung_task")


def vhost_user_sound(path: Path) -> list[str]:
    """QEMU's arguments for the device that a daemon serves at `path`."""
    return ["-chardev", f"socket,id=snd,path={path}", "-device", "vhost-user-snd-pci,chardev=snd"]


def machine(image: Image, initramfs: Path, *, memory_mib: int = 256, cpus: int = 1, append: str = "") -> list[str]:
    """QEMU's command line for the machine alone."""
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-accel", os.environ.get("VSND_GUEST_ACCEL") or "tcg,thread=multi"),
        *("-machine", "q35,memory-backend=ram", "-m", str(memory_mib), "-smp", str(cpus)),
        *("-object", f"memory-backend-memfd,id=ram,size={memory_mib}M,share=on"),
        *("-kernel", str(image.kernel), "-initrd", str(initramfs)),
        *("-append", f"{KERNEL_ARGUMENTS} {append}"),
    ]


def write_initramfs(image: Image, files: Mapping[str, bytes], path: Path) -> None:
    """The image's root file system with `files` added, at absolute paths in the guest."""
    extra = [newc.file(name.lstrip("/"), data, executable=data.startswith(b"#!")) for name, data in files.items()]
    with image.initramfs.open("rb") as base, path.open("wb") as out:
        shutil.copyfileobj(base, out)
        out.write(newc.archive(extra))


class LinuxGuest:
    """A guest, running from `start` to `close`.

    Parameters
    ----------
    image
        What to boot.
    qemu
        More arguments for QEMU: the devices under test.
    files
        Files for the guest: absolute paths, or names in its working directory.
    memory_mib, cpus
        Size of the machine.
    """

    def __init__(
        self,
        image: Image,
        qemu: Sequence[str] = (),
        files: Mapping[str, bytes] | None = None,
        *,
        memory_mib: int = 256,
        cpus: int = 1,
    ) -> None:
        self._image, self._qemu_arguments = image, list(qemu)
        self._files = {
            name if name.startswith("/") else f"/rig/work/{name}": data for name, data in (files or {}).items()
        }
        self._memory_mib, self._cpus = memory_mib, cpus
        # A short path: a Unix socket's has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="vsnd-guest-", dir="/tmp"))
        self._process: Process | None = None
        self._channels: list[Channel] = []
        self._qmp: socket.socket | None = None

    # ------------------------------------------------------------ life

    def start(self, timeout_s: float = 60) -> Self:
        """Boot, and wait until commands are served."""
        initramfs = self.directory / "initramfs"
        write_initramfs(self._image, self._files, initramfs)
        command = machine(
            self._image, initramfs, memory_mib=self._memory_mib, cpus=self._cpus, append=f"rig.ports={CHANNELS}"
        )
        command += ["-chardev", f"file,id=console,path={self.directory}/console", "-serial", "chardev:console"]
        command += ["-chardev", f"socket,id=qmp,path={self.directory}/qmp,server=on,wait=off"]
        command += ["-mon", "chardev=qmp,mode=control", "-device", f"virtio-serial-pci,max_ports={CHANNELS + 1}"]
        for n in range(CHANNELS):
            command += ["-chardev", f"socket,id=rig{n},path={self.directory}/rig.{n},server=on,wait=off"]
            command += ["-device", f"virtserialport,chardev=rig{n},name=rig.{n}"]
        # Linux 6.12 fails a stream with EIO if it makes no progress for 100 ms.
        self._process = Process([*command, *self._qemu_arguments], self.directory / "qemu.log", prefer=True)
        self._channels = [Channel(self.directory / f"rig.{n}", self._process) for n in range(CHANNELS)]
        self._await_ready(timeout_s)
        return self

    def kill(self) -> None:
        """End QEMU at once, as a crash would."""
        self._running.kill()

    def power_off(self, timeout_s: float = 20) -> None:
        """Have the guest switch itself off; waits until QEMU has ended."""
        self._free_channel().start("sync; poweroff -f")
        self._running.wait(timeout_s)

    def close(self) -> None:
        """End QEMU and remove what it left. Idempotent."""
        if self._process:
            self._process.close()
        for channel in self._channels:
            channel.close()
        if self._qmp:
            self._qmp_lines.close()
            self._qmp.close()
            self._qmp = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException as error:
            error.add_note(f"console:\n{self.console()}")
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------ commands

    @property
    def idle(self) -> bool:
        """It runs, and no command does."""
        return self._running.running and all(channel.job is None for channel in self._channels)

    def start_job(self, script: str) -> Job:
        """Have a shell script run beside others (at most `CHANNELS`)."""
        return self._free_channel().start(script)

    def run(self, script: str, timeout_s: float = 60) -> Finished:
        """Run a shell script to its end; CommandFailed unless its status is 0."""
        return self.start_job(script).check(timeout_s)

    def read_file(self, path: str) -> bytes:
        """A file of the guest; relative to its working directory."""
        return self.run(f"cat '{path}'").out

    def await_guest(self, condition: str, timeout_s: float = 30) -> None:
        """Wait until a shell condition holds in the guest."""
        self.run(f"until {condition}; do usleep 10000; done", timeout_s)

    def kernel_log(self) -> str:
        return self.run("dmesg").text

    def complaints(self) -> list[str]:
        """Lines of the kernel's log that a sound device which works never causes."""
        return [line for line in self.kernel_log().splitlines() if any(word in line for word in COMPLAINTS)]

    def console(self) -> str:
        """What the guest's console has shown."""
        path = self.directory / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    # ------------------------------------------------------------ the machine

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Run a QMP command; returns what it returned. RuntimeError if QEMU refuses it."""
        if self._qmp is None:
            self._qmp = socket.socket(socket.AF_UNIX)
            self._qmp.settimeout(10)
            self._qmp.connect(str(self.directory / "qmp"))
            self._qmp_lines = self._qmp.makefile("rb")
            self._qmp_lines.readline()
            self.qmp("qmp_capabilities")
        self._qmp.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            answer = json.loads(self._qmp_lines.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(f"QMP {command}: {answer['error']['desc']}")

    def stop(self) -> None:
        """Pause the machine."""
        self.qmp("stop")

    def cont(self) -> None:
        """Let a paused machine go on."""
        self.qmp("cont")

    def reset(self, timeout_s: float = 60) -> None:
        """Press the reset button; waits until the guest serves commands again. Jobs that ran are lost."""
        # Otherwise a reset ends QEMU, which is right for a kernel that panicked.
        self.qmp("set-action", reboot="reset")
        self.qmp("system_reset")
        self._await_ready(timeout_s)
        self.qmp("set-action", reboot="shutdown")

    # ------------------------------------------------------------ inside

    @property
    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError("the guest was not started")
        return self._process

    def _await_ready(self, timeout_s: float) -> None:
        for channel in self._channels:
            channel.await_ready(timeout_s)

    def _free_channel(self) -> Channel:
        free = next((channel for channel in self._channels if channel.job is None), None)
        if free is None:
            raise RuntimeError(f"{CHANNELS} jobs run already: wait for one")
        return free
