"""Daemons that a benchmark has to survive, as commands: bench_daemons.py HOW SOCKET.

stopped, killed     serve as they should, until half a second after a stream was opened
mute                accepts connections, and says nothing
dropping            on PipeWire, and takes a period out of what is played now and then
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

from vsnd_hybrid._core import PcmPort
from vsnd_hybrid.backends.base import Backend, Direction, EngineStream, EventSink, PcmParams
from vsnd_hybrid.backends.null import NullBackend
from vsnd_hybrid.backends.pipewire import PipeWireBackend
from vsnd_hybrid.device import DeviceConfig, SoundDevice, StreamConfig
from vsnd_hybrid.vhost import serve


class EndingBackend(NullBackend):
    """The process gets a signal while it plays."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self._number = number

    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> EngineStream:
        threading.Timer(0.5, os.kill, (os.getpid(), self._number)).start()
        return super().open(port, params, events)


class DroppingBackend(PipeWireBackend):
    """Somebody else reads the guest's audio too."""

    def open(self, port: PcmPort, params: PcmParams, events: EventSink) -> EngineStream:
        threading.Thread(target=self._steal, args=(port,), daemon=True).start()
        return super().open(port, params, events)

    @staticmethod
    def _steal(port: PcmPort) -> None:
        pause = threading.Event()
        while not pause.wait(0.1):
            port.read(port.period_bytes)


def be_mute(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        connections = []
        while True:
            connections.append(listener.accept())


def main() -> None:
    how, path = sys.argv[1:]
    if how == "mute":
        be_mute(path)
    backend: Backend
    if how == "dropping":
        backend = DroppingBackend()
    else:
        backend = EndingBackend({"stopped": signal.SIGSTOP, "killed": signal.SIGKILL}[how])
    streams = (StreamConfig(direction=Direction.OUTPUT, backend=backend),)
    serve(SoundDevice(DeviceConfig(streams=streams)), path)


if __name__ == "__main__":
    main()
