"""``flash login``: keep an API key where Runpod's own tools keep it too."""

from __future__ import annotations

import getpass
import os

import typer

from flash_nb.backends.auth import VARIABLE, ApiKey, config_file, find_key
from flash_nb.loop import LoopThread

CONSOLE = "https://console.runpod.io/user/settings"


def login() -> None:
    """Ask for an API key, try it, and store it in ~/.runpod/config.toml; nothing shows it."""
    file = config_file()
    typer.echo(f"API keys are made at {CONSOLE}")
    key = ApiKey(getpass.getpass("API key: ").strip(), "what you typed")
    LoopThread().run(_try(key))
    key.keep(file)
    typer.echo(f"Stored in {file}.")
    found = find_key()
    if found is not None and found.source != str(file):
        where = f"unset {VARIABLE}" if VARIABLE in os.environ else f"remove it from {found.source}"
        typer.echo(f"The key from {found.source} is used instead of it: {where}.")


async def _try(key: ApiKey) -> None:
    """Ask Runpod something with a key.

    Raises:
        ApiKeyError: Runpod refuses it.
        BackendError: Runpod cannot be reached.
    """
    from flash_nb.backends.runpod.client import Client
    from flash_nb.protocol import graphql

    client = Client(key)
    try:
        await client.query(graphql.ENDPOINTS)
    finally:
        await client.aclose()
