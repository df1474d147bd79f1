"""Who is measured: a name and a command line with places to fill in, for any vhost-user sound device."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from vsnd_hybrid.service.errors import ServiceError

#: What stands for the socket and for what a scenario needs in a command line.
PLACES: Final = ("{sock}", "{backend}", "{outputs}", "{inputs}")
#: Words for ``{backend}``, by what a scenario needs: ours, and those of other daemons.
OURS: Final = {
    "unpaced": "null,paced=false",
    "copied": "null,paced=false,copy=true",
    "null": "null",
    "pipewire": "pipewire",
    "pipewire-low": "pipewire,latency=low",
    "busy": "bench-busy,load=thread",
    "collecting": "bench-busy,load=heap",
}
OTHERS: Final = {"unpaced": "null", "null": "null", "pipewire": "pipewire", "pipewire-low": "pipewire"}

RIVAL: Final = "vhost-device-sound"
#: Where `make bench-rival` puts it.
RIVAL_DIRECTORY: Final = Path(".cache/rival/bin")
FLOOR: Final = "pw-cat"


class Unsupported(Exception):
    """A contender has nothing for a scenario. The message is one line."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One daemon that is measured."""

    name: str
    command: str
    #: The first one once more: whatever differs from it is noise.
    again: bool = False

    @classmethod
    def parse(cls, text: str) -> Contender:
        """From ``NAME=COMMAND``. ServiceError if it is none, or has no ``{sock}``."""
        name, equals, command = text.partition("=")
        if not equals or not name.strip() or not command.strip():
            raise ServiceError(f"--cmd {text!r}: expected NAME=COMMAND, with {{sock}} where the socket's path belongs")
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ServiceError(f"--cmd {text!r}: {error}") from error
        if not any("{sock}" in word for word in words):
            raise ServiceError(f"--cmd {text!r} does not say where the socket's path belongs: {{sock}}")
        return cls(name.strip(), command.strip())

    def argv(self, socket: Path, *, engine: str, outputs: int, inputs: int) -> list[str]:
        """The command for a scenario. Raises `Unsupported` if it cannot be told to use that engine."""
        words = shlex.split(self.command)
        if any("{backend}" in word for word in words):
            backend = (OURS if self.is_ours else OTHERS).get(engine)
            if backend is None:
                raise Unsupported(f"it has no engine for this ({engine})")
        else:
            backend = ""
        values = {"sock": str(socket), "backend": backend, "outputs": str(outputs), "inputs": str(inputs)}
        for name, value in values.items():
            words = [word.replace(f"{{{name}}}", value) for word in words]
        return words

    @property
    def is_ours(self) -> bool:
        """Whether the command runs this program, whose backends have names of their own."""
        return any(os.path.basename(word) in ("vsnd-hybrid", "vsnd_hybrid") for word in shlex.split(self.command))


def ours() -> Contender:
    """This program, as it is installed beside the interpreter."""
    program = Path(sys.executable).with_name("vsnd-hybrid")
    words = [str(program)] if program.exists() else [sys.executable, "-m", "vsnd_hybrid"]
    options = "run --socket-path {sock} --backend {backend} --outputs {outputs} --inputs {inputs}"
    return Contender("ours", f"{shlex.join(words)} {options}")


def rival() -> Contender | None:
    """rust-vmm's daemon, if it is installed."""
    place = RIVAL_DIRECTORY / RIVAL
    program = str(place.resolve()) if place.exists() else shutil.which(RIVAL)
    return Contender("rival", f"{shlex.quote(program)} --socket {{sock}} --backend {{backend}}") if program else None


def chosen(commands: Sequence[str]) -> list[Contender]:
    """Those that the command line names; else ours, and the rival if it is installed. ServiceError."""
    contenders = [Contender.parse(text) for text in commands]
    if not contenders:
        contenders = [ours(), *filter(None, [rival()])]
    names = [contender.name for contender in contenders]
    if FLOOR in names or len(set(names)) < len(names):
        raise ServiceError(f"--cmd: names must differ, and none be {FLOOR}: {', '.join(names)}")
    return contenders


def again(contender: Contender) -> Contender:
    """The same one, to be measured once more."""
    return replace(contender, name=f"{contender.name}′", again=True)
