"""``%flash build``: the artifact of a project, with its steps while they are done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from flash_nb.cli.build import (
    TITLES,
    AllowSecrets,
    AsJson,
    Exclude,
    Folder,
    KeepBuild,
    NoDeps,
    OfPreview,
    Output,
    Port,
    Python,
    follow,
    options_of,
    rows,
    show,
    size_line,
    step_text,
    to_json,
)
from flash_nb.notebook.preview import begin
from flash_nb.sdk.look import BOX, COMPLETED, FAILED, RUNNING, Look, human_size, human_time
from flash_nb.sdk.outputs import Place

if TYPE_CHECKING:
    from flash_nb.notebook.notebook import Notebook
    from flash_nb.project.builder import Built
    from flash_nb.project.builder.step import Step

EVERY_S = 0.25
_MOST_PACKAGES = 8
_CELL = "text-align:left;padding:1px 12px 1px 0;vertical-align:top"
_HEAD = f"{_CELL};font-weight:500;opacity:.65"
_TABLE = "margin:2px 0;border:none;border-collapse:collapse;font-size:12px;line-height:1.5"
_SMALL = "font-size:12px"


def build(
    ctx: typer.Context,
    *,
    folder: Folder = None,
    exclude: Exclude = None,
    no_deps: NoDeps = False,
    keep_build: KeepBuild = False,
    output: Output = "",
    python_version: Python = "",
    allow_secrets: AllowSecrets = False,
    preview: OfPreview = False,
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Scan a folder for remote functions, install what they need for Linux, and pack it all.

    The result is .flash/artifact.tar.gz there. A preview of it runs until %flash preview --stop.
    """
    from flash_nb.project.builder import STATE
    from flash_nb.project.builder import build as steps_of
    from flash_nb.project.builder.step import run

    notebook: Notebook = ctx.obj
    options = options_of(
        exclude=exclude,
        no_deps=no_deps,
        keep_build=keep_build,
        output=output,
        python_version=python_version,
        allow_secrets=allow_secrets,
    )
    root = folder or Path.cwd()
    steps = steps_of(root, options)
    if as_json:
        typer.echo(to_json(run(steps)))
    elif hasattr(notebook.shell, "kernel"):
        record = _Record()
        with record:
            record.end(run(steps, record.tell))
    else:  # a terminal, which cannot update what it has shown
        console = Console(highlight=False)
        show(follow(steps, console), console)
    if preview:
        begin(notebook, root / STATE / options.output, port)


@dataclass(frozen=True)
class BuildView:
    """What there is to show of a build.

    Attributes:
        steps: Those so far, each as it stood last.
        elapsed_s: Since it began.
        is_over: Whether it ended, well or not.
        built: What it made; None until then, and if it failed.
    """

    steps: Sequence[Step]
    elapsed_s: float
    is_over: bool = False
    built: Built | None = None

    @property
    def look(self) -> Look:
        """How it looks: running, completed or failed."""
        return COMPLETED if self.built else FAILED if self.is_over else RUNNING


def render_html(view: BuildView) -> str:
    """Return a build as HTML, as `flash_nb.notebook.record` has it: inline styles, no script."""
    look = view.look
    head = f'<span style="color:{look.colour};font-weight:600">{look.sign} {_word(view)}</span>'
    line = " · ".join([head, *map(escape, _facts(view))])
    lines = "".join(f'<div style="{_SMALL}">{escape(line)}</div>' for line in _step_lines(view))
    if not view.built:
        return f'<div style="{BOX.format(colour=look.colour)}"><div>{line}</div>{lines}</div>'
    titles = "".join(f'<th style="{_HEAD}">{title}</th>' for title in _COLUMNS)
    body = "".join(
        f"<tr>{''.join(f'<td style={_quoted(_CELL)}>{escape(cell)}</td>' for cell in row)}</tr>"
        for row in rows(view.built.project)
    )
    notes = "".join(f'<div style="{_SMALL}">{escape(note)}</div>' for note in view.built.notes)
    lines += "".join(f'<div style="{_SMALL}">{escape(line)}</div>' for line in _packages(view.built))
    return (
        f'<div style="{BOX.format(colour=look.colour)}">'
        f'<details><summary style="cursor:pointer">{line}</summary>{lines}</details>'
        f'<table style="{_TABLE}"><thead><tr style="border:none">{titles}</tr></thead>'
        f"<tbody>{body}</tbody></table>{notes}</div>"
    )


def render_text(view: BuildView) -> str:
    """Return a build for a terminal."""
    lines = [" · ".join([f"{view.look.sign} {_word(view)}", *_facts(view)])]
    if view.built:
        table = [_COLUMNS, *rows(view.built.project)]
        widths = [max(len(row[place]) for row in table) for place in range(len(_COLUMNS))]
        lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
        lines += view.built.notes
    else:
        lines += _step_lines(view)
    return "\n  ".join(lines)


_COLUMNS = ("endpoint", "kind", "machines", "functions")


def _word(view: BuildView) -> str:
    return "built" if view.built else "not built" if view.is_over else "building"


def _facts(view: BuildView) -> list[str]:
    what = [size_line(view.built)] if view.built else []
    return [*what, human_time(view.elapsed_s)]


def _step_lines(view: BuildView) -> list[str]:
    return [f"{TITLES[step.name]}: {step_text(step) or '…'}" for step in view.steps]


def _packages(built: Built) -> list[str]:
    """Return a line on the largest packages."""
    named = [
        f"{name} {built.versions[name]} ({human_size(size)})"
        for name, size in built.packages.items()
        if name in built.versions
    ]
    more = len(named) - _MOST_PACKAGES
    shown = ", ".join(named[:_MOST_PACKAGES]) + (f" and {more} more" if more > 0 else "")
    return [f"Packages: {shown}"] if named else []


def _quoted(style: str) -> str:
    return f'"{style}"'


@dataclass
class _Record:
    """The record of a build below its cell."""

    begun: float = field(default_factory=time.monotonic)
    shown: float = 0.0
    steps: dict[str, Step] = field(default_factory=dict)
    built: Built | None = None
    place: Place = field(default_factory=lambda: Place("build"))

    def tell(self, step: Step) -> None:
        """Take a step; show it, a few times a second."""
        is_new = step.name not in self.steps
        self.steps[step.name] = step
        now = time.monotonic()
        if is_new or now - self.shown >= EVERY_S:
            self.shown = now
            self._show()

    def end(self, built: Built) -> None:
        """Take what was made."""
        self.built = built

    def __enter__(self) -> None:
        self._show()

    def __exit__(self, *_: object) -> None:
        self._show(is_over=True)

    def _show(self, *, is_over: bool = False) -> None:
        view = BuildView([*self.steps.values()], time.monotonic() - self.begun, is_over, self.built)
        self.place.show(render_html(view), render_text(view))
