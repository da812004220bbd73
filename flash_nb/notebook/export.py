"""``%flash export`` and ``%flash diff``: this notebook as a project, and what differs between the two."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flash_nb.cli.export import (
    Overwrite,
    Partial,
    Target,
    lines_of,
    show_drift,
    summary,
    target_named,
)
from flash_nb.errors import FlashError
from flash_nb.notebook.check import cells_so_far, file_of
from flash_nb.sdk.look import AMBER, BOX, GREEN
from flash_nb.sdk.outputs import Place

if TYPE_CHECKING:
    from flash_nb.cells.reading import Cell
    from flash_nb.notebook.notebook import Notebook
    from flash_nb.project.export import Export
    from flash_nb.project.export.folder import Changes

UNSAVED = "notebook.ipynb"
"""What a notebook is called whose file is not known."""

_CELL = "text-align:left;padding:1px 14px 1px 0;white-space:nowrap;border:none"
_TABLE = "border:none;border-collapse:collapse;font-size:12px;margin:2px 0"
_FAINT = "opacity:.65"
_REMARK = "white-space:pre-wrap;font-size:12px"
_HEAD = ("cell", "function", "file", "endpoint", "route")


def export(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The project's folder.", metavar="DIR")],
    target: Target = "",
    partial: Partial = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn this notebook into a Flash project that builds; nothing of it is executed again.

    The notebook is read as it was saved last. Where its file is not known, the cells that have been run so
    far are exported.
    """
    from flash_nb.project.export.folder import export_to

    name, cells, beside = _source(ctx.obj)
    made, changes = export_to(
        folder.expanduser(),
        name,
        cells,
        target=target_named(target),
        partial=partial,
        overwrite=overwrite,
        beside=beside,
    )
    Place("export").show(html_of(made, changes), "\n".join(lines_of(made, changes)))


def diff(
    ctx: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(help="The project; default: those found near it.", metavar="DIR")
    ] = None,
) -> None:
    """Say what differs between this notebook and the project exported from it, cell by cell."""
    from flash_nb.project.export.drift import drift_of
    from flash_nb.project.export.folder import compare, projects_of

    name, cells, beside = _source(ctx.obj)
    if folder is not None:
        folders: Sequence[Path] = [folder.expanduser()]
    else:
        folders = projects_of((beside or Path.cwd()) / name)
    if not folders:
        raise FlashError(
            f"No project of {name} lies near it.",
            hint="Say which one: %flash diff DIR. Or: %flash export DIR",
        )
    found = [(path, drift_of(*compare(path, name, cells, beside=beside))) for path in folders]
    show_drift(name, found, Console(file=sys.stdout, highlight=False, force_jupyter=False, color_system=None))


def _source(notebook: Notebook) -> tuple[str, Sequence[Cell], Path | None]:
    """Return the name, the cells and the folder of a notebook."""
    from flash_nb.sdk.notebook_file import read_cells

    path = file_of(notebook)
    if path is None:
        return UNSAVED, cells_so_far(notebook.shell), None
    return path.name, read_cells(path), path.resolve().parent


def html_of(made: Export, changes: Changes) -> str:
    """Return an export as one small piece of HTML with inline styles only, as every record is."""
    head = "".join(f'<td style="{_CELL};{_FAINT}">{label}</td>' for label in _HEAD)
    rows = "".join(_row(each) for each in _rows(made))
    remarks = [f"{name} is copied: a module beside the notebook" for name in made.companions]
    remarks += [f"left out: {trouble}" for trouble in made.left_out]
    remarks += dict.fromkeys(made.notes)
    remarks += [f"{name} is yours and stays as it is" for name in changes.kept]
    sign = f'<span style="color:{AMBER}">⚠</span>'
    listed = "".join(f'<div style="{_REMARK}">{sign} {escape(text)}</div>' for text in remarks)
    sign = f'<span style="color:{GREEN};font-weight:600">✓ exported</span>'
    return (
        f'<div style="{BOX.format(colour=GREEN)}">{sign} {escape(summary(made, changes))}'
        f'<table style="{_TABLE}"><tr>{head}</tr>{rows}</table>{listed}</div>'
    )


def _rows(made: Export) -> Iterator[Sequence[str]]:
    for each in made.functions:
        yield str(each.cell), each.name, each.file, each.resource, each.route


def _row(texts: Sequence[str]) -> str:
    cells = (f'<td style="{_CELL}">{escape(text)}</td>' for text in texts)
    return f"<tr>{''.join(cells)}</tr>"
