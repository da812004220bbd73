"""``flash check``: what would go wrong in a notebook, found without running it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:  # imported when there is something to check: other commands have no use for them
    from flash_nb.cells.finding import Finding
    from flash_nb.sdk.check import CellFinding

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
    drift: Annotated[
        bool, typer.Option("--drift", help="Also compare it with the projects exported from it.")
    ] = False,
    project: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The project; default: those found near the notebook.")
    ] = None,
) -> None:
    """Check every cell of a notebook without running it; status 1 if something would surely fail.

    With --drift it is 1 too if a project no longer is what an export of the notebook would make.
    """
    from flash_nb.sdk.check import check_notebook
    from flash_nb.sdk.notebook_file import read_cells

    cells = read_cells(notebook)
    folder = notebook.resolve().parent
    report = Report(notebook.name, len(cells), check_notebook(cells, folder=folder))
    if as_json:
        typer.echo(to_json(report))
    else:
        show(report, Console(highlight=False))
    drifts = False
    if drift or project is not None:
        from flash_nb.cli.export import check_drift

        drifts = check_drift(notebook, project, Console(highlight=False, stderr=as_json))
    if report.has_errors or drifts:
        raise typer.Exit(1)


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
