"""``vsnd-hybrid demo``: a guest plays and records a tune through a real daemon, and every frame is looked for.

The daemon is a process of its own on its file backend, the guest is `vsnd_hybrid.guest.VirtualGuest`; between them is a
real vhost-user socket. No audio server, no virtual machine and no extra package is needed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from vsnd_hybrid.guest import GuestError, Playback, Recording, StreamReport, StreamRun, VirtualGuest
from vsnd_hybrid.service.errors import ServiceError
from vsnd_hybrid.tools.demo import report, tune
from vsnd_hybrid.tools.demo.result import Result, match
from vsnd_hybrid.tools.demo.session import DaemonProcess, daemon, read_wav, write_wav

_PERIOD_FRAMES = 480
_R = TypeVar("_R", bound=StreamReport)
_SHAPE: dict[str, Any] = {
    "rate": tune.RATE,
    "channels": tune.CHANNELS,
    "format": "S16",
    "period_frames": _PERIOD_FRAMES,
    # 160 ms: the guest is an ordinary thread, which a busy machine keeps waiting.
    "periods": 16,
}


def run(directory: str | os.PathLike[str]) -> int:
    """Run the demo with its files in `directory`, which is made. Returns 0 if every frame arrived, else 1.

    Raises
    ------
    ServiceError
        There is nothing to be measured: the daemon or the guest failed. The message is one line.
    """
    target = Path(directory)
    try:
        target.mkdir(parents=True, exist_ok=True)
        result = _measure(target)
    except OSError as error:
        raise ServiceError(f"cannot write into {target}: {error.strerror or error}") from error
    except GuestError as error:
        raise ServiceError(f"the guest gave up: {error}") from error
    print()
    report.table(result)
    if result.xruns:
        print("\nThe guest's thread was kept waiting, so that its buffer ran out: this machine is busy. Try again.")
    missing = report.missing()
    if missing:
        print(
            f"\n{', '.join(missing)} not installed: for the progress bar, the table and the picture: {report.INSTALL}"
        )
    report.own_guest(target)
    return 0 if result.exact else 1


def _measure(target: Path) -> Result:
    played, microphone = tune.played(), tune.recorded()
    files = [target / name for name in ("played.wav", "microphone.wav", "recorded.wav", "demo.png")]
    played_file, microphone_file, recorded_file, picture_file = files
    write_wav(microphone_file, microphone, tune.RATE, tune.CHANNELS)
    # Under /tmp, because a socket's path has to be short.
    with tempfile.TemporaryDirectory(prefix="vsnd-demo-", dir="/tmp") as private:
        with daemon(Path(private), microphone_file.resolve()) as process:
            with VirtualGuest(process.socket) as guest:
                playback, cpu_ms_per_s = _play(guest, process, played)
                recording = _record(guest, len(microphone))
            process.end()
            take = process.takes()[-1]
        shutil.move(take, played_file)
    heard = read_wav(played_file)
    write_wav(recorded_file, recording.data, tune.RATE, tune.CHANNELS)
    result = Result(
        rate=tune.RATE,
        period_frames=_PERIOD_FRAMES,
        played=match(played, heard, tune.FRAME_BYTES),
        recorded=match(microphone, recording.data, tune.FRAME_BYTES),
        heard=heard,
        completions_s=tuple(at / 1e9 for at in playback.completions_ns),
        xruns=playback.xruns + recording.xruns,
        kicks=playback.kicks,
        signals=playback.signals,
        latency_ms=tuple(playback.latency_ms),
        cpu_ms_per_s=cpu_ms_per_s,
        files=tuple(files),
    )
    if report.missing():
        picture_file.unlink(missing_ok=True)
        return replace(result, files=tuple(files[:-1]))
    from vsnd_hybrid.tools.demo.picture import draw

    draw(result, picture_file)
    return result


def _play(guest: VirtualGuest, process: DaemonProcess, data: bytes) -> tuple[Playback, float]:
    """Play `data`; also the daemon's CPU time meanwhile, in milliseconds a second."""
    before, begun = process.cpu_ns(), time.monotonic()
    playback = _with_progress("the guest plays", guest.start_play(data, **_SHAPE), len(data))
    return playback, (process.cpu_ns() - before) / 1e6 / (time.monotonic() - begun)


def _record(guest: VirtualGuest, size: int) -> Recording:
    recording = guest.start_record(frames=size // tune.FRAME_BYTES, **_SHAPE)
    return _with_progress("the guest records", recording, size)


def _with_progress(what: str, run: StreamRun[_R], size: int) -> _R:
    per_second = tune.RATE * tune.FRAME_BYTES
    messages = size // (_PERIOD_FRAMES * tune.FRAME_BYTES)
    with report.progress(what, size / per_second) as show:
        for message in range(0, messages, 10):
            run.wait_messages(message)
            show(message * _PERIOD_FRAMES / tune.RATE)
        return run.wait()
