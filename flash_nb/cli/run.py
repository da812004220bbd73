"""``flash run``: serve a project from here."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from flash_nb import settings as settings_
from flash_nb.backends.choice import choose, make
from flash_nb.cli.port import open_port

LOCALHOST = "localhost"
PORT = 8888
ASK_ABOVE = 5


def run(
    auto_provision: Annotated[
        bool, typer.Option("--auto-provision", help="Make all endpoints before serving.")
    ] = False,
    host: Annotated[str, typer.Option("--host", envvar="FLASH_HOST", help="Where to listen.")] = LOCALHOST,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", "-p", envvar="FLASH_PORT", min=0, max=65535, help=f"Default: {PORT}; 0 is any."
        ),
    ] = None,
    reload: Annotated[bool, typer.Option(help="Start again when a file of the project changes.")] = True,
) -> None:
    """Serve the project of this folder; its functions run on the local engine, or on Runpod with a key.

    Serves the FastAPI application of main.py, app.py or server.py, and each @remote function by its name:
    POST /functions/NAME. At the end it deletes the endpoints that it created.
    """
    from flash_nb.project.address import address, listen
    from flash_nb.project.scan import scan
    from flash_nb.project.serve import Serving, serve
    from flash_nb.project.serve.endpoints import created
    from flash_nb.project.sources import files_in

    root = Path.cwd()
    settings = settings_.load()
    backend = choose(settings)
    project = scan(root, files_in(root))
    count = len(project.groups)
    if auto_provision and backend == "runpod":
        make(backend, settings)  # a key that is missing is said before anything else
        if count > ASK_ABOVE:
            _ask(count)
    opened = open_port(partial(listen, host), port, PORT)
    if host not in (LOCALHOST, "127.0.0.1", "::1"):
        typer.secho(f"Everybody who reaches {host} can call the functions.", fg="yellow", err=True)
    with created() as told:
        serving = Serving(root, address(host, opened), told, auto_provision)
        status = serve(serving, opened, settings, backend, reload=reload)
    raise typer.Exit(status)


def _ask(count: int) -> None:
    """Ask whether that many endpoints are meant.

    Raises:
        typer.Exit: They are not, or there is nobody to ask.
    """
    question = f"--auto-provision makes {count} endpoints at Runpod; workers that start are billed."
    if not sys.stdin.isatty():
        typer.echo(f"{question} It asks at a terminal: run it there.", err=True)
        raise typer.Exit(1)
    if not typer.confirm(f"{question} Go on?", default=False):
        raise typer.Exit(1)
