"""The file engine: a take for every START to RELEASE, and capture from a file, both bit-exact."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile  # type: ignore[import-untyped]
from vsnd_hybrid.backends import registry
from vsnd_hybrid.backends.base import BackendError
from vsnd_hybrid.backends.file import stream as file_stream
from vsnd_hybrid.backends.file.media import open_reader
from vsnd_hybrid.guest import GuestError, VirtualGuest, numbered

from tests.backends.conftest import INPUT, OUTPUT, GuestFactory
from tests.conftest import DaemonFactory
from tests.daemon import Daemon
from tests.guests import audio
from tests.processes import await_until

FRAME_BYTES = {"U8": 2, "S16": 4, "S24": 8, "S32": 8, "FLOAT": 8, "FLOAT64": 16}


def finished(path: Path) -> Path:
    """The take, once the daemon has closed it: a moment after the guest's RELEASE."""
    await_until(lambda: path.exists() and str(path) not in open_files(), 5, f"{path.name} to be finished")
    return path


def open_files() -> set[str]:
    """What this process has open."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return found


@pytest.mark.parametrize("format", ["S16", "U8", "S24", "S32", "FLOAT", "FLOAT64"])
def test_a_take_holds_every_byte_in_every_format(guest_on: GuestFactory, tmp_path: Path, format: str) -> None:
    guest = guest_on(registry.create(f"file,dir={tmp_path}"), (OUTPUT,))
    if format in ("S24", "S32"):
        numbers = np.arange(1, 9601, dtype="<i4") * (1 if format == "S24" else 200_003)
        sent = np.repeat(numbers, 2).tobytes()
    elif format.startswith("FLOAT"):
        sent = np.repeat(np.arange(1, 9601) / 10_000, 2).astype("<f4" if format == "FLOAT" else "<f8").tobytes()
    else:
        sent = numbered(9600, FRAME_BYTES[format])
    assert guest.play(sent, format=format).ok
    reader = open_reader(finished(tmp_path / "out-0-take-001.wav"))
    assert (reader.format, reader.rate, reader.channels) == (format, 48000, 2)
    assert sent in reader.read(48000)
    reader.close()


def test_a_pause_continues_a_take_and_silence_is_where_the_guest_gave_nothing(
    guest_on: GuestFactory, tmp_path: Path
) -> None:
    guest = guest_on(registry.create(f"file,dir={tmp_path}"), (OUTPUT,))
    run = guest.start_play(audio.numbered(48000), starve=(24000, 0.1))
    assert run.wait_messages(20)
    run.pause()
    run.resume()
    assert run.wait().ok
    heard = audio.locate(audio.wav_samples(finished(tmp_path / "out-0-take-001.wav")), 48000)
    assert heard.holds(48000)
    assert any(frame == 23999 for frame, _ in heard.silences)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_take_is_never_overwritten(guest_on: GuestFactory, tmp_path: Path) -> None:
    (tmp_path / "out-0-take-001.wav").write_text("mine")
    guest = guest_on(registry.create(f"file,dir={tmp_path}"), (OUTPUT,))
    guest.play(numbered(4800))
    finished(tmp_path / "out-0-take-002.wav")
    guest.play(numbered(4800), rate=44100)
    finished(tmp_path / "out-0-take-003.wav")
    assert (tmp_path / "out-0-take-001.wav").read_text() == "mine"


def test_the_header_is_right_while_the_take_goes_on(
    guest_on: GuestFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_stream, "SYNC_S", 0.05)
    guest = guest_on(registry.create(f"file,dir={tmp_path}"), (OUTPUT,))
    path = tmp_path / "out-0-take-001.wav"
    with guest.playing():
        await_until(lambda: path.exists() and len(audio.wav_samples(path)) > 4 * 9600, 10, "a header with a length")


@pytest.mark.parametrize(("format", "bits"), [("S16", 16), ("S24", 24)])
def test_takes_as_flac_are_bit_exact(guest_on: GuestFactory, tmp_path: Path, format: str, bits: int) -> None:
    guest = guest_on(registry.create(f"file,dir={tmp_path},format=flac"), (OUTPUT,))
    numbers = np.arange(-4800, 4800, dtype="<i4" if bits == 24 else "<i2") * (100 if bits == 24 else 1)
    sent = np.repeat(numbers, 2).tobytes()
    assert guest.play(sent, format=format).ok
    path = finished(tmp_path / "out-0-take-001.flac")
    reader = open_reader(path)
    assert reader.format == format
    assert sent in reader.read(48000)
    reader.close()
    assert soundfile.info(path).subtype == f"PCM_{bits}"


def spoken(path: Path, frames: int, rate: int = 48000) -> Path:
    path.write_bytes(audio.wav(audio.numbered(frames), rate))
    return path


def test_a_file_is_captured_once_and_silence_follows(guest_on: GuestFactory, tmp_path: Path) -> None:
    guest = guest_on(registry.create(f"file,input={spoken(tmp_path / 'in.wav', 9600)}"), (INPUT,))
    assert guest.record(frames=12000).data == audio.numbered(9600) + audio.silence(2400)
    assert guest.record(frames=4800, period_frames=960).data == audio.numbered(4800), "from its beginning again"


def test_a_looped_file_is_captured_again_and_again(guest_on: GuestFactory, tmp_path: Path) -> None:
    guest = guest_on(registry.create(f"file,input={spoken(tmp_path / 'in.wav', 5000)},loop=true"), (INPUT,))
    assert guest.record(frames=12000).data == (audio.numbered(5000) * 3)[: 12000 * 4]


def test_the_guest_is_offered_just_what_the_file_has(guest_on: GuestFactory, tmp_path: Path) -> None:
    path = tmp_path / "in.flac"
    soundfile.write(path, np.arange(4410, dtype=np.int32)[:, None] << 8, 44100, subtype="PCM_24")
    guest = guest_on(registry.create(f"file,input={path}"), (INPUT,))
    (stream,) = guest.streams
    assert (stream.formats, stream.rates, stream.channels_min, stream.channels_max) == (("S24",), (44100,), 1, 1)
    recorded = guest.record(frames=4410, format="S24", channels=1, rate=44100, period_frames=441)
    assert recorded.data == np.arange(4410, dtype="<i4").tobytes()


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("dir={}/nowhere", "there is no such directory"),
        ("input={}/nowhere.wav", "No such file or directory"),
        ("input={}/text.wav", "no sound file"),
        ("input={}/odd.wav", "virtio-snd has no 12345 Hz"),
        ("format=ogg", "expected wav or flac"),
        ("loop=perhaps", "expected true or false"),
    ],
)
def test_a_mistake_is_one_line_at_the_start(tmp_path: Path, option: str, text: str) -> None:
    (tmp_path / "text.wav").write_text("just text, and no sound at all")
    spoken(tmp_path / "odd.wav", 100, rate=12345)
    with pytest.raises(BackendError, match=text) as caught:
        registry.create("file," + option.format(tmp_path))
    assert "\n" not in str(caught.value)


def room_for(daemon: Daemon, size: int) -> None:
    """Files of the daemon cannot grow beyond so many bytes, as on a disk that gets full. Its own process: only it is limited."""
    _, most = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size, most))


def test_a_disk_that_gets_full_ends_the_take_and_not_the_guest(daemon: DaemonFactory, tmp_path: Path) -> None:
    served = daemon("--backend", f"file,dir={tmp_path}")
    room_for(served, 1 << 16)
    with VirtualGuest(served.socket) as guest:
        report = guest.play(audio.numbered(48000))
    assert report.ok
    assert report.frames == 48000
    path = tmp_path / "out-0-take-001.wav"
    served.process.await_log(f"writing {path} failed: File too large")
    await_until(lambda: path not in served.process.open_files(), 5, f"{path.name} to be finished")
    heard = audio.locate(audio.wav_samples(path), 48000)
    assert heard.in_order, "what was written before is a file that plays"


def test_a_disk_that_is_full_is_an_error_of_the_stream(daemon: DaemonFactory, tmp_path: Path) -> None:
    served = daemon("--backend", f"file,dir={tmp_path}")
    room_for(served, 10)
    with VirtualGuest(served.socket) as guest, pytest.raises(GuestError, match="START.*IO_ERR"):
        guest.play(numbered(4800))
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_gone_is_an_error_of_the_stream(guest_on: GuestFactory, tmp_path: Path) -> None:
    directory = tmp_path / "takes"
    directory.mkdir()
    guest = guest_on(registry.create(f"file,dir={directory}"), (OUTPUT,))
    directory.rmdir()
    with pytest.raises(GuestError, match="START.*IO_ERR"):
        guest.play(numbered(4800))
    directory.mkdir()
    assert guest.play(numbered(4800)).ok
