"""The Python files of a project that is served, and which of somebody's files are among them."""

from __future__ import annotations

import os
from pathlib import Path


def module_files(root: Path) -> tuple[str, ...]:
    """Return the project's Python files: relative, with ``/``, sorted.

    Hidden folders, virtual environments and caches are not looked into.
    """
    found: list[str] = []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if not _is_foreign(Path(folder, name))]
        found += [Path(folder, name).relative_to(root).as_posix() for name in files if name.endswith(".py")]
    return tuple(sorted(found))


def _is_foreign(folder: Path) -> bool:
    name = folder.name
    return (
        name.startswith(".")
        or name in {"__pycache__", "node_modules", "site-packages"}
        or (folder / "pyvenv.cfg").exists()
    )


def is_of(root: Path, file: Path) -> bool:
    """Say if a file is one of the project's own: virtual environments lie in its folder too."""
    if not file.is_relative_to(root):
        return False
    return not any(_is_foreign(root / parent) for parent in file.relative_to(root).parents if parent.name)
