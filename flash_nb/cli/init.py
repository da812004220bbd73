"""``flash init``: write a small project that works at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flash_nb.errors import ProjectError
from flash_nb.project import skeleton

HERE = "."


def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A folder to make. Default: the files go into this one.")
    ] = HERE,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite files without asking.")] = False,
) -> None:
    """Write a project: a web application with a function on a CPU and one on a GPU."""
    folder = Path.cwd() if name == HERE else Path.cwd() / skeleton.checked_name(name)
    files = skeleton.files_of(folder.name)
    existing = skeleton.conflicts(folder, files)
    if existing and not force:
        _ask(folder, existing)
    written = skeleton.write(folder, files)
    typer.echo(_done(name, written, len(files)))


def _ask(folder: Path, existing: list[str]) -> None:
    """Ask whether files may be overwritten.

    Raises:
        ProjectError: There is nobody to ask.
        typer.Exit: They may not.
    """
    listed = "".join(f"\n  {path}" for path in existing)
    there = f"{folder} has {len(existing)} of these files already, with another content:{listed}"
    if not sys.stdin.isatty():
        raise ProjectError(there, hint="Nothing was written. To overwrite them: --force")
    typer.echo(there)
    if not typer.confirm("Overwrite them?", default=False):
        typer.echo("Nothing was written.")
        raise typer.Exit(1)


def _done(name: str, written: list[str], count: int) -> str:
    folder = "this folder" if name == HERE else f"{name}/"
    lines = [
        f"Wrote {len(written)} of {count} files into {folder}" + ("." if written else ": all are there."),
        "",
        "Next:",
        *([] if name == HERE else [f"  cd {name}"]),
        "  python -m pip install -r requirements.txt",
        "  flash run        # then open http://localhost:8888/docs",
        "",
        "Functions run on this machine until there is an API key: flash login",
    ]
    return "\n".join(lines)
