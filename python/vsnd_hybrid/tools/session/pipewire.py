"""A PipeWire session with a sink that can be recorded and a microphone that can be fed.

The sink and the microphone carry samples bit-exactly (S16, and S32 to 24 bits: the graph is float).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from vsnd_hybrid.tools.session.processes import Process, await_until
from vsnd_hybrid.tools.session.recording import Recorder, Recording
from vsnd_hybrid.tools.session.speech import Speaker, Speech

HERE = Path(__file__).parent
#: Played to be heard whole: what stands at the very end of a stream is heard only if something follows.
TAIL_FRAMES = 4096


def installed() -> bool:
    """The server, the session manager and the tools are there."""
    return all(shutil.which(name) for name in ("pipewire", "wireplumber", "pw-cat", "pw-link", "pw-metadata"))


@cache
def real_time() -> tuple[str, ...]:
    """A prefix for a command that shall not wait for busier ones; empty where it is not permitted.

    pw-cat records on its main thread, which loses whole cycles on a busy machine.
    """
    prefix = ("chrt", "--fifo", "40")
    permitted = (
        shutil.which("chrt") and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    )
    return prefix if permitted else ()


class PipeWireSession:
    """The servers, in a runtime directory of their own.

    Parameters
    ----------
    quantum
        Frames per cycle of the graph. Below 256 the recorder itself loses data on a busy machine.
    """

    SINK = "ci_sink"
    MICROPHONE = "ci_mic"

    def __init__(self, *, quantum: int = 256) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="vsnd-pw-", dir="/tmp"))
        self._processes: list[Process] = []
        self._clients: list[Process] = []
        self._fixed = 0
        configuration = self.directory / "config"
        (configuration / "pipewire").mkdir(parents=True)
        (configuration / "wireplumber" / "wireplumber.conf.d").mkdir(parents=True)
        text = (HERE / "pipewire.conf").read_text()
        text, changed = re.subn(r"(default\.clock\.quantum +=) \d+", rf"\1 {quantum}", text)
        if changed != 1:
            raise RuntimeError("pipewire.conf has no line for the quantum")
        text = text.replace("@DIRECTORY@", str(self.directory))
        self._recorders = [Recorder(self, f"recorder-{i}", f"{self.SINK}:monitor") for i in range(2)]
        self._listener = Recorder(self, "recorder-2", f"{self.MICROPHONE}:capture")
        self._speaker = Speaker(self, "speaker")
        (configuration / "pipewire" / "headless.conf").write_text(text)
        shutil.copy(HERE / "wireplumber.conf", configuration / "wireplumber/wireplumber.conf.d/50-headless.conf")
        #: The environment of a program that shall use this session.
        self.environment = os.environ | {
            "XDG_RUNTIME_DIR": str(self.directory),
            "PIPEWIRE_RUNTIME_DIR": str(self.directory),
            "XDG_CONFIG_HOME": str(configuration),
            "XDG_STATE_HOME": str(self.directory / "state"),
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",
        }

    def start(self) -> Self:
        """Bring the servers up; returns when the sink and the microphone can be used."""
        for command in (["pipewire", "-c", "headless.conf"], ["wireplumber", "-p", "headless-ci"]):
            self._processes.append(Process(command, self.directory / "log", self.environment, prefer=True))
            if command[0] == "pipewire":
                await_until((self.directory / "pipewire-0").exists, 10, "PipeWire's socket")
        await_until(lambda: self._ports() >= {"ci_sink:playback_FR", "ci_mic:input_FR"}, 10, "the sink's ports")
        for kind, name in (("sink", self.SINK), ("source", self.MICROPHONE)):
            self.make_default(kind, name)
        return self

    def make_default(self, kind: str, name: str) -> None:
        """What a stream is linked to that names no target; `kind`: sink or source."""
        value = f'{{ "name": "{name}" }}'
        self.run("pw-metadata", "-n", "default", "0", f"default.configured.audio.{kind}", value, "Spa:String:JSON")

    def node(self, name: str) -> int | None:
        """The number of the node of this name, if it is there."""
        objects = json.loads(self.run("pw-dump") or "[]")
        return next((o["id"] for o in objects if o.get("info", {}).get("props", {}).get("node.name") == name), None)

    def stop(self) -> None:
        """Kill the servers, as a crash would. Their clients stay."""
        for process in reversed(self._processes):
            process.kill()
        self._processes.clear()
        for name in ("pipewire-0", "pipewire-0-manager"):
            (self.directory / name).unlink(missing_ok=True)

    @property
    def alive(self) -> bool:
        """The servers run."""
        return bool(self._processes) and all(process.running for process in self._processes)

    def signal(self, number: signal.Signals) -> None:
        """Send it to the server: it hangs, or goes on."""
        self._processes[0].signal(number)

    def plug(self, name: str, media_class: str) -> None:
        """Make a device as those that the session begins with."""
        properties = (
            f"factory.name=support.null-audio-sink node.name={name} media.class={media_class} object.linger=true "
            "audio.position=[ FL FR ] audio.rate=48000 priority.session=1000 monitor.channel-volumes=false"
        )
        self.run("pw-cli", "create-node", "adapter", f"{{ {properties} }}")
        ports = {f"{name}:playback_FR", f"{name}:input_FR"}
        await_until(lambda: ports & self._ports(), 10, f"the ports of {name}")

    def run(self, *command: str) -> str:
        """Run a program in the session; returns its standard output, whatever its status is."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=10, check=False)
        return done.stdout

    @contextmanager
    def fixed_quantum(self, frames: int) -> Iterator[None]:
        """All cycles last so many frames inside the block, whatever anybody asks for; 0: as asked for. Blocks may be nested."""
        before, self._fixed = self._fixed, frames
        try:
            self._force_quantum()
            yield
        finally:
            self._fixed = before
            self._force_quantum()

    def _force_quantum(self) -> None:
        self.run("pw-metadata", "-n", "settings", "0", "clock.force-quantum", str(self._fixed))

    def top(self) -> list[list[str]]:
        """The rows of pw-top: state, number, quantum, rate, four times, errors, format (none, or some words), name."""
        # Each driver tells of itself and its followers at times of its own; until then they run at a quantum of 0.
        for iterations in (2, 3, 5):
            text = self.run("pw-top", "--batch-mode", "--iterations", str(iterations))
            rows = [row for row in map(str.split, text.splitlines()) if len(row) > 9]
            last = rows[max((i for i, row in enumerate(rows) if row[-1] == "NAME"), default=0) :]
            if not any(row[0] == "R" and row[2] == "0" for row in last):
                break
        return last

    def missed_cycles(self, name: str) -> int:
        """How often nodes whose names begin so were too late for the graph, since they are there."""
        return sum(int(row[8]) for row in self.top() if row[-1].startswith(name) and row[8].isdigit())

    def quantum(self, driver: str) -> int | None:
        """Frames of a cycle of the device of this name, now; None while it stands still."""
        quanta = [int(row[2]) for row in self.top() if row[-1] == driver and row[2].isdigit()]
        return quanta[-1] or None if quanta else None

    def record(self) -> Recording:
        """Record what is played to the sink; returns when the recorder hears it. A third recording at a time ends the oldest."""
        recorder = self._recorders.pop(0)
        self._recorders.append(recorder)
        return Recording(self, recorder, self.missed_cycles(recorder.name))

    def speak(self, samples: bytes) -> Speech:
        """Speak S16 stereo samples at 48 kHz into the microphone, as soon as somebody hears both of its channels; see `Speech`.

        One speech at a time.
        """
        await_until(self._heard_by, 10, "somebody who hears the microphone")
        return Speech(self, self._speaker, self._listener, samples)

    def _heard_by(self) -> set[str]:
        """The nodes that are linked to the microphone; none while one of them is linked to a part of its channels only."""
        nodes: dict[str, set[str]] = {}
        port = ""
        for line in self.run("pw-link", "-l").splitlines():
            if not line.startswith(" "):
                port = line
            elif port.startswith(f"{self.MICROPHONE}:capture_") and (link := re.match(r" +\|-> ([^:]+):", line)):
                nodes.setdefault(link[1], set()).add(port)
        return set(nodes) if all(len(ports) == 2 for ports in nodes.values()) else set()

    def close(self) -> None:
        """End all and remove what it left. Idempotent."""
        for recorder in (*self._recorders, self._listener):
            if recorder.recording:
                recorder.recording.close()
        for process in (*self._clients, *reversed(self._processes)):
            process.close(3)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ports(self, direction: str = "-i") -> set[str]:
        return set(self.run("pw-link", direction).split())

    def client(self, command: list[str], stdout: int | None = None) -> Process:
        """Start a program in the session; it ends with it, if not before."""
        process = Process(command, self.directory / "clients.log", self.environment, stdout=stdout)
        self._clients.append(process)
        return process
