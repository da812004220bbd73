"""``flash check``: what would go wrong in a notebook, found without running it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from flash_nb.errors import CellError, FlashError

if TYPE_CHECKING:  # imported when there is something to check: other commands have no use for them
    from flash_nb.cells.finding import Finding
    from flash_nb.sdk.check import Cell, CellFinding, LineOptions

_LOOKS = {"error": ("✗", "red"), "warning": ("⚠", "yellow")}


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        name: The notebook.
        cells: How many code cells were looked at.
        found: By cell and line.
    """

    name: str
    cells: int
    found: Sequence[CellFinding]

    @property
    def findings(self) -> list[Finding]:
        """The findings alone."""
        return [each.finding for each in self.found]

    @property
    def has_errors(self) -> bool:
        """Whether something would surely go wrong."""
        return any(finding.is_error for finding in self.findings)

    @property
    def summary(self) -> str:
        """``a.ipynb: 2 errors and 1 warning in 12 cells``."""
        from flash_nb.cells.finding import counted

        return f"{self.name}: {counted(self.findings)} in {self.cells} cell{'s' * (self.cells != 1)}"


def check(
    notebook: Annotated[Path, typer.Argument(help="A notebook file.", metavar="NOTEBOOK.ipynb")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check every cell of a notebook without running it; status 1 if something would surely fail."""
    from flash_nb.sdk.check import check_notebook

    cells = read_cells(notebook)
    folder = notebook.resolve().parent
    report = Report(notebook.name, len(cells), check_notebook(cells, parse_line, folder=folder))
    if as_json:
        typer.echo(to_json(report))
    else:
        show(report, Console(highlight=False))
    if report.has_errors:
        raise typer.Exit(1)


def parse_line(line: str) -> LineOptions:
    """Parse a line with one of our magics.

    Raises:
        CellError: It makes no sense.
    """
    from IPython.core.error import UsageError

    from flash_nb.notebook.options import parse_magic

    magic = line.partition(" ")[0]
    try:
        options = parse_magic(line)
    except UsageError as error:
        raise CellError(str(error).removeprefix(f"{magic}: "), hint=f"see {magic}?") from None
    if options.gpus or options.cpu:
        _check_hardware(options.gpus, options.cpu)
    return options


def _check_hardware(gpus: Sequence[str], cpu: str) -> None:
    from flash_nb.errors import ResourceError
    from flash_nb.resources import CpuLiveServerless, LiveServerless

    fields: dict[str, Any] = {"gpus": list(gpus)} if gpus else {"instanceIds": [cpu]}
    try:
        (LiveServerless if gpus else CpuLiveServerless)(name="checked", **fields)
    except ResourceError as error:
        raise CellError(error.message, hint=error.hint or "see %%flash_remote?") from None


def read_cells(path: Path) -> list[Cell]:
    """Return the code cells of a notebook file.

    Raises:
        FlashError: It is none, or not one in Python.
    """
    from flash_nb.sdk.check import Cell

    if not path.is_file():
        raise FlashError(f"There is no notebook {str(path)!r}.")
    try:
        document = _document(path.read_text(encoding="utf-8"))
        language = str(document["metadata"].get("kernelspec", {}).get("language", "python"))
        cells = [
            Cell(
                number,
                "".join(cell["source"]),  # a text, or a list of lines
                str(cell.get("id", "")),
                may_fail="raises-exception" in cell["metadata"].get("tags", ()),
            )
            for number, cell in enumerate(document["cells"], start=1)
            if cell["cell_type"] == "code"
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        is_plain = isinstance(error, (OSError, ValueError))
        reason = str(error).splitlines()[0].rstrip(".") if is_plain else "it has not the form of one"
        raise FlashError(f"{path.name} is not a notebook: {reason}.") from error
    if language.lower() not in {"python", "ipython", "python3"}:
        raise FlashError(f"{path.name} is a notebook in {language}: only Python can be checked.")
    return cells


def _document(text: str) -> Any:
    """Return a notebook in format 4.

    Its schema is not validated: that takes seconds, and all that a check needs it looks at itself.
    """
    document = json.loads(text)
    if document["nbformat"] < 4:  # noqa: PLR2004 - the format since 2015
        import nbformat

        return nbformat.convert(nbformat.from_dict(document), 4)
    return document


def to_json(report: Report) -> str:
    """Return a report for programs."""
    findings = [
        {
            "cell": each.cell.number,
            "id": each.cell.id,
            "line": each.finding.line,
            "severity": each.finding.severity.value,
            "code": each.finding.code,
            "message": each.finding.message,
            "fix": each.finding.fix,
        }
        for each in report.found
    ]
    errors = sum(finding.is_error for finding in report.findings)
    return json.dumps(
        {
            "notebook": report.name,
            "cells": report.cells,
            "errors": errors,
            "warnings": len(findings) - errors,
            "findings": findings,
        },
        indent=1,
        ensure_ascii=False,
    )


def show(report: Report, console: Console) -> None:
    """Print a report: a heading for each cell, two lines for each finding, and how many there are."""
    cell = None
    for each in report.found:
        if each.cell != cell:
            cell = each.cell
            shown_id = f"  {cell.id}" if cell.id else ""
            console.print(Text.assemble((f"cell {cell.number}", "bold"), (shown_id, "dim")), soft_wrap=True)
        word = each.finding.severity.value
        sign, colour = _LOOKS[word]
        head = Text.assemble("  ", (f"{sign} {word:<7}", colour), f"  line {each.finding.line:<4}")
        console.print(Text.assemble(head, each.finding.message), soft_wrap=True)
        console.print(Text(" " * len(head) + f"→ {each.finding.fix}", "dim"), soft_wrap=True)
    sign = "✗" if report.has_errors else "✓"
    console.print(
        Text(f"{sign} {report.summary}", "bold red" if report.has_errors else "bold green"), soft_wrap=True
    )
