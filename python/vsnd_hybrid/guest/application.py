"""What an application in the guest does: play and record, as over Linux's virtio_snd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from vsnd_hybrid._core import GuestError, SoundDriver
from vsnd_hybrid.guest.infos import StreamInfo
from vsnd_hybrid.guest.reports import Message, Playback, Recording, StreamReport
from vsnd_hybrid.guest.run import StreamRun
from vsnd_hybrid.guest.samples import U32_MAX, as_bytes, checked, frame_bytes, numbered
from vsnd_hybrid.wire import RATE_CODES, PcmFeature, PcmFormat

if TYPE_CHECKING:
    from vsnd_hybrid.guest.samples import Samples

_R = TypeVar("_R", bound=StreamReport)
#: Frames of a stream that is stopped by hand.
_ENDLESS = 1 << 56


class Application:
    """The application's part of `VirtualGuest`."""

    driver: SoundDriver

    @property
    def streams(self) -> tuple[StreamInfo, ...]:
        """The PCM streams that the device has."""
        raise NotImplementedError

    def play(self, data: Samples, **options: Any) -> Playback:
        """Play to the end and release the stream. Parameters: see `start_play`."""
        return _finish(self.start_play(data, **options))

    def record(self, seconds: float | None = None, **options: Any) -> Recording:
        """Record `seconds`, or `frames=`, and release the stream. Parameters: see `start_record`."""
        return _finish(self.start_record(seconds, **options))

    def start_play(
        self,
        data: Samples,
        *,
        format: str | None = None,
        channels: int | None = None,
        stream: int | None = None,
        total_frames: int | None = None,
        **options: Any,
    ) -> StreamRun[Playback]:
        """Begin to play, as an application over Linux's virtio_snd: the buffer is filled, then the stream starts.

        Parameters
        ----------
        data
            Bytes (S16 stereo unless said otherwise), or an array of mono samples or of the shape (frames, channels), whose
            type tells the format; floating point is converted where FLOAT is not offered.
        rate
            Frames a second; 48000.
        format, channels
            Names of the specification such as ``"S16"``.
        period_frames, periods
            Frames of a period (480), periods of the buffer (4).
        stream
            The stream's id; the first output.
        total_frames
            Frames to play: `data` is played over and over.
        message_bytes
            Bytes of a message; a period.
        pieces, indirect
            Sizes in bytes into which messages are cut, used over and over; whether chains are indirect.
        polling
            MSG_POLLING, never to kick; if it is offered, as Linux does.
        xruns
            EVT_XRUNS; if it is offered.
        starve
            `(frames, seconds)`: after so many frames nothing is offered for so long.
        stall
            Seconds without a message coming back after which waiting gives up; 5.

        Raises
        ------
        ValueError
            A parameter makes no sense: it is no number that a request can carry, no rate in Hz, or a stream of the other direction.
        GuestError
            The device refuses, or does not answer.
        """
        info = self._pick(stream, capture=False)
        raw, format, channels = as_bytes(data, format, channels, info.formats if info else ())
        size = frame_bytes(format, channels)
        total = len(raw) if total_frames is None else total_frames * size
        return self._start(info, stream, raw, total, Playback, format=format, channels=channels, **options)

    def start_record(
        self, seconds: float | None = None, *, frames: int | None = None, stream: int | None = None, **options: Any
    ) -> StreamRun[Recording]:
        """Begin to record `seconds`, or `frames`, or until it is stopped. Other parameters: see `start_play`."""
        info = self._pick(stream, capture=True)
        format, channels = options.pop("format", "S16"), options.pop("channels", 2)
        if frames is None:
            frames = _ENDLESS if seconds is None else round(seconds * options.get("rate", 48000))
        total = frames * frame_bytes(format, channels)
        return self._start(info, stream, b"", total, Recording, format=format, channels=channels, **options)

    @contextmanager
    def playing(self, **options: Any) -> Iterator[StreamRun[Playback]]:
        """Play without end inside the block, numbered frames. Parameters: see `start_play`.

        At the end the stream is stopped and released; nothing is said if the device is gone by then.
        """
        options.setdefault("total_frames", _ENDLESS)
        size = frame_bytes(options.get("format", "S16"), options.get("channels", 2))
        run = self.start_play(numbered(48000, size), **options)
        try:
            yield run
        finally:
            with suppress(GuestError):
                run.stop()

    def _pick(self, stream: int | None, *, capture: bool) -> StreamInfo | None:
        """The stream that is meant; None if the device does not have it, and shall say so itself."""
        wanted = [info for info in self.streams if info.capture == capture]
        if stream is None:
            if not wanted:
                raise GuestError(f"the device has no {'input' if capture else 'output'} stream")
            return wanted[0]
        found = next((info for info in self.streams if info.id == stream), None)
        if found and found.capture != capture:
            does, to_do = ("plays", "record") if capture else ("records", "play")
            ids = ", ".join(str(info.id) for info in wanted) or "none"
            raise ValueError(f"stream {stream} {does}; those that {to_do}: {ids}")
        return found

    def _start(
        self,
        info: StreamInfo | None,
        stream: int | None,
        data: bytes,
        total_bytes: int,
        kind: type[_R],
        *,
        format: str,
        channels: int,
        rate: int = 48000,
        period_frames: int = 480,
        periods: int = 4,
        message_bytes: int | None = None,
        pieces: Sequence[int] = (),
        indirect: bool = True,
        polling: bool | None = None,
        xruns: bool | None = None,
        starve: tuple[int, float] | None = None,
        stall: float = 5.0,
    ) -> StreamRun[_R]:
        size = frame_bytes(format, channels)
        number = info.id if info else stream or 0
        period_bytes = period_frames * size
        checked("stream", number, 0)
        checked("period_frames", period_frames, 1, U32_MAX // size)
        checked("periods", periods, 1, U32_MAX // period_bytes)
        checked("frames to move", total_bytes // size, 0, _ENDLESS)
        if message_bytes is not None:
            checked("message_bytes", message_bytes, 1)
        for piece in pieces:
            checked("a size in pieces", piece, 1)
        if rate not in RATE_CODES:
            raise ValueError(f"no rate {rate} Hz: expected one of {', '.join(map(str, RATE_CODES))}")
        features = 0
        for feature, wanted in (PcmFeature.MSG_POLLING, polling), (PcmFeature.EVT_XRUNS, xruns):
            if wanted or (wanted is None and info is not None and feature.name in info.features):
                features |= 1 << feature
        about = {
            "stream": number,
            "format": format,
            "channels": channels,
            "rate": rate,
            "period_bytes": period_bytes,
            "buffer_bytes": period_bytes * periods,
        }
        run = self.driver.start_stream(
            number,
            kind is Recording,
            data,
            total_bytes,
            buffer_bytes=period_bytes * periods,
            period_bytes=period_bytes,
            features=features,
            channels=channels,
            format=PcmFormat[format],
            rate=RATE_CODES[rate],
            message_bytes=message_bytes,
            pieces=list(pieces),
            indirect=indirect,
            starve=starve and (starve[0] * size, starve[1]),
            stall=stall,
        )
        return StreamRun(run, partial(_report, kind, about, total_bytes))


def _finish(run: StreamRun[_R]) -> _R:
    try:
        return run.wait()
    except BaseException:
        # Also after Ctrl-C the stream should not go on; what went wrong first is what matters.
        with suppress(GuestError):
            run.stop()
        raise


def _report(kind: type[_R], about: dict[str, Any], total_bytes: int, raw: dict[str, Any]) -> _R:
    recorded: bytes = raw.pop("recorded")
    raw.pop("bytes")
    raw["messages"] = tuple(Message(*row) for row in raw["messages"])
    if kind is Recording:
        about = about | {"data": recorded[:total_bytes], "tail": recorded[total_bytes:]}
    return kind(**about, **raw)
