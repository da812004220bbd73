"""``%flash check``: the preflight of the notebook that this kernel runs, its values included."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from IPython.core.interactiveshell import InteractiveShell
from rich.console import Console

from flash_nb.cli.check import Report, show, to_json
from flash_nb.notebook.namespace import known_names
from flash_nb.notebook.pending import Pending

if TYPE_CHECKING:
    from flash_nb.cells.reading import Cell
    from flash_nb.notebook.notebook import Notebook


def check(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NOTEBOOK.ipynb", help="Default: this notebook.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check every cell of this notebook without running it, and the values that exist.

    A notebook is read as it was saved last. Where this one's file is not known, the cells that have been
    run so far are checked.
    """
    notebook: Notebook = ctx.obj
    report = report_on(notebook, Path(name).expanduser() if name else file_of(notebook))
    if as_json:
        typer.echo(to_json(report))
    else:
        show(report, Console(file=sys.stdout, highlight=False, force_jupyter=False, color_system=None))


def report_on(notebook: Notebook, path: Path | None) -> Report:
    """Return what a preflight of every cell finds, with what it finds in the values that exist here.

    Args:
        notebook: The one that runs.
        path: A notebook file; None for the cells so far.

    Raises:
        FlashError: The file is no notebook.
    """
    from flash_nb.sdk.check import check_notebook
    from flash_nb.sdk.notebook_file import read_cells

    shell = notebook.shell
    known = known_names(shell.user_ns, shell.user_ns_hidden)
    here: dict[str, Any] = {
        name: value
        for name, value in notebook.namespace.items()
        if name in known and not isinstance(value, Pending)
    }
    cells = read_cells(path) if path else cells_so_far(shell)
    found = check_notebook(
        cells,
        folder=path.resolve().parent if path else None,
        known=() if path else known,
        namespace=here,
    )
    return Report(f"{path.name}, as it was saved last" if path else "the cells so far", len(cells), found)


def file_of(notebook: Notebook) -> Path | None:
    """Return the file of a notebook, if its front end says it and it exists."""
    path = Path(notebook.path)
    return path if path.suffix == ".ipynb" and path.is_file() else None


def cells_so_far(shell: InteractiveShell) -> list[Cell]:
    """Return what was run in this session, but for the cell that runs now."""
    from flash_nb.cells.reading import Cell

    texts = shell.history_manager.input_hist_raw if shell.history_manager else []
    now = shell.displayhook.prompt_count
    return [Cell(number, text) for number, text in enumerate(texts) if 0 < number < now and text.strip()]
