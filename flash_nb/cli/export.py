"""``flash export`` and ``flash diff``: a notebook as a project, and what differs between the two."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from flash_nb.errors import FlashError, did_you_mean

if TYPE_CHECKING:  # imported when there is something to export: other commands have no use for them
    from flash_nb.project.export import Export, TargetName
    from flash_nb.project.export.drift import Drift
    from flash_nb.project.export.folder import Changes

_LOOKS = {"changed": ("~", "yellow"), "new": ("+", "green"), "gone": ("-", "red"), "edited": ("✎", "red")}
_LINES = {"+": "green", "-": "red", "@": "cyan"}

Target = Annotated[
    str,
    typer.Option(
        metavar="flash_nb|runpod-flash", help="Whose Flash it is for; default: as before, flash_nb at first."
    ),
]
Partial = Annotated[bool, typer.Option("--partial", help="Leave out what cannot be exported.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Drop what was changed by hand inside of blocks.")
]


def export(
    notebook: Annotated[Path, typer.Argument(help="A notebook file.", metavar="NOTEBOOK.ipynb")],
    folder: Annotated[Path, typer.Argument(help="The project's folder.", metavar="DIR")],
    target: Target = "",
    partial: Partial = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn a notebook into a Flash project that builds; nothing of it is executed.

    Each endpoint becomes a file; functions, classes and remote cells become its functions. What you write
    outside of the blocks of an export stays when it is exported again.
    """
    from flash_nb.project.declared import TroubleError
    from flash_nb.project.export.folder import export_to
    from flash_nb.sdk.notebook_file import read_cells

    cells = read_cells(notebook)
    console = Console(highlight=False)
    try:
        made, changes = export_to(
            folder,
            notebook.name,
            cells,
            target=target_named(target),
            partial=partial,
            overwrite=overwrite,
            beside=notebook.resolve().parent,
        )
    except TroubleError as error:
        for line in refusal(error):
            Console(highlight=False, stderr=True).print(Text(line), soft_wrap=True)
        raise typer.Exit(1) from None
    for line in lines_of(made, changes):
        console.print(Text(line), soft_wrap=True)


def diff(
    notebook: Annotated[Path, typer.Argument(help="A notebook file.", metavar="NOTEBOOK.ipynb")],
    folder: Annotated[
        Path | None, typer.Argument(help="The project; default: those found near it.", metavar="DIR")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what differs between a notebook and the project exported from it; status 1 if anything does."""
    found = [(path, drifts_of(notebook, path)) for path in _projects(notebook, folder)]
    if as_json:
        typer.echo(to_json(notebook.name, found))
    else:
        show_drift(notebook.name, found, Console(highlight=False))
    if any(drifts for _, drifts in found):
        raise typer.Exit(1)


def check_drift(notebook: Path, folder: Path | None, console: Console) -> bool:
    """Print what differs between a notebook and its projects; return whether anything does."""
    found = [(path, drifts_of(notebook, path)) for path in _projects(notebook, folder)]
    show_drift(notebook.name, found, console)
    return any(drifts for _, drifts in found)


def target_named(name: str) -> TargetName | None:
    """Return the target of a name; None for an empty one. Any other is a mistake on the line."""
    from flash_nb.project.export.target import TARGETS

    for target in TARGETS:
        if target == name:
            return target
    if not name:
        return None
    raise typer.BadParameter(
        f"--target {name!r} is not one of {', '.join(TARGETS)}{did_you_mean(name, TARGETS)}"
    )


def drifts_of(notebook: Path, folder: Path) -> tuple[Drift, ...]:
    """Return what differs between a notebook's file and a project."""
    from flash_nb.project.export.drift import drift_of
    from flash_nb.project.export.folder import compare
    from flash_nb.sdk.notebook_file import read_cells

    return drift_of(*compare(folder, notebook.name, read_cells(notebook), beside=notebook.resolve().parent))


def _projects(notebook: Path, folder: Path | None) -> Sequence[Path]:
    from flash_nb.project.export.folder import projects_of

    if not notebook.is_file():
        raise FlashError(f"There is no notebook {str(notebook)!r}.")
    if folder is not None:
        return [folder]
    found = projects_of(notebook)
    if not found:
        raise FlashError(
            f"No project of {notebook.name} lies near it.",
            hint=f"Say which one: flash diff {notebook.name} DIR. Or make one: flash export …",
        )
    return found


# --- what is printed ---------------------------------------------------------------------------------


def refusal(error: FlashError) -> Iterator[str]:
    """Yield what stands against an export, and what would do it all the same."""
    troubles = getattr(error, "troubles", ())
    for trouble in troubles:
        yield f"✗ {trouble}"
    count = len(troubles)
    yield f"Nothing was written: {count} thing{'s' * (count != 1)} stand{'s' * (count == 1)} against it."


def lines_of(made: Export, changes: Changes) -> Iterator[str]:
    """Yield what an export has made, a line each."""
    width = max(len(each.name) for each in made.functions)
    files = max(len(each.file) for each in made.functions)
    cells = max(len(str(each.cell)) for each in made.functions)
    for each in made.functions:
        route = f"  {each.route}" if each.route else ""
        where = f"{each.file:<{files}}  on {each.resource}{route}"
        yield f"  cell {each.cell:<{cells}}  {each.name:<{width}}  {where}"
    for name in made.companions:
        yield f"  {name} is copied: a module beside the notebook"
    for trouble in made.left_out:
        yield f"✗ left out: {trouble}"
    for note in dict.fromkeys(made.notes):
        yield f"⚠ {note}"
    for name in changes.kept:
        yield f"⚠ {name} is yours and stays as it is"
    yield f"✓ {summary(made, changes)}"


def summary(made: Export, changes: Changes) -> str:
    """Return what an export did in a line."""
    count, files = len(made.functions), len({each.file for each in made.functions})
    done = [f"{len(changes.written)} files written"] if len(changes.written) != 1 else ["1 file written"]
    done += [f"{len(changes.removed)} removed"] if changes.removed else []
    what = f"{count} function{'s' * (count != 1)} in {files} module{'s' * (files != 1)}"
    nothing = "nothing has changed" if not changes.written and not changes.removed else ", ".join(done)
    return f"{changes.path}: {what}; {nothing}"


def show_drift(name: str, found: Sequence[tuple[Path, Sequence[Drift]]], console: Console) -> None:
    """Print what differs, project by project."""
    for path, drifts in found:
        for each in drifts:
            sign, colour = _LOOKS[each.kind]
            console.print(
                Text.assemble((f"{sign} ", colour), f"{path}/{each.place}: {each.message}"), soft_wrap=True
            )
            for line in each.diff:
                console.print(Text(f"    {line}", _LINES.get(line[:1], "")), soft_wrap=True)
        count = len(drifts)
        said = f"{count} difference{'s' * (count != 1)}" if count else "no differences"
        sign, colour = ("✗", "bold red") if count else ("✓", "bold green")
        console.print(Text(f"{sign} {name} and {path}: {said}", colour), soft_wrap=True)


def to_json(name: str, found: Sequence[tuple[Path, Sequence[Drift]]]) -> str:
    """Return what differs for programs."""
    drifts = [
        {
            "project": str(path),
            "kind": each.kind,
            "cell": each.cell,
            "id": each.id,
            "file": each.place.file,
            "line": each.place.line,
            "message": each.message,
            "diff": list(each.diff),
        }
        for path, several in found
        for each in several
    ]
    return json.dumps(
        {"notebook": name, "projects": [str(path) for path, _ in found], "drift": drifts},
        indent=1,
        ensure_ascii=False,
    )
