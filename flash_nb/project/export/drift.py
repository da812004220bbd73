"""Drift: what differs between a notebook and the project that was exported from it, cell by cell."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from flash_nb.errors import FlashError
from flash_nb.project.declared import Place
from flash_nb.project.export import Export
from flash_nb.project.export.block import Found
from flash_nb.project.export.companion import COMPANION
from flash_nb.project.export.folder import Folder, edited

Kind = Literal["changed", "new", "gone", "edited"]

_PIN = re.compile(r"(===?)[^;,\s]+")


@dataclass(frozen=True)
class Drift:
    """A block that differs.

    Attributes:
        kind: ``changed``, ``new`` or ``gone`` in the notebook, or ``edited`` by hand in the project.
        id: The cell's id, or a word for what belongs to no cell.
        cell: The cell's number in the notebook; 0 if it is not there, or belongs to no cell.
        place: Where it stands in the project, or would stand.
        message: What happened, for people.
        diff: From the project to the notebook, as a unified diff without its head.
    """

    kind: Kind
    id: str
    cell: int
    place: Place
    message: str
    diff: tuple[str, ...] = ()


def drift_of(made: Export, folder: Folder) -> tuple[Drift, ...]:
    """Return what differs between an export of the notebook as it is and a project.

    Versions of packages make no difference: they say where an export was made.

    Raises:
        FlashError: The folder is no project of this notebook.
    """
    if made.notebook not in folder.notebooks:
        others = f" It is one of {', '.join(sorted(folder.notebooks))}." if folder.notebooks else ""
        raise FlashError(
            f"{folder.path} is no project of {made.notebook}.{others}",
            hint=f"Export it first: flash export {made.notebook} {folder.path}",
        )
    found = [*_of_files(made, folder), *_gone(made, folder)]
    return tuple(sorted(found, key=lambda each: (each.cell == 0, each.cell, each.place)))


def _of_files(made: Export, folder: Folder) -> Iterator[Drift]:
    for name, blocks in made.files.items():
        old = folder.files.get(name)
        if old is not None and not old.found and old.before.strip():
            continue  # the user's own
        before = old.blocks if old is not None else {}
        for block in blocks:
            cell = made.cells.get(block.id, 0)
            found = before.get(block.id)
            if found is None:
                message = f"{_what(block.id, cell, name)} is not in the project"
                yield Drift("new", block.id, cell, Place(name, 1), message, _diff("", block.text))
            elif found.is_edited and found.block.text != block.text:
                message = edited(found)
                diff = _diff(found.block.text, block.text)
                yield Drift("edited", block.id, cell, Place(name, found.line), message, diff)
            elif _plain(name, found.block.text) != _plain(name, block.text):
                message = f"{_what(block.id, cell, name)} has changed since the export"
                diff = _diff(found.block.text, block.text)
                yield Drift("changed", block.id, cell, Place(name, found.line), message, diff)


def _gone(made: Export, folder: Folder) -> Iterator[Drift]:
    for name, old in folder.files.items():
        kept = {block.id for block in made.files.get(name, ())}
        for each in old.found:
            if each.block.id not in kept:
                yield _one_gone(made, name, each)


def _one_gone(made: Export, name: str, found: Found) -> Drift:
    cell = made.cells.get(found.block.id, 0)
    said = f"{_what(found.block.id, cell, name)} no longer belongs to {name}"
    diff = _diff(found.block.text, "")
    return Drift("gone", found.block.id, cell, Place(name, found.line), said, diff)


def _what(block: str, cell: int, file: str) -> str:
    if block == COMPANION:
        return f"{file} beside the notebook"
    return f"cell {cell} ({block})" if cell else f"the block {block}"


def _plain(file: str, text: str) -> Sequence[str]:
    lines = text.split("\n")
    if file != "requirements.txt":
        return lines
    return [_PIN.sub("", line) for line in lines if not line.startswith("#")]


def _diff(before: str, after: str) -> tuple[str, ...]:
    lines = difflib.unified_diff(
        before.split("\n") if before else [], after.split("\n") if after else [], n=1, lineterm=""
    )
    return tuple(lines)[2:]
