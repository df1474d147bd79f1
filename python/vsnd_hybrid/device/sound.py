"""The sound device: joins the native server and data path with the streams, and says who is told what."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from vsnd_hybrid._core import DescriptorChain, Event, PcmRouter, PcmStream
from vsnd_hybrid.backends.base import Backend, Direction, PcmCapabilities
from vsnd_hybrid.device.answers import AnswerQueue
from vsnd_hybrid.device.chmaps import chmap_infos
from vsnd_hybrid.device.config import DeviceConfig, offers
from vsnd_hybrid.device.control import Controls
from vsnd_hybrid.device.jacks import Jacks
from vsnd_hybrid.device.notify import Notifier
from vsnd_hybrid.device.pcm import pcm_infos
from vsnd_hybrid.device.requests import REQUEST_BYTES, Answer, Remap, RequestReader
from vsnd_hybrid.device.state import AHEAD_MAX, DeviceState, StreamState
from vsnd_hybrid.device.stream import Stream
from vsnd_hybrid.logs import LimitedLog
from vsnd_hybrid.loop import Loop
from vsnd_hybrid.vhost import Device
from vsnd_hybrid.wire import CONFIG_BYTES, DEVICE_ID, Config, Hdr, Queue, Request, Status

#: So long a backend may take to say what it can do.
ANSWER_S = 10.0
#: So long the end waits for engines that are busy.
CLOSE_S = 1.0
#: Answers to commands that a later life is told of: more than can be on their way to a driver.
ANSWERS_KEPT = 64


class SoundDevice(Device):
    """A virtio-sound device (virtio 1.3, 5.14).

    Give it to `vhost.serve`, to `vhost.running`, or to a `DeviceServer` in a loop of your own. It can be served once.

    Parameters
    ----------
    config
        Its streams. The backends are closed with the device, unless `controls` are given.
    log
        The parent of the device's loggers.
    controls
        Control threads of backends that are shared with other devices; whoever made them closes them.

    Raises
    ------
    DeviceConfigError
        A stream has nothing left to offer.
    BackendError, TimeoutError
        A backend did not tell what it can do.
    """

    device_id = DEVICE_ID
    queues = len(Queue)
    device_owned = (Queue.EVENT,)

    def __init__(
        self, config: DeviceConfig, *, log: logging.Logger | None = None, controls: Controls | None = None
    ) -> None:
        self._log = log or logging.getLogger("vsnd_hybrid.device")
        self._limited = LimitedLog(self._log)
        self._own_controls = controls is None
        self._controls = controls or Controls()
        self._stream_configs = config.streams
        try:
            self._offers = offers(config, self._capabilities())
        except BaseException:
            if self._own_controls:
                self._controls.close(CLOSE_S)
            raise
        self.jacks = Jacks(self._offers)
        pcms, chmaps = pcm_infos(self._offers), chmap_infos(self._offers)
        self._reader = RequestReader(
            jacks=len(self.jacks),
            streams=len(pcms),
            infos={
                Request.JACK_INFO: self.jacks.infos,
                Request.PCM_INFO: lambda: pcms,
                Request.CHMAP_INFO: lambda: chmaps,
            },
        )
        self.config = Config(jacks=len(self.jacks), streams=len(pcms), chmaps=len(chmaps), controls=0).pack()
        self.config = self.config[:CONFIG_BYTES]
        self._pcms = [PcmStream(i, offer.direction is Direction.INPUT) for i, offer in enumerate(self._offers)]
        self.router = PcmRouter(self._pcms, control=Queue.CONTROL, playback=Queue.TX, capture=Queue.RX)
        self.streams: list[Stream] = []
        #: Where the next control request stands in its queue, counted as its used index is.
        self._position = 0
        #: Answers of the last commands, by position; and those that an earlier life gave, which the driver may not have got.
        self._given: dict[int, Status] = {}
        self._owed: dict[int, Status] = {}

    def _capabilities(self) -> dict[tuple[Backend, Direction], PcmCapabilities]:
        """What each backend can do, asked on its control thread."""
        kinds = dict.fromkeys((stream.backend, stream.direction) for stream in self._stream_configs)
        return {
            (backend, direction): self._controls.of(backend).ask(partial(backend.capabilities, direction), ANSWER_S)
            for backend, direction in kinds
        }

    # ------------------------------------------------------------ being served

    def attached(self, loop: Loop) -> None:
        self._answers = AnswerQueue(loop)
        self._notifier = Notifier(loop, lambda: self.queue(Queue.EVENT).pop())
        self.streams = [
            Stream(
                config,
                offer,
                pcm,
                self._controls.of(config.backend),
                loop,
                self._notifier,
                LimitedLog(self._log.getChild(f"stream{pcm.stream_id}")),
            )
            for config, offer, pcm in zip(self._stream_configs, self._offers, self._pcms, strict=True)
        ]

    def detached(self) -> None:
        for stream in self.streams:
            stream.reset()
        if self._own_controls:
            self._controls.close(CLOSE_S)

    def status(self) -> dict[str, Any]:
        """What is to be known of the device and its streams, for people and logs. The loop's thread."""
        connected = self._server is not None and self.server.connected
        return {"connected": connected, "streams": [stream.status() for stream in self.streams]}

    # ------------------------------------------------------------ what happens

    def connected(self) -> None:
        self._limited.info("a front end connected")

    def disconnected(self, reason: str) -> None:
        if reason:
            self._limited.warning("the front end is gone: %s", reason)
        else:
            self._limited.info("the front end is gone")
        self.reset()

    def started(self, queue: int, base: int, fresh: bool) -> None:
        if queue == Queue.CONTROL:
            self._position = base
            # Those before it the driver has got.
            self._owed = {at: status for at, status in self._owed.items() if (at - base) % (1 << 16) < ANSWERS_KEPT}
            if fresh:
                self.reset()
        elif queue == Queue.EVENT:
            self._notifier.buffers_may_have_come()
        for stream in self._streams_of(queue):
            stream.ring_started()

    def stopping(self, queue: int) -> None:
        for stream in self._streams_of(queue):
            stream.ring_stopping()

    def replenished(self, queue: int) -> None:
        self._notifier.buffers_may_have_come()

    def reset(self) -> None:
        """Everything as in the beginning (a new driver, or none)."""
        self._answers.clear()
        self._given.clear()
        self._owed = {}
        self._notifier.reset()
        self.jacks.reset()
        for stream in self.streams:
            stream.reset()

    def fault(self, queue: int, reason: str) -> None:
        self._limited.warning("%s: %s", "device" if queue < 0 else f"the {Queue(queue).name} queue is broken", reason)

    def event(self, event: Event) -> None:
        match event:
            case Event.Xrun(stream_id):
                self.streams[stream_id].xrun()

    def plug(self, jack_id: int, connected: bool) -> None:
        """Something was plugged into a jack, or pulled out: the driver is told if that is news. The loop's thread."""
        if self.jacks.plug(jack_id, connected):
            self._notifier.jack(jack_id, connected)

    # ------------------------------------------------------------ a later life

    def save(self) -> bytes:
        return self._state(kept=True)

    def _state(self, *, kept: bool) -> bytes:
        streams: list[StreamState] = []
        room = AHEAD_MAX if kept else 0
        for stream in self.streams:
            streams.append(stream.save(kept=kept, ahead_max=room))
            room -= len(streams[-1].ahead)
        return DeviceState(streams, self.jacks.mappings(), self._given).pack()

    def restore(self, state: bytes) -> None:
        saved = DeviceState.unpack(state)
        if (len(saved.streams), len(saved.jacks)) != (len(self.streams), len(self.jacks)):
            raise ValueError(f"the state is one of {len(saved.streams)} streams; this device has {len(self.streams)}")
        self.reset()
        try:
            for stream, stream_state in zip(self.streams, saved.streams, strict=True):
                stream.restore(stream_state)
        except ValueError:
            self.reset()
            raise
        for jack_id, (association, sequence) in enumerate(saved.jacks):
            self.jacks.remap(jack_id, association, sequence)
        self._given = dict(saved.answers)
        self._owed = dict(saved.answers)

    def _keep(self, position: int, status: Status) -> None:
        """A command was carried out: if this process dies before the driver is told, the next one shall know."""
        self._given[position] = status
        while len(self._given) > ANSWERS_KEPT:
            del self._given[next(iter(self._given))]
        if self.server.keeps_state:
            # Which messages it has is noted in the rings' logs, at each one.
            self.server.keep_state(self._state(kept=False))

    # ------------------------------------------------------------ control requests

    def chain(self, queue: int, chain: DescriptorChain) -> None:
        self._notifier.buffers_may_have_come()
        position, self._position = self._position, (self._position + 1) % (1 << 16)
        room = chain.writable
        if chain.malformed or room < Hdr.SIZE:
            self._answers.add(chain).answer(b"")
            return
        try:
            data = chain.read(REQUEST_BYTES)
        except BufferError:  # the driver gave an address outside of its memory
            self._answers.add(chain).answer(b"")
            return
        request = self._reader.read(data, room)
        owed = self._owed.pop(position, None)
        if owed is not None and not isinstance(request, Answer):
            self._answers.add(chain).answer(_status(owed))
        elif isinstance(request, Answer):
            self._answers.add(chain).answer(request.data)
        elif isinstance(request, Remap):
            remap = request.request
            status = self.jacks.remap(remap.jack_id, remap.association, remap.sequence)
            self._keep(position, status)
            self._answers.add(chain).answer(_status(status))
        else:
            pending = self._answers.add(chain, request.stream_id)

            def reply(status: Status) -> None:
                self._keep(position, status)
                pending.answer(_status(status))

            self.streams[request.stream_id].command(request, reply)

    def _streams_of(self, queue: int) -> list[Stream]:
        direction = {Queue.TX: Direction.OUTPUT, Queue.RX: Direction.INPUT}.get(Queue(queue))
        return [stream for stream in self.streams if stream.direction is direction]


def _status(status: Status) -> bytes:
    return Answer.of(status).data
