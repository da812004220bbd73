"""``flash cache``: the results that cells with ``--cache`` have kept, and the end of them."""

from __future__ import annotations

from pathlib import Path

import typer

from flash_nb import settings as settings_
from flash_nb.sdk.cache import LIMIT_BYTES, ResultCache, Usage
from flash_nb.sdk.look import human_size

app = typer.Typer(help="Results that cells with --cache have kept.", invoke_without_command=True)


@app.callback()
def show(context: typer.Context) -> None:
    """Say how many results are kept, how large they are, and where."""
    if context.invoked_subcommand:
        return
    cache, folder = _cache()
    usage = cache.usage()
    if not usage.results:
        typer.echo(f"No results are kept ({_short(folder)}).")
    else:
        typer.echo(f"{_said(usage)} of at most {human_size(LIMIT_BYTES)} ({_short(folder)}).")


@app.command()
def clear() -> None:
    """Delete them all; their cells run again."""
    cache, _ = _cache()
    typer.echo(f"Deleted {_said(cache.clear())}.")


def _cache() -> tuple[ResultCache, Path]:
    folder = settings_.load().results
    return ResultCache(folder, say=typer.echo), folder


def _said(usage: Usage) -> str:
    return f"{usage.results:,} result{'s' * (usage.results != 1)}, {human_size(usage.bytes)}"


def _short(folder: Path) -> str:
    """Return a path without the user's home: it may be printed into a notebook."""
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)
