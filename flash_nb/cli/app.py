"""The command tree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flash_nb.cli import build, cache, check, config, demo, endpoints, engine, export, init, login
from flash_nb.cli.run import run as run_project
from flash_nb.errors import FlashError
from flash_nb.version import __version__

app = typer.Typer(
    name="flash",
    help="Run notebook cells and Python functions on serverless GPUs and CPUs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(engine.app, name="engine")
app.add_typer(cache.app, name="cache")
app.command("build")(build.build)
app.command("check")(check.check)
app.command("export")(export.export)
app.command("diff")(export.diff)
app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("run")(run_project)
app.command("login")(login.login)
app.command("config")(config.config)
app.command("endpoints")(endpoints.endpoints)
app.command("down")(endpoints.down)


def _show_version(value: bool) -> None:
    if value:
        where = Path(__file__).parents[1]
        typer.echo(f"flash_nb {__version__} ({where})")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", "-v", callback=_show_version, is_eager=True, help="Show whose it is."),
    ] = False,
) -> None:
    pass


def run() -> None:
    """Run the command line; see `flash_nb.cli.main`."""
    try:
        app()
    except FlashError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(1)
