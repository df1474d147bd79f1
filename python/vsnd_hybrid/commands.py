"""The commands, declared with click: what each takes. What it does stands in `service` and `tools`, imported when it runs."""

from __future__ import annotations

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
    if text.isascii() and text.isdigit():
        return int(text)
    raise click.BadParameter(f"{text!r} is not a whole number.")


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


@cli.command(short_help="Play and record a tune over a real socket.")
@click.option("--dir", "directory", default="demo", show_default=True, metavar="DIR", help="Where the files are put.")
def demo(directory: str) -> int:
    """Play and record a tune over a real vhost-user socket, and show whether every frame arrived."""
    from vsnd_hybrid.tools.demo import run

    return run(directory)
