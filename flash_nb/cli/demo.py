"""``flash demo``: execute a notebook in a real kernel, and print each cell with its output."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markdown import Heading, Markdown
from rich.syntax import Syntax
from rich.text import Text
from rich.theme import Theme

from flash_nb.errors import FlashError

if TYPE_CHECKING:
    from nbclient import NotebookClient

QUICKSTART = "quickstart.ipynb"
CELL_TIMEOUT_S = 600

# Nothing with a background of its own: it is read on light and on dark terminals.
_THEME = Theme({"markdown.code": "cyan", "markdown.h1": "bold", "markdown.h2": "bold", "markdown.h3": "bold"})
_CODE_THEME = "ansi_dark"


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
    folder = path.resolve().parent if notebook else Path.cwd()
    if not asyncio.run(_execute(path, folder, Console(highlight=False, theme=_THEME))):
        raise typer.Exit(1)


def quickstart() -> Path:
    """Return the path of the quickstart: in the package, or beside it in a checkout."""
    packaged = Path(str(resources.files("flash_nb") / "cli" / QUICKSTART))
    return packaged if packaged.is_file() else Path(__file__).parents[2] / "notebooks" / QUICKSTART


def _open_lab(path: Path) -> None:
    """Become a JupyterLab that shows a copy, so that the original stays as it is."""
    from importlib.util import find_spec

    if find_spec("jupyterlab") is None:
        raise FlashError("JupyterLab is not installed.", hint="Install it: pip install 'flash-nb[lab]'")
    folder = Path(tempfile.mkdtemp(prefix="flash-demo-"))
    shutil.copy(path, folder)
    shown = f"--LabApp.default_url=/lab/tree/{quote(path.name)}"  # printed too, where there is no browser
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", shown]
    if getattr(os, "geteuid", lambda: 1)() == 0:
        command.append("--allow-root")  # in a container; it asks for its token and listens on loopback only
    os.execv(sys.executable, command)  # noqa: S606


async def _execute(path: Path, folder: Path, console: Console) -> bool:
    """Execute the code cells one after the other; stop at the first that fails."""
    import nbformat
    from nbclient.exceptions import CellExecutionError

    document = nbformat.read(path, as_version=4)
    status = console.status("starting a kernel")
    begun, ran = time.monotonic(), 0
    console.print(f"[bold]{path.name}[/] [dim]in a kernel of {sys.executable}[/]\n", soft_wrap=True)
    with status:
        client = _client(document, lambda cell: status.update(Text(_doing(cell), "dim")))
        async with client.async_setup_kernel(cwd=str(folder)):
            for index, cell in enumerate(document.cells):
                if cell.cell_type == "markdown":
                    _print_markdown(console, cell.source)
                if cell.cell_type != "code" or not cell.source.strip():
                    continue
                ran += 1
                _print_source(console, cell.source, ran)
                try:
                    await client.async_execute_cell(cell, index)
                except CellExecutionError:
                    _print_outputs(console, cell, ran)
                    console.print(f"[bold red]✗ Cell {ran} failed.[/]")
                    return False
                _print_outputs(console, cell, ran)
    console.print(f"[bold green]✓ Every cell ran:[/] {ran} in {time.monotonic() - begun:.0f} s.")
    return True


def _client(document: Any, on_change: Callable[[Any], None]) -> NotebookClient:
    """Return a client of a kernel of this very interpreter, whatever kernels the user has installed.

    Args:
        document: The notebook.
        on_change: Called with a cell that runs whenever its kernel says something.
    """
    from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class Client(NotebookClient):
        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            output = super().process_message(msg, cell, cell_index)
            on_change(cell)
            return output

    kernels = AsyncKernelManager(
        kernel_name=NATIVE_KERNEL_NAME, kernel_spec_manager=KernelSpecManager(kernel_dirs=[])
    )
    quiet = ["--log-level=ERROR"]  # ipykernel 7.3 warns of TCP, which cannot be helped here
    return Client(document, km=kernels, timeout=CELL_TIMEOUT_S, extra_arguments=quiet)


def _doing(cell: Any) -> str:
    """Return the last line that a running cell shows of itself: of a remote cell, its record."""
    shown = [_visible(text) for text in _texts(cell.outputs[:1])]
    return shown[0].partition("\n")[0] if shown else "running"


def _print_markdown(console: Console, source: str) -> None:
    shown = _Markdown(source, hyperlinks=False) if console.is_terminal else Text(source.strip())
    console.print(shown, soft_wrap=not console.is_terminal)
    console.print()


class _LeftHeading(Heading):
    """A heading where the text begins, without a box."""

    def __rich_console__(self, *_: Any) -> Iterator[Text]:
        self.text.justify = "left"
        yield self.text


class _Markdown(Markdown):
    elements = Markdown.elements | {"heading_open": _LeftHeading}


def _print_source(console: Console, source: str, number: int) -> None:
    code = Syntax("", "python", theme=_CODE_THEME).highlight(source)
    _print_beside(console, f"In [{number}]", code)


def _print_outputs(console: Console, cell: Any, number: int) -> None:
    """Print what a cell shows, one after the other, and an empty line."""
    for output, text in zip(cell.outputs, _texts(cell.outputs), strict=True):
        label = f"Out[{number}]" if output.output_type == "execute_result" else ""
        bar = "" if label else "│ ".rjust(len(f"In [{number}]  "))
        _print_beside(console, label, Text.from_ansi(_visible(text)), bar)
    console.print()


def _print_beside(console: Console, label: str, text: Text, bar: str = "") -> None:
    """Print a text beside its label, or all its lines beside a bar; a terminal wraps it there."""
    first = bar or f"{label}  "
    rest = bar or " " * len(first)
    text.rstrip()
    for number, line in enumerate(text.split(allow_blank=True)):
        parts = line.wrap(console, console.width - len(first)) if console.is_terminal else [line]
        for part_number, part in enumerate(parts):
            margin = rest if number or part_number else first
            console.print(Text.assemble((margin, "dim"), part), soft_wrap=True)


def _visible(text: str) -> str:
    """Return what a terminal shows in the end: of a progress bar, its last state."""
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return "\n".join(lines).rstrip()


def _texts(outputs: Any) -> Iterator[str]:
    for output in outputs:
        if output.output_type == "stream":
            yield output.text
        elif output.output_type == "error":
            yield "\n".join(output.traceback)
        else:
            yield _as_text(output.data)


def _as_text(data: Any) -> str:
    if "image/png" in data:
        size = len(data["image/png"]) * 3 // 4
        return f"[a figure, {size / 1000:.0f} KB of PNG]"
    return str(data.get("text/plain", ", ".join(data)))
