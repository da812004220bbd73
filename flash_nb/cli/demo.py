"""``flash demo``: execute a notebook in a real kernel, and print each cell with its output."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.syntax import Syntax

from flash_nb.errors import FlashError

QUICKSTART = "quickstart.ipynb"
CELL_TIMEOUT_S = 600

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def demo(
    notebook: Annotated[
        Path | None, typer.Argument(help="Default: the quickstart that comes with flash_nb.")
    ] = None,
    lab: Annotated[bool, typer.Option("--lab", help="Open it in JupyterLab instead.")] = False,
) -> None:
    """Run a notebook on the local engine and show what happened; status 1 if a cell fails."""
    path = notebook or quickstart()
    if not path.is_file():
        raise FlashError(f"There is no notebook {str(path)!r}.")
    if lab:
        _open_lab(path)
    elif not asyncio.run(_execute(path, Console(highlight=False))):
        raise typer.Exit(1)


def quickstart() -> Path:
    """Return the path of the quickstart: in the package, or beside it in a checkout."""
    packaged = Path(str(resources.files("flash_nb") / "cli" / QUICKSTART))
    return packaged if packaged.is_file() else Path(__file__).parents[2] / "notebooks" / QUICKSTART


def _open_lab(path: Path) -> None:
    """Open a copy, so that the original stays as it is."""
    from importlib.util import find_spec

    if find_spec("jupyterlab") is None:
        raise FlashError("JupyterLab is not installed.", hint="Install it: pip install 'flash-nb[lab]'")
    folder = Path(tempfile.mkdtemp(prefix="flash-demo-"))
    copy = Path(shutil.copy(path, folder))
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", f"--notebook-dir={folder}", str(copy)])  # noqa: S606


async def _execute(path: Path, console: Console) -> bool:
    """Execute the code cells one after the other; stop at the first that fails."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    document = nbformat.read(path, as_version=4)
    client = NotebookClient(document, timeout=CELL_TIMEOUT_S, kernel_name=_kernel_name())
    console.print(f"[bold]{path.name}[/] in a kernel of {sys.executable}\n")
    async with client.async_setup_kernel():
        for index, cell in enumerate(document.cells):
            if cell.cell_type == "markdown":
                console.print(f"[dim]{cell.source.strip()}[/]\n")
            if cell.cell_type != "code" or not cell.source.strip():
                continue
            _print_source(console, cell)
            try:
                await client.async_execute_cell(cell, index)
            except CellExecutionError:
                _print_outputs(console, cell)
                console.print("[bold red]This cell failed.[/]")
                return False
            _print_outputs(console, cell)
    console.print("[bold green]Every cell ran.[/]")
    return True


def _kernel_name() -> str:
    """Return the name of a kernel of this very interpreter."""
    from jupyter_client.kernelspec import KernelSpecManager

    for name, found in KernelSpecManager().get_all_specs().items():
        if found["spec"]["argv"][:1] == [sys.executable]:
            return str(name)
    return "python3"  # ipykernel provides it for the interpreter that asks


def _print_source(console: Console, cell: Any) -> None:
    source = Syntax(cell.source, "python", background_color="default", word_wrap=True)
    console.print(source)


def _print_outputs(console: Console, cell: Any) -> None:
    for text in _outputs(cell):
        for line in _visible(text).splitlines():
            console.print("  [dim]│[/] ", end="")
            console.print(line, markup=False)
    console.print()


def _visible(text: str) -> str:
    """Return what a terminal shows in the end: of a progress bar, its last state."""
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return "\n".join(lines).rstrip()


def _outputs(cell: Any) -> Iterator[str]:
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        elif output.output_type == "error":
            yield _ANSI.sub("", "\n".join(output.traceback))
        else:
            yield _as_text(output.data)


def _as_text(data: Any) -> str:
    if "image/png" in data:
        size = len(data["image/png"]) * 3 // 4
        return f"[a figure, {size / 1000:.0f} KB of PNG]"
    return str(data.get("text/plain", ", ".join(data)))
