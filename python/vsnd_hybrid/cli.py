"""The entry point of the command ``vsnd-hybrid``. The commands themselves are declared in `commands`, with click.

A daemon that is started in the plain form does not import click: that would be a quarter of its time to start.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, NoReturn

PROGRAM: Final = "vsnd-hybrid"


class Option(NamedTuple):
    """An option of ``run``. `kind`: str, a number (int), a flag (bool), or the words that are allowed."""

    name: str
    kind: type[str | int | bool] | tuple[str, ...]
    metavar: str
    help: str

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")


RUN_OPTIONS: Final = (
    Option("socket-path", str, "PATH", "Make the vhost-user socket here; it is removed at the end."),
    Option("fd", int, "N", "Use this descriptor instead: a listening or a connected socket."),
    Option("backend", str, "NAME[,KEY=VALUE...]", "The audio engine and its options.  [default: auto]"),
    Option("outputs", int, "N", "Streams that play, 0 to 32.  [default: 1]"),
    Option("inputs", int, "N", "Streams that record, 0 to 32.  [default: 1]"),
    Option("config", str, "FILE", "A TOML file with these options and with streams described one by one."),
    Option(
        "log-level",
        ("error", "warning", "info", "debug"),
        "LEVEL",
        "What to log on standard error.  [default: warning]",
    ),
    Option("socket-mode", str, "MODE", "Who may connect to the socket, in octal.  [default: 0600]"),
    Option("socket-group", str, "GROUP", "The group of the socket."),
    Option(
        "sandbox",
        ("auto", "strict", "none"),
        "MODE",
        "Walls around the daemon. auto: all that the host has; strict: all, or no start; none: no walls.  [default: auto]",
    ),
    Option("user", str, "NAME[:GROUP]", "Become this user when started as root."),
    Option(
        "rt-priority",
        int,
        "N",
        "SCHED_FIFO priority of the threads that move audio, 1 to 99; 0: ordinary threads.  [default: 20 if permitted]",
    ),
    Option(
        "mlock",
        ("auto", "on", "off"),
        "MODE",
        "Keep the daemon in memory. auto: where permitted; on: or no start; off: it may be swapped.  [default: auto]",
    ),
    Option("print-capabilities", bool, "", "Print what this daemon is as JSON, and exit."),
)


def main() -> NoReturn:
    """Run the command. Status 0; 1 where an error ends it, 2 for a wrong command line; errors are one line."""
    arguments = sys.argv[1:]
    values = plain(arguments[1:], RUN_OPTIONS) if arguments[:1] == ["run"] else None
    if values is None:
        from vsnd_hybrid.commands import main as with_click

        _leave(with_click(arguments))
    _leave(run(values))


def _leave(status: int) -> NoReturn:
    """Exit. A thread of an engine that does not end is not waited for, as the interpreter would."""
    stuck = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    if stuck:
        print(
            f"{PROGRAM}: {', '.join(stuck)} of an engine does not end; it is left behind", file=sys.stderr, flush=True
        )
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def plain(arguments: Sequence[str], options: Sequence[Option]) -> dict[str, str | int] | None:
    """Values by `Option.key`, if `arguments` are pairs ``--name value`` (or ``--name=value``) without a mistake.

    None for everything else: help, flags, mistakes. click deals with those.
    """
    known = {f"--{option.name}": option for option in options}
    values: dict[str, str | int] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        option = known.get(name)
        if option is None or option.kind is bool or option.key in values:
            return None
        text = value if equals else next(rest, None)
        if text is None:
            return None
        if option.kind is int:
            if not (text.isascii() and text.isdigit() and len(text) <= 18):
                return None
            values[option.key] = int(text)
        elif option.kind is str or (isinstance(option.kind, tuple) and text in option.kind):
            values[option.key] = text
        else:
            return None
    return values


def run(values: Mapping[str, object]) -> int:
    """``vsnd-hybrid run`` with these values; returns the exit status."""
    # Hardly anything that start-up makes is garbage; the daemon enables it when it serves.
    gc.disable()
    from vsnd_hybrid.service import run
    from vsnd_hybrid.service.errors import ServiceError

    try:
        run(values)
    except ServiceError as error:
        return fail(str(error), 1)
    return 0


def fail(message: str, status: int) -> int:
    """Say in one line what was wrong; returns `status`."""
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    return status
