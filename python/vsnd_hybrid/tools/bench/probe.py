"""What the kernel knows about a process and its children: CPU time in ns, context switches, threads, memory, system calls.

CPU time is the process clock's, which counts threads that have ended too; `/proc/PID/stat` has hundredths of a second only.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


class Snapshot(NamedTuple):
    """Counters at one moment."""

    time_ns: int
    cpu_ns: int
    voluntary: int
    involuntary: int
    threads: int

    def since(self, before: Snapshot) -> Snapshot:
        """What was added since `before`; `threads` as they are now."""
        return Snapshot(
            self.time_ns - before.time_ns,
            self.cpu_ns - before.cpu_ns,
            self.voluntary - before.voluntary,
            self.involuntary - before.involuntary,
            self.threads,
        )


class Memory(NamedTuple):
    """Bytes. `pss`: what is shared counts in parts; `private`: what would be free if the process ended."""

    rss: int
    pss: int
    private: int


def processes(pid: int) -> list[int]:
    """`pid` and all of its descendants."""
    found = [pid]
    for parent in found:
        with suppress(*_GONE):
            for task in Path(f"/proc/{parent}/task").iterdir():
                with suppress(*_GONE):
                    found += map(int, (task / "children").read_text().split())
    return found


def _cpu_ns(pid: int) -> int:
    # The id of a process's CPU clock, as clock_getcpuclockid(3) makes it.
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0


def snapshot(pids: Iterable[int]) -> Snapshot:
    """Of these processes together."""
    pids = list(pids)
    voluntary = involuntary = threads = 0
    for pid in pids:
        with suppress(*_GONE):
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(*_GONE):
                    text = (task / "status").read_text()
                    threads += 1
                    voluntary += _field(text, "voluntary_ctxt_switches")
                    involuntary += _field(text, "nonvoluntary_ctxt_switches")
    return Snapshot(time.monotonic_ns(), sum(map(_cpu_ns, pids)), voluntary, involuntary, threads)


def memory(pids: Iterable[int]) -> Memory | None:
    """Of these processes together; None where the kernel does not tell."""
    total = Memory(0, 0, 0)
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            return None
        private = sum(_field(text, name) for name in ("Private_Clean", "Private_Dirty", "Private_Hugetlb"))
        one = Memory(_field(text, "Rss"), _field(text, "Pss"), private)
        total = Memory(*(a + b * 1024 for a, b in zip(total, one, strict=True)))
    return total


def megabytes(memory: Memory | None) -> dict[str, float]:
    """The same as figures."""
    if memory is None:
        return {}
    return {"rss_mb": memory.rss / 1e6, "pss_mb": memory.pss / 1e6, "private_mb": memory.private / 1e6}


def _field(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


def syscalls(pids: Iterable[int], seconds: float) -> tuple[int, str] | None:
    """System calls of these processes within `seconds`, and the name of the tool that counted; None without a tool.

    perf is preferred: it counts without stopping the process at each call, as strace does.
    """
    listed = ",".join(map(str, pids))
    return _perf(listed, seconds) or _strace(listed, seconds)


def _perf(pids: str, seconds: float) -> tuple[int, str] | None:
    if shutil.which("perf") is None:
        return None
    command = ["perf", "stat", "-x", ";", "-e", "raw_syscalls:sys_enter", "-p", pids, "--", "sleep", f"{seconds:g}"]
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 10, check=False)
        if found := re.search(r"^(\d+);", done.stderr, re.MULTILINE):
            return int(found[1]), "perf"
    return None


def _strace(pids: str, seconds: float) -> tuple[int, str] | None:
    if shutil.which("strace") is None:
        return None
    command = ["strace", "-c", "-f", "-q", "-o", "/dev/stdout"]
    for pid in pids.split(","):
        command += ["-p", pid]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as tracer:
        with suppress(subprocess.TimeoutExpired):
            tracer.wait(seconds)
        tracer.send_signal(signal.SIGINT)
        try:
            table = tracer.communicate(timeout=10)[0]
        except subprocess.TimeoutExpired:
            tracer.kill()
            return None
    found = re.search(r"^\S+\s+\S+\s+(?:\S+\s+)?(\d+)(?:\s+\d+)?\s+total$", table, re.MULTILINE)
    return (int(found[1]), "strace") if found else None
