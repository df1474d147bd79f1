"""Any sequence of commands, messages, kicks, pauses, resets and new front ends: the device answers by its table, and keeps its word.

What holds throughout: a command is answered as `LIFE` says; each message comes back exactly once, in its own life; a stopped
ring's base is its used index; after RELEASE no message of the stream is missing.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from vsnd_hybrid._core import GuestError, SoundDriver
from vsnd_hybrid.backends.base import Direction
from vsnd_hybrid.device import DeviceConfig, SoundDevice, StreamConfig
from vsnd_hybrid.device.life import LIFE, State
from vsnd_hybrid.vhost import running
from vsnd_hybrid.wire import Request, Status

from tests.device.driver import PERIOD, POLLING, RX, TX, XRUNS, Driver
from tests.device.engines import TapBackend

DIRECTIONS = (Direction.OUTPUT, Direction.OUTPUT, Direction.INPUT)
streams = st.integers(0, len(DIRECTIONS) - 1)
commands = st.sampled_from((Request.PCM_PREPARE, Request.PCM_START, Request.PCM_STOP, Request.PCM_RELEASE))


class AnySequence(RuleBasedStateMachine):
    """A driver and its monitor that do as they please, within the rules of the ring."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._directory = Path(tempfile.mkdtemp(prefix="vsnd-", dir="/tmp"))
        self._stack.callback(shutil.rmtree, self._directory)
        backend = TapBackend()
        config = DeviceConfig(streams=tuple(StreamConfig(direction=d, backend=backend) for d in DIRECTIONS))
        self._stack.enter_context(running(SoundDevice(config), self._directory / "s"))
        self.driver: Driver

    def teardown(self) -> None:
        self.driver.native.kill()
        self._stack.close()

    def _new_life(self) -> None:
        self.states = [State.NEW] * len(DIRECTIONS)
        #: Messages that are away: the stream of each, by queue and head.
        self.away: dict[tuple[int, int], int] = {}

    @initialize(event_idx=st.booleans(), indirect=st.booleans(), size=st.sampled_from((16, 64, 256)))
    def connect(self, event_idx: bool, indirect: bool, size: int) -> None:
        self.driver = Driver(
            SoundDriver(str(self._directory / "s"), event_idx=event_idx, indirect=indirect, queue_size=size)
        )
        self._new_life()

    # ------------------------------------------------------------ the driver

    @rule(stream=streams, period=st.sampled_from((PERIOD, 480)), features=st.sampled_from((0, POLLING, XRUNS)))
    def set_params(self, stream: int, period: int, features: int) -> None:
        answer = self.driver.set_params(stream, period_bytes=period, buffer_bytes=4 * period, features=features)
        self._answered(stream, Request.PCM_SET_PARAMS, answer)

    @rule(stream=streams, command=commands)
    def command(self, stream: int, command: Request) -> None:
        released = (self.states[stream], command) in LIFE and command is Request.PCM_RELEASE
        self._answered(stream, command, self.driver.command(command, stream))
        if released:
            self._reap()
            assert stream not in self.away.values(), "RELEASE is answered behind the last message"

    @rule(stream=streams)
    def play_or_record(self, stream: int) -> None:
        """Drive the stream to where audio flows, as a driver would."""
        way = {
            State.NEW: Request.PCM_SET_PARAMS,
            State.PARAMS_SET: Request.PCM_PREPARE,
            State.PREPARED: Request.PCM_START,
            State.STOPPED: Request.PCM_START,
            State.RELEASED: Request.PCM_PREPARE,
        }
        while (code := way.get(self.states[stream])) is not None:
            answer = (
                self.driver.set_params(stream) if code is Request.PCM_SET_PARAMS else self.driver.command(code, stream)
            )
            self._answered(stream, code, answer)

    @rule(stream=streams, frames=st.integers(1, 600), kick=st.sampled_from((None, True, False)))
    def message(self, stream: int, frames: int, kick: bool | None) -> None:
        queue = RX if DIRECTIONS[stream] is Direction.INPUT else TX
        try:
            message = self.driver.push(frames * 4 if queue == RX else bytes(frames * 4), stream)
        except GuestError:  # the ring is full
            return
        self.away[queue, message.head] = stream
        self.driver.publish(queue, kick)

    # ------------------------------------------------------------ the monitor

    @rule()
    def pause(self) -> None:
        bases = self.driver.native.stop_rings()
        assert bases == [self.driver.queue(index).used_index for index in range(4)]
        self.driver.native.start_rings(bases)

    @rule(style=st.sampled_from(("qemu", "crosvm", "libkrun", "reset-device")))
    def reset(self, style: str) -> None:
        self.driver.native.reset(style)
        self._new_life()

    @rule()
    def remap(self) -> None:
        self.driver.native.remap()

    @rule()
    def another_front_end(self) -> None:
        self.driver.native.kill()
        self.connect(True, True, 64)

    # ------------------------------------------------------------ what holds

    @invariant()
    def messages_come_back_once(self) -> None:
        self._reap()

    def _reap(self) -> None:
        for queue in (TX, RX):
            for head, _, known in self.driver.queue(queue).reap():
                assert known, "it had not been away"
                del self.away[queue, head]

    def _answered(self, stream: int, command: Request, answer: Status) -> None:
        after = LIFE.get((self.states[stream], command))
        assert answer is (Status.BAD_MSG if after is None else Status.OK)
        self.states[stream] = after or self.states[stream]


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(
    max_examples=30, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
