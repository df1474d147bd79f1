"""The commands, declared with click: what each takes. What it does stands in `service` and `tools`, imported when it runs."""

from __future__ import annotations

import re
from typing import Any

import click

from vsnd_hybrid.cli import PROGRAM, RUN_OPTIONS, Option, fail
from vsnd_hybrid.cli import run as run_daemon
from vsnd_hybrid.service.errors import ServiceError


def main(arguments: list[str]) -> int:
    """Run a command line; returns the exit status. Errors are one line."""
    try:
        status = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        see = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        return fail(f"{error.format_message().rstrip('.')}{see}", 2)
    except click.Abort:
        return 130
    except ServiceError as error:
        return fail(str(error), 1)
    return status if isinstance(status, int) else 0


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from vsnd_hybrid import __version__

        click.echo(f"{PROGRAM} {__version__}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Say it.")
def cli() -> None:
    """A vhost-user sound device for every virtual machine monitor."""


def _option(option: Option) -> click.Option:
    kind: Any = option.kind
    if isinstance(kind, tuple):
        return click.Option([f"--{option.name}"], type=click.Choice(kind), help=option.help)
    if kind is bool:
        return click.Option([f"--{option.name}"], is_flag=True, help=option.help)
    return click.Option(
        [f"--{option.name}"], type=_number if kind is int else kind, metavar=option.metavar, help=option.help
    )


def _number(text: str) -> int:
    # What is allowed for it is said by those who use it; Python refuses to read a number of thousands of digits.
    if re.fullmatch("-?[0-9]{1,18}", text):
        return int(text)
    raise click.BadParameter(f"{text[:80]!r} is not a whole number.")


def _run(**values: Any) -> int:
    if values.pop("print_capabilities"):
        from vsnd_hybrid.service.capabilities import as_json

        click.echo(as_json())
        return 0
    return run_daemon({key: value for key, value in values.items() if value is not None})


cli.add_command(
    click.Command(
        "run",
        callback=_run,
        params=[_option(option) for option in RUN_OPTIONS],
        short_help="Serve a sound device to one front end after the other.",
        help="Serve a sound device to one front end after the other.\n\n"
        "Options on the command line override those of the configuration file. "
        "SIGTERM or SIGINT ends the daemon with status 0.",
    )
)


#: Options of ``run`` that are about the socket of one guest, or about no guest.
_FOR_ONE = ("socket-path", "fd", "print-capabilities")


def _serve(socket_dir: str, guest: tuple[str, ...], **values: Any) -> int:
    from vsnd_hybrid.service import run_many

    run_many(socket_dir, guest, {key: value for key, value in values.items() if value is not None})
    return 0


cli.add_command(
    click.Command(
        "serve",
        callback=_serve,
        params=[
            click.Option(
                ["--socket-dir"], required=True, metavar="DIR", help="Make the socket DIR/NAME.sock for each."
            ),
            click.Option(["--guest"], multiple=True, metavar="NAME", help="A guest; may be given many times."),
            *(_option(option) for option in RUN_OPTIONS if option.name not in _FOR_ONE),
        ],
        short_help="Serve many guests, each from a process of its own.",
        help="Serve many guests, each from a process of its own.\n\n"
        "The process of a guest is forked from this one when its first front end connects. "
        "{name} in the settings of backends and streams, and in --user, becomes the guest's name. "
        "Guests come and go with 'vsnd-hybrid guests'. SIGTERM or SIGINT ends all of them with status 0.",
    )
)


@cli.group(short_help="Add, remove and list the guests of a running 'serve'.")
def guests() -> None:
    """Add, remove and list the guests of a running 'serve'."""


def _directory() -> click.Option:
    return click.Option(["--socket-dir"], required=True, metavar="DIR", help="As given to 'serve'.")


def _add(socket_dir: str, name: str) -> None:
    from vsnd_hybrid.tools.guests import ask

    click.echo(ask(socket_dir, f"add {name}"))


def _remove(socket_dir: str, name: str) -> None:
    from vsnd_hybrid.tools.guests import ask

    ask(socket_dir, f"remove {name}")


def _list(socket_dir: str) -> None:
    from vsnd_hybrid.tools.guests import listed

    for name, path, pid in listed(socket_dir):
        click.echo(f"{name}\t{path}\t{pid or '-'}")


guests.add_command(
    click.Command(
        "add", callback=_add, params=[_directory(), click.Argument(["name"])], help="Serve NAME too; prints its socket."
    )
)
guests.add_command(
    click.Command(
        "remove",
        callback=_remove,
        params=[_directory(), click.Argument(["name"])],
        help="Remove NAME's socket and end its process.",
    )
)
guests.add_command(
    click.Command("list", callback=_list, params=[_directory()], help="Print name, socket and process of each guest.")
)


@cli.command(short_help="Play and record a tune over a real socket.")
@click.option("--dir", "directory", default="demo", show_default=True, metavar="DIR", help="Where the files are put.")
def demo(directory: str) -> int:
    """Play and record a tune over a real vhost-user socket, and show whether every frame arrived."""
    from vsnd_hybrid.tools.demo import run

    return run(directory)


@cli.command(short_help="Measure this daemon, beside others in the same run.")
@click.option(
    "--cmd",
    "commands",
    multiple=True,
    metavar="NAME=COMMAND",
    help="A daemon to measure, the first is what the others are compared with: {sock} stands for the socket's path, "
    "{backend}, {outputs} and {inputs} for what a scenario needs.  [default: ours, and vhost-device-sound if installed]",
)
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    metavar="NAME",
    help="A scenario, a group, a pattern, or 'budgets', what the project's budgets need; may be given many times.",
)
@click.option("--repeats", type=click.IntRange(1, 1000), metavar="N", help="Rounds.  [default: 3; quick: 2]")
@click.option(
    "--seconds", type=click.FloatRange(0.1, 3600), metavar="S", help="How long to look.  [default: 2; quick: 0.5]"
)
@click.option("--quick", is_flag=True, help="A few scenarios, shortly.")
@click.option("--no-noise", is_flag=True, help="Do not measure the first one once more.")
@click.option("--no-syscalls", is_flag=True, help="Do not count system calls, in a pass of its own.")
@click.option(
    "--dir", "directory", default="bench", show_default=True, metavar="DIR", help="Where report and pictures are put."
)
@click.option("--json", "json_file", metavar="FILE", help="The result as JSON.  [default: bench.json in DIR]")
@click.option("--list", "listed", is_flag=True, help="List the scenarios, and exit.")
def bench(listed: bool, directory: str, json_file: str | None, no_noise: bool, no_syscalls: bool, **values: Any) -> int:
    """Measure what any vhost-user sound device costs, beside others in the same run."""
    from pathlib import Path

    from vsnd_hybrid.tools.bench import Options, listing, run

    if listed:
        click.echo(listing())
        return 0
    return run(
        Options(
            directory=Path(directory),
            json=Path(json_file) if json_file else None,
            noise=not no_noise,
            syscalls=not no_syscalls,
            **values,
        )
    )
