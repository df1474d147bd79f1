"""The two engines through which guests are heard and spoken to: files, and a PipeWire session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.daemon import Daemon
from tests.guests import audio
from tests.guests.audio import Heard
from tests.processes import await_until
from tests.sessions.pipewire import RATE, PipeWireSession, Recording, unless_late


class Listening(ABC):
    """What the guest plays from now on."""

    @abstractmethod
    def stop(self) -> bytes:
        """All of it, as raw S16 stereo at 48 kHz, once the guest has finished playing."""

    @property
    def in_time(self) -> bool:
        """The one who listens was himself in time for all of it."""
        return True


class Engine(ABC):
    """One end of the device: the guest is the other."""

    #: Arguments of the daemon.
    arguments: tuple[str, ...]
    #: The daemon's environment; None for our own.
    environment: Mapping[str, str] | None = None
    #: The daemon that uses the engine, once it runs.
    daemon: Daemon

    @abstractmethod
    def listen(self) -> Listening:
        """Begin to listen to the guest's first output."""

    def hear(self, play: Callable[[], object], frames: int, first: int = 0) -> Heard:
        """What is heard of numbered frames that the guest's `play` plays."""

        def hear() -> tuple[Heard, bool]:
            listening = self.listen()
            play()
            return audio.locate(listening.stop(), frames, first), listening.in_time

        return unless_late(hear, frames, first)

    @abstractmethod
    def speak(self) -> bool:
        """Have `spoken` captured by the guest that is recording now; returns when that has been said: False if not all of it was."""

    #: Frames of numbered noise that a guest captures.
    spoken = 96_000


class FileEngine(Engine):
    """Takes in a directory; a file that is captured from its beginning each time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        speech = directory / "speech.wav"
        speech.write_bytes(audio.wav(audio.numbered(self.spoken)))
        self.arguments = ("--backend", f"file,dir={directory},input={speech}")

    def takes(self) -> list[Path]:
        """The files that were written so far, in their order."""
        return sorted(self.directory.glob("out-0-take-*.wav"))

    def open_takes(self) -> list[Path]:
        """The files that the daemon is writing."""
        process = self.daemon.process
        return [path for path in process.open_files() if path in self.takes()] if process.running else []

    def listen(self) -> Listening:
        return _Takes(self)

    def speak(self) -> bool:
        """Nothing to do: the file is captured as soon as the guest records."""
        return True


class _Takes(Listening):
    def __init__(self, engine: FileEngine) -> None:
        self._engine, self._before = engine, set(engine.takes())

    def stop(self) -> bytes:
        # The guest does not wait until its take is finished on the disk.
        await_until(lambda: not self._engine.open_takes(), 5, "the take's end")
        return b"".join(audio.wav_samples(path) for path in self._engine.takes() if path not in self._before)


class PipeWireEngine(Engine):
    """The monitor of a sink, and a microphone."""

    def __init__(self, session: PipeWireSession) -> None:
        self._session = session
        self.arguments = ("--backend", "pipewire")
        self.environment = session.environment

    def listen(self) -> Listening:
        return _Monitor(self._session.record())

    def speak(self) -> bool:
        silence = audio.silence(RATE // 2)
        speech = self._session.speak(silence + audio.numbered(self.spoken) + silence)
        speech.wait()
        return speech.whole


class _Monitor(Listening):
    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def stop(self) -> bytes:
        return self._recording.stop()

    @property
    def in_time(self) -> bool:
        return not self._recording.missed_cycles
