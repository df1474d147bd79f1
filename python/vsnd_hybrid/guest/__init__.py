"""The other side of the socket: a virtual guest for tests, benchmarks, demonstrations and notebooks.

`VirtualGuest` is a vhost-user front end with memory, virtqueues and a virtio-snd driver. It connects to any vhost-user
sound device, behaves as Linux and QEMU do, and misbehaves where it is asked to::

    with VirtualGuest("/run/snd.sock") as guest:
        print(guest.streams)
        playback = guest.play(samples, rate=48000)
        recording = guest.record(seconds=2)

Nothing of the device is used here.
"""

from __future__ import annotations

from vsnd_hybrid._core import GuestError
from vsnd_hybrid.guest.infos import ChmapInfo, GuestEvent, JackInfo, StreamInfo
from vsnd_hybrid.guest.queue import Queue, Raw, Token, Used
from vsnd_hybrid.guest.reports import Message, Playback, Recording, StreamReport
from vsnd_hybrid.guest.run import StreamRun
from vsnd_hybrid.guest.samples import numbered
from vsnd_hybrid.guest.virtual import VirtualGuest

__all__ = [
    "ChmapInfo",
    "GuestError",
    "GuestEvent",
    "JackInfo",
    "Message",
    "Playback",
    "Queue",
    "Raw",
    "Recording",
    "StreamInfo",
    "StreamReport",
    "StreamRun",
    "Token",
    "Used",
    "VirtualGuest",
    "numbered",
]
