"""Any sequence of what guests and their monitors do and should not do, over the real socket to the real daemon.

What holds after each step: the daemon lives; rings whose rules were kept answer; each head comes back once; a ring that
stands still stands at its used index and is not written to; memory, descriptors, threads and log are bounded.
`VSND_HOSTILE=20` makes it twenty times as many examples.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import DaemonFactory
from tests.daemon import Daemon
from tests.hostile.attacker import CONTROL, QUEUES, TX, Attacker
from tests.hostile.chains import SHAPES, Shape, shapes

#: How much more than at the start the daemon may have.
MORE_KIB, MORE_DESCRIPTORS, MORE_THREADS, MORE_LOG = 128 << 10, 40, 8, 64 << 10

queues = st.sampled_from(QUEUES)
requests = st.binary(max_size=80) | st.builds(
    lambda words, tail: struct.pack(f"<{len(words)}I", *words) + tail,
    st.lists(
        st.sampled_from((0, 1, 2, 3, 24, 32, 480, 1920, 7680, 0x100, *range(0x101, 0x106), 0x200, 0x300, 2**32 - 1)),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from((b"", b"\2\5\7\0", b"\0\xff\xff\xff")),
)


class Usage:
    """What the daemon has of the host."""

    def __init__(self, pid: int) -> None:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        self.rss_kib = int(status["VmRSS"].split()[0])
        self.threads = int(status["Threads"])
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))


class AnyGuest(RuleBasedStateMachine):
    """A guest and its monitor that do as they please, also against the rules."""

    #: The daemon of all examples, and what it had before the first.
    daemon: ClassVar[Daemon]
    before: ClassVar[Usage]
    guest: Attacker

    def teardown(self) -> None:
        if hasattr(self, "guest"):
            self.guest.close()

    @initialize(event_idx=st.booleans(), indirect=st.booleans(), size=st.sampled_from((4, 64, 256)))
    def connect(self, event_idx: bool, indirect: bool, size: int) -> None:
        self.options = {"event_idx": event_idx, "indirect": indirect, "queue_size": size}
        self.guest = Attacker(self.daemon.socket, **self.options)

    # ------------------------------------------------------------ the guest

    @rule(queue=queues, shape=shapes, kick=st.sampled_from((None, True, False)))
    def chain(self, queue: int, shape: Shape, kick: bool | None) -> None:
        head = self.guest.push(queue, shape, kick)
        if queue == CONTROL and self.guest.usable(CONTROL) and head is not None and kick is not False:
            self.guest.await_back(CONTROL, head)

    @rule(data=requests, room=st.sampled_from((4, 8, 100, 4096)))
    @precondition(lambda self: self.guest.usable(CONTROL))
    def request(self, data: bytes, room: int) -> None:
        answer = self.guest.request(data, room)
        if answer:
            assert struct.unpack_from("<I", answer)[0] in range(0x8000, 0x8004)

    @rule(command=st.sampled_from(("set", 0x102, 0x103, 0x104, 0x105)), stream=st.integers(0, 1))
    @precondition(lambda self: self.guest.usable(CONTROL))
    def command(self, command: str | int, stream: int) -> None:
        if isinstance(command, str):
            data = struct.pack("<IIIIIBBBB", 0x101, stream, 7680, 1920, 0, 2, 5, 7, 0)
        else:
            data = struct.pack("<II", command, stream)
        self.guest.request(data)

    @rule(stream=st.integers(0, 2), size=st.sampled_from((0, 1, 480, 1920, 4096)), count=st.integers(1, 5))
    def play(self, stream: int, size: int, count: int) -> None:
        for _ in range(count):
            self.guest.play(stream, size)

    @rule(queue=queues, head=st.integers(0, 65535))
    def any_head(self, queue: int, head: int) -> None:
        self.guest.wild.add(queue)
        self.guest.queue(queue).offer(head)
        self.guest.queue(queue).publish(True)

    @rule(queue=queues, index=st.integers(0, 65535))
    def index_jump(self, queue: int, index: int) -> None:
        self.guest.wild.add(queue)
        self.guest.queue(queue).set_avail_index(index)
        self.guest.queue(queue).kick()

    @rule(queue=queues, count=st.integers(1, 200))
    def kicks(self, queue: int, count: int) -> None:
        for _ in range(count):
            self.guest.queue(queue).kick()

    # ------------------------------------------------------------ the monitor

    @rule(queue=queues)
    def stop_or_start(self, queue: int) -> None:
        if queue not in self.guest.bases:
            self.guest.stop(queue)
        elif queue not in self.guest.wild:
            self.guest.start(queue)

    @rule(queue=queues, on=st.booleans())
    def enable(self, queue: int, on: bool) -> None:
        """Off and on again, or on once more."""
        if queue not in self.guest.bases and queue not in self.guest.wild:
            if not on:
                self.guest.driver.enable(queue, False)
            self.guest.driver.enable(queue, True)

    @rule(style=st.sampled_from(("qemu", "crosvm", "libkrun", "reset-device")))
    def reset(self, style: str) -> None:
        self.guest.reset(style)

    @rule()
    def remap(self) -> None:
        self.guest.driver.remap()

    @rule()
    def buffers_vanish_and_return(self) -> None:
        """The second region, where buffers lie; rings lie in the first."""
        self.guest.driver.remove_region(1)
        self.guest.push(TX, SHAPES["only writable"], True)
        self.guest.driver.add_region(1)

    @rule(queue=queues)
    def other_eventfds(self, queue: int) -> None:
        if queue not in self.guest.bases:
            self.guest.driver.replace_kick(queue)
            self.guest.driver.replace_call(queue)

    @rule(code=st.integers(0, 60), body=st.binary(max_size=60), flags=st.sampled_from((0, 4, 8, 0xFFFFFFF0)))
    def any_message(self, code: int, body: bytes, flags: int) -> None:
        """Who knows what it changed: the next front end knows nothing of it."""
        self.guest.driver.message(code, body, flags=flags)
        self._reconnect()

    @rule(data=st.binary(min_size=1, max_size=300))
    def any_bytes(self, data: bytes) -> None:
        self.guest.driver.send_bytes(data)
        self._reconnect()

    @rule()
    def disconnect(self) -> None:
        self._reconnect()

    def _reconnect(self) -> None:
        self.guest.close()
        self.guest = Attacker(self.daemon.socket, **self.options)

    # ------------------------------------------------------------ what holds

    @invariant()
    def the_daemon_lives_within_bounds(self) -> None:
        assert self.daemon.process.running, self.daemon.log()
        now = Usage(self.daemon.pid)
        assert now.rss_kib <= self.before.rss_kib + MORE_KIB
        assert now.descriptors <= self.before.descriptors + MORE_DESCRIPTORS
        assert now.threads <= self.before.threads + MORE_THREADS
        assert self.daemon.process.log_path.stat().st_size <= MORE_LOG

    @invariant()
    def rings_keep_their_word(self) -> None:
        self.guest.reap()
        self.guest.check_stillness()
        self.guest.check_alive()


def test_any_guest_leaves_the_daemon_and_the_other_rings_as_they_were(daemon: DaemonFactory) -> None:
    device = AnyGuest.daemon = daemon("--backend", "null")
    Attacker(device.socket).close()
    AnyGuest.before = Usage(device.pid)
    run_state_machine_as_test(
        AnyGuest,
        settings=settings(
            max_examples=20 * int(os.environ.get("VSND_HOSTILE", "1")),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    assert "Traceback" not in device.log()
