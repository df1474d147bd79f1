"""An engine of large native turns, for which audio is read ahead."""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import suppress
from typing import ClassVar

from vsnd_hybrid._core import PcmPort
from vsnd_hybrid.backends.base import Backend, Direction, EngineStream, EventSink, PcmCapabilities, PcmParams
from vsnd_hybrid.device import DeviceConfig, SoundDevice, StreamConfig

from tests.device.engines import CAPABILITIES, ThreadStream
from tests.guests import audio

TURN = 1024
#: Longer than this the engine does not wait for a busy machine: at 80 ms the clock would stand in for it.
PATIENCE_S = 0.05


class StrideBackend(Backend):
    """An engine of native turns, `turn` frames each, that gives a busy machine the time to prepare the next one."""

    name: ClassVar[str] = "stride"

    def __init__(self, direction: Direction = Direction.OUTPUT, turn: int = TURN) -> None:
        self.turn = turn
        #: With this engine in its only stream.
        self.device = SoundDevice(DeviceConfig(streams=(StreamConfig(direction=direction, backend=self),)))
        #: What was heard, silence included.
        self.tape = bytearray()
        #: Turns that came before what they needed was there, and all.
        self.hurried = self.turns = 0
        #: Frames that were given to be recorded.
        self.given = 0

    def capabilities(self, direction: Direction) -> PcmCapabilities:
        return CAPABILITIES

    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> EngineStream:
        return StrideStream(self, port)

    @property
    def ahead_frames(self) -> int:
        return int(self.device.streams[0].status()["ahead_bytes"]) // audio.FRAME_BYTES


class StrideStream(ThreadStream):
    def __init__(self, engine: StrideBackend, port: PcmPort) -> None:
        self._engine, self._native, self._preferred = engine, port.native, False
        kind = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong)
        self._transfer = kind(self._native.transfer)
        super().__init__(port)

    def close(self) -> None:
        super().close()
        self._native.close()

    def move(self) -> None:
        if not self._preferred:
            self._preferred = True
            with suppress(PermissionError):
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
        self._take_turn(self._engine.turn)

    def rest(self) -> None:
        engine, turn = self._engine, self._engine.turn
        began = time.monotonic()
        time.sleep(turn / audio.RATE)
        while not (ready := self._ready(turn)) and time.monotonic() < began + PATIENCE_S:
            time.sleep(0.0005)
        engine.turns += 1
        engine.hurried += not ready

    def _take_turn(self, frames: int) -> None:
        engine, size = self._engine, frames * audio.FRAME_BYTES
        if self.port.capture:
            data = ctypes.create_string_buffer(audio.numbered(frames, engine.given), size)
            taken = self._transfer(self._native.context, data, size, 0)
            engine.given += taken // audio.FRAME_BYTES
        else:
            data = ctypes.create_string_buffer(size)
            self._transfer(self._native.context, data, size, 0)
            engine.tape += data.raw

    def _ready(self, turn: int) -> bool:
        ahead = self._engine.ahead_frames
        return ahead == 0 if self.port.capture else ahead >= turn
