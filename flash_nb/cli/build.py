"""``flash build``: the artifact of the project in this folder."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flash_nb.cli.port import open_port
from flash_nb.errors import ProjectError

if TYPE_CHECKING:  # imported when something is built: other commands have no use for them
    from flash_nb.project.builder import BuildOptions, Built
    from flash_nb.project.builder.step import Step
    from flash_nb.project.declared import Project
    from flash_nb.project.preview import Preview

TITLES = {
    "sources": "Reading files",
    "scan": "Finding functions",
    "install": "Installing packages",
    "check": "Checking imports",
    "archive": "Packing",
}
_MIB = 2**20

Folder = Annotated[
    Path | None,
    typer.Argument(metavar="FOLDER", help="The project's. Default: this one.", show_default=False),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="A,B", help="Packages not to install, since the images have them."),
]
NoDeps = Annotated[bool, typer.Option("--no-deps", help="Do not install what the packages need.")]
KeepBuild = Annotated[bool, typer.Option("--keep-build", help="Leave what was packed in .flash/.build/.")]
Output = Annotated[str, typer.Option("--output", "-o", metavar="NAME", help="Name of the artifact.")]
Python = Annotated[
    str, typer.Option("--python-version", metavar="3.12", help="Of the workers. Default: their images'.")
]
AllowSecrets = Annotated[bool, typer.Option("--allow-secrets", help="Pack texts that seem to hold keys.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Port = Annotated[
    int | None,
    typer.Option("--port", "-p", min=0, max=65535, help="With --preview: its port. Default: 8000."),
]
OfPreview = Annotated[bool, typer.Option("--preview", help="Then run it here, as it would be deployed.")]


def build(
    *,
    folder: Folder = None,
    exclude: Exclude = None,
    no_deps: NoDeps = False,
    keep_build: KeepBuild = False,
    preview: OfPreview = False,
    output: Output = "",
    python_version: Python = "",
    allow_secrets: AllowSecrets = False,
    docker: Annotated[bool, typer.Option("--docker", help="With --preview: in containers.")] = False,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="With --preview: where it listens.")
    ] = "localhost",
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Scan a folder for remote functions, install what they need for Linux, and pack it all.

    The result is .flash/artifact.tar.gz there, which flash deploy send uploads.
    """
    from flash_nb.project.builder import STATE
    from flash_nb.project.builder import build as steps_of
    from flash_nb.project.builder.step import run

    options = options_of(
        exclude=exclude,
        no_deps=no_deps,
        keep_build=keep_build,
        output=output,
        python_version=python_version,
        allow_secrets=allow_secrets,
    )
    root = folder or Path.cwd()
    after = _preview(root / STATE / options.output, host, port, docker=docker) if preview else None
    if docker and not preview:
        raise ProjectError("--docker says how a preview runs.", hint="flash build --preview --docker")
    console = Console(highlight=False)
    steps = steps_of(root, options)
    built = run(steps) if as_json else follow(steps, console)
    if as_json:
        typer.echo(to_json(built))
    else:
        show(built, console)
        if not after:
            console.print("  Run it here, as it would be deployed: flash build --preview", soft_wrap=True)
    if after:
        after.run()


def _preview(artifact: Path, host: str, port: int | None, *, docker: bool) -> Preview:
    """Return a preview before there is something to run: what stands against it is said at once."""
    from flash_nb.project.preview import PORT, Preview, listen

    return Preview(artifact, open_port(partial(listen, host), port, PORT), docker=docker)


def options_of(
    *,
    exclude: Sequence[str] | None,
    no_deps: bool,
    keep_build: bool,
    output: str,
    python_version: str,
    allow_secrets: bool,
) -> BuildOptions:
    """Return what a command line says.

    Raises:
        ProjectError: A name or a version makes no sense.
    """
    from flash_nb.project.builder import ARTIFACT, PYTHON, BuildOptions, read_names

    return BuildOptions(
        exclude=read_names(exclude or ()),
        with_needs=not no_deps,
        keep_build=keep_build,
        output=output or ARTIFACT,
        python=python_version or PYTHON,
        allow_secrets=allow_secrets,
    )


def follow(steps: Generator[Step, None, Built], console: Console) -> Built:
    """Show steps while they are done: bars at a terminal, elsewhere a line for each that ended."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from flash_nb.project.builder.step import run

    if not console.is_terminal:
        return _lines(steps, console)
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
    )
    tasks: dict[str, Any] = {}
    with Progress(*columns, console=console) as bars:

        def tell(step: Step) -> None:
            if step.name not in tasks:
                tasks[step.name] = bars.add_task(TITLES[step.name], total=None, told="")
            bars.update(tasks[step.name], total=step.total, completed=step.done, told=step_text(step))

        return run(steps, tell)


def _lines(steps: Generator[Step, None, Built], console: Console) -> Built:
    from flash_nb.project.builder.step import run

    shown: list[Step] = []

    def tell(step: Step) -> None:
        if shown and shown[-1].name != step.name:
            console.print(_line(shown[-1]), soft_wrap=True)
        shown[:] = [step]

    built = run(steps, tell)
    console.print(_line(shown[-1]), soft_wrap=True)
    return built


def _line(step: Step) -> Text:
    return Text(f"{TITLES[step.name]:<20} {step_text(step)}".rstrip())


def step_text(step: Step) -> str:
    """Return where a step stands: ``12 files``, ``downloading torch (818 MB)``, ``40.1 of 131.4 MiB``."""
    from flash_nb.project.builder.step import counted

    if step.note:
        return step.note
    if step.unit == "bytes" and step.total is not None:
        return f"{step.done / _MIB:.1f} of {step.total / _MIB:.1f} MiB"
    if step.total is None:
        return ""
    return counted(step.done, step.unit.removesuffix("s"))


def size_line(built: Built) -> str:
    """Return ``.flash/artifact.tar.gz: 17.8 MiB of 500 MiB``."""
    path = f"{built.archive.parent.name}/{built.archive.name}"
    return f"{path}: {built.size / _MIB:.1f} MiB of {built.limit / _MIB:.0f} MiB"


def rows(project: Project) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, kind, machines and functions of each endpoint."""
    for group in project.groups:
        kind = "HTTP" if group.resource.is_load_balanced else "queue"
        functions = ", ".join(
            f"{each.method} {each.path} {each.name}".strip() if each.method else each.name
            for each in group.functions
        )
        yield group.key, kind, group.resource.describe(), functions
    if mothership := project.mothership:
        what = f"{mothership.variable} of {mothership.file}"
        yield mothership.resource.name, "HTTP", mothership.resource.describe(), what


def show(built: Built, console: Console) -> None:
    """Print what was built."""
    table = Table("endpoint", "kind", "machines", "functions", box=None)
    for row in rows(built.project):
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    for note in built.notes:
        console.print(Text(f"  {note}", "yellow"), soft_wrap=True)
    console.print(Text(f"✓ {size_line(built)}", "bold green"), soft_wrap=True)


def to_json(built: Built) -> str:
    """Return what was built, for programs; sizes in bytes."""
    return json.dumps(
        {
            "archive": str(built.archive),
            "size": built.size,
            "limit": built.limit,
            "files": built.files,
            "packages": [
                {"name": name, "version": built.versions[name], "size": size}
                for name, size in built.packages.items()
                if name in built.versions
            ],
            "notes": built.notes,
            "manifest": built.manifest,
        },
        indent=1,
        ensure_ascii=False,
    )
