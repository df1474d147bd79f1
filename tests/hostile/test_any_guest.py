"""Any sequence of what guests and their monitors do and should not do, over the real socket to the real daemon.

What holds after each step: the daemon lives; rings whose rules were kept answer; each head comes back once; a ring that
stands still stands at its used index and is not written to; memory, descriptors, threads and log are bounded.
`VSND_HOSTILE=20` makes it twenty times as many examples.
"""

from __future__ import annotations

import json
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

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
from vsnd_hybrid._core import GuestError

from tests.conftest import DaemonFactory
from tests.daemon import Daemon
from tests.hostile.attacker import BUFFERS, CONTROL, LOAD, QUEUES, SAVE, TX, Attacker
from tests.hostile.chains import SHAPES, Shape, shapes
from tests.hostile.descriptors import KINDS, made
from tests.vmms.link import Message

#: How much more than at the start the daemon may have.
MORE_KIB, MORE_DESCRIPTORS, MORE_THREADS, MORE_LOG = 128 << 10, 40, 8, 64 << 10

_LEFT_OUT = "left out"
queues = st.sampled_from(QUEUES)
kinds = st.sampled_from(sorted(KINDS))
values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.lists(st.integers(), max_size=3)
)
requests = st.binary(max_size=80) | st.builds(
    lambda words, tail: struct.pack(f"<{len(words)}I", *words) + tail,
    st.lists(
        st.sampled_from((0, 1, 2, 3, 24, 32, 480, 1920, 7680, 0x100, *range(0x101, 0x106), 0x200, 0x300, 2**32 - 1)),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from((b"", b"\2\5\7\0", b"\0\xff\xff\xff")),
)


def changed(state: bytes, way: list[int], value: object) -> bytes:
    """The state with the value that `way` leads to, however deep, replaced by another, or left out."""
    whole = json.loads(state)
    inside: Any = whole
    for step, at in enumerate(way):
        keys = list(inside) if isinstance(inside, dict) else range(len(inside))
        if not keys:
            break
        key = keys[at % len(keys)]
        if step + 1 < len(way) and isinstance(inside[key], dict | list):
            inside = inside[key]
        elif value == _LEFT_OUT:
            del inside[key]
            break
        else:
            inside[key] = value
            break
    return json.dumps(whole).encode()


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
        self.options: dict[str, Any] = {"event_idx": event_idx, "indirect": indirect, "queue_size": size}
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
        """Their region; rings lie in another."""
        self.guest.driver.remove_region(BUFFERS)
        self.guest.push(TX, SHAPES["only writable"], True)
        self.guest.driver.add_region(BUFFERS)

    @rule(queue=queues)
    def other_eventfds(self, queue: int) -> None:
        if queue not in self.guest.bases:
            self.guest.driver.replace_kick(queue)
            self.guest.driver.replace_call(queue)

    def _stand_still(self) -> list[int]:
        """Stop every ring that runs; which they were."""
        running = [queue for queue in QUEUES if queue not in self.guest.bases]
        for queue in running:
            self.guest.stop(queue)
        return running

    @rule()
    @precondition(lambda self: not self.guest.wild)
    def saved_and_restored(self) -> None:
        """As a monitor that takes a snapshot and goes on from it."""
        running = self._stand_still()
        state = self.guest.save_state()
        assert self.guest.load_state(state)
        for queue in running:
            self.guest.start(queue)

    @rule(
        way=st.lists(st.integers(0, 30), min_size=1, max_size=4),
        value=values | st.just(_LEFT_OUT),
        other=st.none() | st.binary(),
    )
    def any_state(self, way: list[int], value: object, other: bytes | None) -> None:
        """A state with something changed, or no state at all. Who knows what it changed, if it was taken."""
        self._stand_still()
        state = self.guest.save_state()
        self.guest.load_state(changed(state, way, value) if other is None else other)
        for queue in QUEUES:
            self.guest.driver.start_ring(queue, self.guest.bases[queue])
        self.guest.push(TX, SHAPES["only writable"], True)
        self._reconnect()

    @rule(way=st.sampled_from((SAVE, LOAD)), kind=kinds, still=st.booleans(), check=st.booleans())
    def state_through_anything(self, way: int, kind: str, still: bool, check: bool) -> None:
        if still:
            self._stand_still()
        with made(kind) as fd:
            self.guest.message(Message.SET_DEVICE_STATE_FD, struct.pack("<2I", way, 0), [fd])
        # What is not ready, and has no other end, is waited for.
        if check and "eventfd" not in kind:
            self.guest.is_state_good()
        self._reconnect()

    @rule()
    @precondition(lambda self: not self.guest.wild)
    def noted_in_flight(self) -> None:
        """The rings note from their next start on."""
        running = self._stand_still()
        self.guest.new_inflight(self.options["queue_size"])
        for queue in running:
            self.guest.start(queue)

    @rule(
        kind=kinds,
        noise=st.binary(max_size=300),
        about=st.tuples(
            st.sampled_from((0, 64, 4096, 66000, 1 << 20, 1 << 40, 2**64 - 1)),
            st.sampled_from((0, 1, 4096, 2**64 - 4096)),
            st.sampled_from((0, 1, 4, 65535)),
            st.sampled_from((0, 1, 3, 64, 32768)),
        ),
        shrinks=st.booleans(),
    )
    def noted_anywhere(self, kind: str, noise: bytes, about: tuple[int, int, int, int], shrinks: bool) -> None:
        """What an earlier daemon is said to have noted there is noise; and then the memory may go."""
        self._stand_still()
        with made(kind) as fd:
            with suppress(OSError):
                os.set_blocking(fd, False)
                os.pwrite(fd, noise, 0)
            self.guest.message(Message.SET_INFLIGHT_FD, struct.pack("<2Q2H4x", *about), [fd])
            with suppress(OSError):
                if shrinks:
                    os.truncate(fd, 0)
            with suppress(GuestError):  # the connection has ended
                for queue in QUEUES:
                    self.guest.driver.start_ring(queue, self.guest.bases[queue])
                self.guest.push(TX, SHAPES["only writable"], True)
        self._reconnect()

    @rule(queue=queues, kind=kinds, which=st.sampled_from((Message.SET_VRING_KICK, Message.SET_VRING_CALL)))
    def rung_through_anything(self, queue: int, kind: str, which: Message) -> None:
        """The other rings must not notice, nor the next front end."""
        with made(kind) as fd:
            self.guest.message(which, struct.pack("<Q", queue), [fd])
            self.guest.push(queue, SHAPES["only writable"], True)
            other = CONTROL if queue == TX else TX
            if self.guest.usable(other) and self.guest.message(Message.GET_FEATURES, b"") is not None:
                head = self.guest.push(other, SHAPES["only writable"], True)
                if head is not None:
                    self.guest.await_back(other, head)
        self._reconnect()

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
