"""The command line: what each command takes. What it does stands in `service` and `tools`, imported when it runs."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from vsnd_hybrid.service.errors import ServiceError

PROGRAM = "vsnd-hybrid"
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=_SETTINGS)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=lambda c, _, on: on and _version(c))
def cli() -> None:
    """A vhost-user sound device for every virtual machine monitor."""


def _version(context: click.Context) -> None:
    from vsnd_hybrid import __version__

    click.echo(f"{PROGRAM} {__version__}")
    context.exit()


@cli.command(epilog="SIGTERM or SIGINT ends the daemon with status 0.")
@click.option("--socket-path", metavar="PATH", help="Make the vhost-user socket here; it is removed at the end.")
@click.option("--fd", type=int, metavar="N", help="Use this descriptor instead: a listening or a connected socket.")
@click.option("--backend", metavar="NAME[,KEY=VALUE...]", help="The audio engine and its options.  [default: auto]")
@click.option("--outputs", type=click.IntRange(0), metavar="N", help="Streams that play.  [default: 1]")
@click.option("--inputs", type=click.IntRange(0), metavar="N", help="Streams that record.  [default: 1]")
@click.option("--config", metavar="FILE", help="A TOML file with these options and with streams described one by one.")
@click.option("--log-level", type=click.Choice(["error", "warning", "info", "debug"]), help="[default: warning]")
@click.option("--print-capabilities", is_flag=True, help="Print what this daemon is as JSON, and exit.")
def run(
    socket_path: str | None,
    fd: int | None,
    backend: str | None,
    outputs: int | None,
    inputs: int | None,
    config: str | None,
    log_level: str | None,
    print_capabilities: bool,
) -> None:
    """Serve a sound device to one front end after the other.

    Options on the command line override those of the configuration file.
    """
    if print_capabilities:
        from vsnd_hybrid.service.capabilities import as_json

        click.echo(as_json())
        return
    from vsnd_hybrid.backends.options import BackendSpec
    from vsnd_hybrid.service import daemon
    from vsnd_hybrid.service.config import Settings

    settings = Settings(
        socket_path=socket_path,
        fd=fd,
        backend=BackendSpec.parse(backend) if backend is not None else None,
        outputs=outputs,
        inputs=inputs,
        log_level=log_level,
    )
    if config is not None:
        from vsnd_hybrid.service import toml

        settings = settings.over(toml.load(config))
    daemon.run(settings)


@cli.command()
@click.option("--dir", "directory", default="demo", show_default=True, metavar="DIR", help="Where the files are put.")
def demo(directory: str) -> None:
    """Play and record a tune over a real vhost-user socket, and show whether every frame arrived."""
    from vsnd_hybrid.tools.demo import run

    raise SystemExit(run(directory))


def main() -> NoReturn:
    """The entry point. Status 0, 1 for what `ServiceError` says, 2 for a wrong option; errors are one line."""
    try:
        cli(prog_name=PROGRAM, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        help_at = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        fail(f"{error.format_message().rstrip('.')}{help_at}", 2)
    except click.Abort:
        sys.exit(130)
    except ServiceError as error:
        fail(str(error), 1)
    sys.exit(0)


def fail(message: str, status: int) -> NoReturn:
    """Say in one line what was wrong, and exit."""
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    sys.exit(status)
