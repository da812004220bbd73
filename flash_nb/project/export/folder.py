"""A project's folder: what of it is ours, and writing it so that nothing half-written is left."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flash_nb.cells.reading import Cell
from flash_nb.errors import FlashError
from flash_nb.project.declared import Place, Trouble, TroubleError
from flash_nb.project.export import Export, export
from flash_nb.project.export.block import Found, Parsed, merged, parse
from flash_nb.project.export.companion import listed_in
from flash_nb.project.export.target import TARGETS, TargetName

_OPTIONAL = frozenset({".env.example", ".flashignore", ".gitignore", "README.md"})
_OTHERS = ("requirements.txt", *sorted(_OPTIONAL))
_TARGET = re.compile(r'^"""The application of a project exported from .+ for (\S+)\."""')
_MADE = re.compile(r"^@remote\([^@]*?^(?:async )?def (\w+)\(", re.MULTILINE)
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


@dataclass(frozen=True)
class Folder:
    """A project's folder as it is.

    Attributes:
        path: Of the folder, which need not exist.
        files: Those that an export may write, taken apart.
    """

    path: Path
    files: Mapping[str, Parsed]

    @property
    def target(self) -> TargetName | None:
        """Whose Flash the project is for; None if it is none of ours."""
        main = self.files.get("main.py")
        for each in main.found if main else ():
            if match := _TARGET.match(each.block.text):
                return next((name for name in TARGETS if name == match[1]), None)
        return None

    @property
    def notebooks(self) -> frozenset[str]:
        """Whose project it is; empty if nobody's."""
        return frozenset().union(*(parsed.notebooks for parsed in self.files.values()))

    @property
    def names(self) -> Mapping[str, str]:
        """What the functions of cells are called, by what identifies their blocks."""
        return {
            each.block.id: made[0]
            for parsed in self.files.values()
            for each in parsed.found
            if len(made := _MADE.findall(each.block.text)) == 1
        }


@dataclass(frozen=True)
class Changes:
    """What an export does to a folder.

    Attributes:
        path: The folder.
        written: The texts of files that change or are new.
        removed: Files of which nothing is left.
        kept: Files of the user's that stand where an export would write.
    """

    path: Path
    written: Mapping[str, str]
    removed: tuple[str, ...]
    kept: tuple[str, ...] = ()


def read_folder(path: Path, also: Iterable[str] = ()) -> Folder:
    """Return what of a folder an export may touch.

    Args:
        path: The folder.
        also: Files that an export would write, beside those that an earlier one has written.

    Raises:
        FlashError: It is a file.
    """
    if path.exists() and not path.is_dir():
        raise FlashError(f"{path} is a file, and not the folder of a project.")
    names = [each.name for each in sorted(path.glob("*.py"))] if path.is_dir() else []
    found: dict[str, Parsed] = {}
    _read(path, [*names, *_OTHERS, *also], found)
    for each in found["main.py"].found if "main.py" in found else ():
        _read(path, listed_in(each.block.text), found)
    return Folder(path, found)


def _read(path: Path, names: Iterable[str], found: dict[str, Parsed]) -> None:
    for name in names:
        with contextlib.suppress(
            FileNotFoundError, IsADirectoryError, NotADirectoryError, UnicodeDecodeError
        ):
            found[name] = parse((path / name).read_text(encoding="utf-8"))


def changes_of(made: Export, folder: Folder, *, overwrite: bool = False) -> Changes:
    """Decide what an export writes.

    Args:
        made: It.
        folder: As it is.
        overwrite: Drop what somebody has changed inside of blocks.

    Raises:
        TroubleError: Something of the user's would be lost; all of it is listed.
    """
    troubles: list[Trouble] = []
    kept: list[str] = []
    written: dict[str, str] = {}
    removed: list[str] = []
    for name, blocks in made.files.items():
        old = folder.files.get(name)
        if old is None and (folder.path / name).exists():
            old = Parsed("?")
        if old is not None and not old.found and old.before.strip():
            if name in _OPTIONAL or old.before.strip() == "\n".join(each.text for each in blocks).strip():
                kept.append(name)
            else:
                troubles.append(_foreign(name))
            continue
        old = old or Parsed("")
        if not overwrite:
            new = {block.id: block.text for block in blocks}
            troubles += _lost(name, old, made.notebook, new)
        text = merged(old, blocks, name=name)
        if folder.files.get(name) is None or text != _current(folder, name):
            written[name] = text
    for name, old in folder.files.items():
        if name in made.files or not old.found or (made.notebook not in old.notebooks and not overwrite):
            continue
        if not overwrite:
            troubles += _lost(name, old, made.notebook, {})
        rest = merged(old, (), name=name)
        if rest:
            written[name] = rest
        else:
            removed.append(name)
    if troubles:
        raise TroubleError(troubles)
    return Changes(folder.path, written, tuple(removed), tuple(kept))


def _current(folder: Folder, name: str) -> str:
    return (folder.path / name).read_text(encoding="utf-8")


def _foreign(name: str) -> Trouble:
    return Trouble(
        Place(name, 1),
        f"{name} is a file of yours, and the export has one of this name",
        "move it, or export to another folder",
    )


def _lost(name: str, old: Parsed, notebook: str, new: Mapping[str, str]) -> Iterator[Trouble]:
    """Yield what of a file would be lost."""
    others = old.notebooks - {notebook}
    if others:
        yield Trouble(
            Place(name, old.found[0].line),
            f"{name} was exported from {', '.join(sorted(others))}",
            "export to another folder, or give --overwrite to have this notebook instead",
        )
        return
    for each in old.found:
        if each.is_edited and new.get(each.block.id) != each.block.text:
            yield Trouble(
                Place(name, each.line), edited(each), "change the notebook instead; --overwrite drops it"
            )


def edited(found: Found) -> str:
    """Say that a block was changed by hand."""
    what = "has lost its end" if found.is_open else "was changed by hand"
    return f"the block {found.block.notebook}#{found.block.id} {what}"


def write(changes: Changes) -> None:
    """Write an export: a new folder at once, or the files that change, with the way back if one fails.

    Raises:
        OSError: Something could not be written; the folder is as it was.
    """
    path = changes.path
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    drafts = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        for name, text in changes.written.items():
            (drafts / name).parent.mkdir(parents=True, exist_ok=True)
            (drafts / name).write_text(text, encoding="utf-8", newline="\n")
        if is_new:
            drafts.chmod(0o777 & ~_umask())
            drafts.replace(path)
        else:
            _replace(changes, drafts)
    finally:
        shutil.rmtree(drafts, ignore_errors=True)


def _replace(changes: Changes, drafts: Path) -> None:
    before = drafts / ".before"
    before.mkdir()
    saved: list[str] = []
    new: list[str] = []
    try:
        for name in [*changes.written, *changes.removed]:
            if (changes.path / name).exists():
                (before / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(changes.path / name, before / name)
                saved.append(name)
            else:
                new.append(name)
        for name in changes.written:
            (changes.path / name).parent.mkdir(parents=True, exist_ok=True)
            (drafts / name).replace(changes.path / name)
        for name in changes.removed:
            (changes.path / name).unlink()
    except BaseException:
        for name in saved:
            shutil.copy2(before / name, changes.path / name)
        for name in new:
            (changes.path / name).unlink(missing_ok=True)
        _remove_empty(changes.path, new)
        raise
    _remove_empty(changes.path, changes.removed)


def _remove_empty(path: Path, files: Iterable[str]) -> None:
    """Remove the folders of files that are gone, but for those that hold something else."""
    for name in files:
        for folder in list(PurePosixPath(name).parents)[:-1]:
            with contextlib.suppress(OSError):
                (path / folder).rmdir()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def export_to(
    path: Path,
    notebook: str,
    cells: Sequence[Cell],
    *,
    target: TargetName | None = None,
    partial: bool = False,
    overwrite: bool = False,
    beside: Path | None = None,
) -> tuple[Export, Changes]:
    """Export a notebook to a folder.

    Args:
        path: The folder; it is made if need be.
        notebook: The name of the notebook's file.
        cells: Its code cells.
        target: Whose Flash the project is for; None for what it was before, and ours at first.
        partial: Leave out what cannot be exported.
        overwrite: Drop what somebody has changed inside of blocks.
        beside: Where the notebook lies.

    Raises:
        TroubleError: Something stands against it; nothing is written then.
    """
    folder = read_folder(path)
    made = export(
        notebook,
        cells,
        target=target or folder.target or "flash_nb",
        partial=partial,
        names=folder.names,
        folder=beside,
        into=path,
    )
    folder = read_folder(path, made.files)
    changes = changes_of(made, folder, overwrite=overwrite)
    write(changes)
    return made, changes


def compare(
    path: Path, notebook: str, cells: Sequence[Cell], *, beside: Path | None = None
) -> tuple[Export, Folder]:
    """Return what an export to a folder would make now, and the folder as it is."""
    folder = read_folder(path)
    target = folder.target or "flash_nb"
    made = export(notebook, cells, target=target, partial=True, names=folder.names, folder=beside, into=path)
    return made, read_folder(path, made.files)


def projects_of(notebook: Path) -> Sequence[Path]:
    """Return the folders of projects that were exported from a notebook.

    They are looked for below its folder, and beside that where a repository or a package is around.
    """
    beside = notebook.resolve().parent
    near = [*_folders(beside), *(inner for each in _folders(beside) for inner in _folders(each))]
    if any((beside.parent / name).exists() for name in (".git", "pyproject.toml")):
        near += [each for each in _folders(beside.parent) if each != beside]
    return [each for each in near if notebook.name in _notebooks(each)]


def _folders(path: Path) -> list[Path]:
    try:
        found = sorted(each for each in path.iterdir() if each.is_dir())
    except OSError:
        return []
    return [each for each in found if not each.name.startswith(".") and each.name not in _SKIPPED]


def _notebooks(path: Path) -> frozenset[str]:
    try:
        return parse((path / "main.py").read_text(encoding="utf-8")).notebooks
    except (OSError, UnicodeDecodeError):
        return frozenset()
