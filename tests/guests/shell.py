"""A shell in a Linux guest that has the sound card, on this terminal: ``make guest``.

The guest is heard through the user's PipeWire session if there is one, else into files. Leaving the shell ends all.
"""

from __future__ import annotations

import array
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import wave
from pathlib import Path

from tests.daemon import Daemon
from tests.guests.image import CHECKOUT, Image, ImageUnavailable, ensure_image, is_built
from tests.guests.linux import machine, vhost_user_sound, write_initramfs

#: Where the files are put when there is no PipeWire session.
TAKES = CHECKOUT / "demo" / "guest"

#: Linux derives the largest buffer from the largest combination that a stream offers, and `speaker-test` takes the
#: largest buffer: what the engines can do at their best would be half a minute of it.
STREAMS = """
[[stream]]
direction = "output"
formats = ["S16", "S32", "FLOAT"]
rates = [44100, 48000]
channels = [1, 2]

[[stream]]
direction = "input"
formats = ["S16"]
rates = [48000]
channels = 2
"""

GREETING = """
This is a small Linux with a virtio sound card. {where}

  speaker-test -c 2 -t wav -l 1
  aplay /usr/share/sounds/alsa/Front_Center.wav
  arecord -f dat -d 3 take.wav && aplay take.wav
  cat /proc/asound/card0/pcm0p/info

Ctrl-D ends it.

"""


def pipewire_answers() -> bool:
    """Whether a PipeWire session of this user accepts connections."""
    directory = os.environ.get("PIPEWIRE_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR")
    if not directory:
        return False
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(Path(directory) / os.environ.get("PIPEWIRE_REMOTE", "pipewire-0")))
        except OSError:
            return False
    return True


def write_tone(path: Path) -> None:
    """What a microphone is without an audio server: a tone of 440 Hz that can be looped."""
    samples = array.array("h")
    for frame in range(48_000):
        samples.extend([round(8000 * math.sin(2 * math.pi * 440 * frame / 48_000))] * 2)
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 48_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


def engine(takes: Path) -> tuple[str, str]:
    """The backend for the daemon, and what the user is told about it."""
    if pipewire_answers():
        return "pipewire", "What it plays you hear from PipeWire's default sink; it records its default source."
    takes.mkdir(parents=True, exist_ok=True)
    tone = takes / "microphone.wav"
    write_tone(tone)
    where = f"There is no PipeWire session:\nwhat it plays goes into {takes}/out-*.wav, what it records is {tone}."
    return f"file,dir={takes},input={tone},loop=true", where


def run_machine(image: Image, daemon: Daemon, greeting: str, directory: Path) -> int:
    """QEMU, with the guest's console on this terminal; returns its status."""
    columns, rows = shutil.get_terminal_size()
    initramfs = directory / "initramfs"
    files = {"/rig/greeting": greeting.encode(), "/rig/terminal": f"rows {rows} cols {columns}\n".encode()}
    write_initramfs(image, files, initramfs)
    command = machine(image, initramfs, append="rig.shell")
    # Without QEMU's signals Ctrl-C goes to the guest.
    command += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    command += vhost_user_sound(daemon.socket)
    guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    with subprocess.Popen([*guard, *command]) as qemu:
        try:
            return qemu.wait()
        finally:
            qemu.kill()


def main(takes: Path = TAKES) -> int:
    """Give a shell; returns the exit status. Files go into `takes`."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("error: this gives a shell, so it needs a terminal", file=sys.stderr)
        return 1
    if shutil.which("qemu-system-x86_64") is None:
        print("error: qemu-system-x86_64 is not installed: run scripts/system-setup", file=sys.stderr)
        return 1
    terminal = termios.tcgetattr(sys.stdin)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    backend, where = engine(takes)
    try:
        if not is_built():
            print("building the guest's image, once (110 MB from the Debian mirror)", flush=True)
        image = ensure_image()
        print("booting", flush=True)
        with tempfile.TemporaryDirectory(prefix="vsnd-shell-", dir="/tmp") as directory:
            configuration = Path(directory) / "streams.toml"
            configuration.write_text(STREAMS)
            daemon = Daemon("--backend", backend, "--config", str(configuration))
            try:
                daemon.start()
                status = run_machine(image, daemon, GREETING.format(where=where), Path(directory))
                daemon.stop()
                if log := daemon.log():
                    print(f"the daemon said:\n{log}", end="")
            finally:
                daemon.close()
    except (ImageUnavailable, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, terminal)
    played = sorted(path.name for path in takes.glob("out-*.wav"))
    if backend != "pipewire" and played:
        print(f"what was played is in {takes}: {', '.join(played)}")
    return status


if __name__ == "__main__":
    raise SystemExit(main(*map(Path, sys.argv[1:])))
