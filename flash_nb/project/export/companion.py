"""Companions: modules that are files beside the notebook, and go along with a project as they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from flash_nb.project.export.block import Block, parse
from flash_nb.worker.modules import ModuleItem

COMPANION = "module"
"""Identifies the block that holds a companion's source."""

RESERVED = frozenset({"flash_runtime", "main", "mothership"})
"""Modules of a project that mean something else."""

_CODING = re.compile(r"^([ \t\f]*#.*?coding[:=][ \t]*)[-\w.]+")
_HEAD = "# Copied from beside the notebook:\n"
_LISTED = re.compile(rf"^{_HEAD}((?:#   \S.*\n?)+)", re.MULTILINE)


def path_of(module: ModuleItem) -> str:
    """Return where a module's file stands in a project; empty for a folder without ``__init__.py``."""
    if not module["file"]:
        return ""
    return str(module["name"]).replace(".", "/") + ("/__init__.py" if module["package"] else ".py")


def stays(module: ModuleItem, into: Path | None) -> bool:
    """Tell whether a module's file lies in the project already, as the user's own."""
    return _is_there(module, into) and not _copied(module["source"])


def _is_there(module: ModuleItem, into: Path | None) -> bool:
    path = path_of(module)
    return into is not None and bool(path) and (into / path).resolve() == Path(module["file"]).resolve()


def _copied(source: str) -> Sequence[Block]:
    """Return the block that an export has made of a source before; none if this is no copy."""
    return [each.block for each in parse(source).found if each.block.id == COMPANION]


def companions_of(
    notebook: str, modules: Iterable[ModuleItem], into: Path | None
) -> Mapping[str, tuple[Block, ...]]:
    """Return the files of modules, by their paths in the project.

    Args:
        notebook: The name of its file.
        modules: They; several may be the same.
        into: The project's folder: modules whose files lie there already are left out.
    """
    by_path = {path: module for module in modules if (path := path_of(module))}
    return {
        path: (Block(notebook, COMPANION, _text(module, into)),)
        for path, module in sorted(by_path.items())
        if not stays(module, into)
    }


def _text(module: ModuleItem, into: Path | None) -> str:
    """Return a source as it stands between the marks of a block."""
    source = module["source"]
    if _is_there(module, into):  # it was copied before, and is found where it was copied to
        return _copied(source)[0].text
    first, newline, rest = source.partition("\n")
    text = _CODING.sub(r"\1utf-8", first) + newline + rest  # it is written as UTF-8, whatever it was
    return re.sub(r"^# %% (?=end$|flash )", "# # %% ", text.rstrip("\n"), flags=re.MULTILINE)


def listed(paths: Iterable[str]) -> str:
    """Return the remark that says which files are companions; empty if there are none."""
    lines = "".join(f"#   {path}\n" for path in paths)
    return f"{_HEAD}{lines}".rstrip("\n") if lines else ""


def listed_in(text: str) -> tuple[str, ...]:
    """Return the files that such a remark in a text names."""
    match = _LISTED.search(text)
    paths = [line.removeprefix("#   ") for line in match[1].splitlines()] if match else []
    return tuple(path for path in paths if ".." not in path.split("/") and not path.startswith("/"))
