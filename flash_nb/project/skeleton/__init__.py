"""What ``flash init`` writes: a small project that works at once.

Its files lie in ``files/``, each as ``NAME.txt``, so that no tool takes them for modules of flash_nb; a name
that begins with ``dot.`` begins with a dot there. ``{{project_name}}`` stands for the project's name as
people read it, ``{{resource_name}}`` for the same as a part of a resource's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from flash_nb.errors import ProjectError

MAX_NAME = 64
KEPT = frozenset({".env"})
"""Files that are never overwritten: an API key may stand there, and nowhere else."""

_FILES = Path(__file__).parent / "files"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_UNSAFE = re.compile(r"[^\w .,+()-]+")
_NOT_IN_RESOURCES = re.compile(r"[^0-9A-Za-z]+")


def checked_name(name: str) -> str:
    """Return the name of a new project, which becomes a folder.

    Raises:
        ProjectError: It cannot be one.
    """
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME or name.endswith("."):
        safe = _UNSAFE.sub("-", name).replace(" ", "-").strip("-.")[:MAX_NAME]
        example = safe if _NAME.fullmatch(safe) else "my_project"
        raise ProjectError(
            f"{name!r} cannot be the name of a project: it becomes a folder here.",
            hint=f"Use up to {MAX_NAME} letters, digits, '-', '_' and '.': flash init {example}",
        )
    return name


def files_of(name: str) -> dict[str, bytes]:
    """Return the files of a new project: relative paths with ``/``, and what they hold.

    Args:
        name: Of the project's folder, whatever it is; signs that mean something in Python, TOML or
            Markdown are not taken over.
    """
    title = _UNSAFE.sub("-", name).strip(" -") or "project"
    resource = _NOT_IN_RESOURCES.sub("_", title).strip("_").lower()[:MAX_NAME] or "project"
    words = {"project_name": title, "resource_name": resource}
    return dict(sorted((path, _filled(text, words).encode()) for path, text in _templates()))


def conflicts(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Return the paths of `files` that `folder` has with another content, and that would be overwritten.

    Raises:
        ProjectError: There is a folder where a file has to be, or the other way round.
    """
    found = []
    for path, content in files.items():
        place = folder / path
        _check_kind(folder, place)
        if path not in KEPT and (place.exists() or place.is_symlink()) and not _is(place, content):
            found.append(path)
    return found


def write(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Write files, and the folders that they need; return the paths of those that have changed.

    One of `KEPT` that is there stays as it is.

    Raises:
        ProjectError: One cannot be written.
    """
    written = []
    for path, content in files.items():
        place = folder / path
        try:
            if (path in KEPT and place.exists()) or _is(place, content):
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_symlink():  # what it points to is none of ours
                place.unlink()
            place.write_bytes(content)
        except OSError as error:
            raise ProjectError(f"{place} cannot be written: {error.strerror or error}.") from error
        written.append(path)
    return written


def _is(place: Path, content: bytes) -> bool:
    return place.is_file() and not place.is_symlink() and place.read_bytes() == content


def _check_kind(folder: Path, place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        raise ProjectError(f"{place} is a folder, and the project has a file of this name.")
    for parent in place.parents:
        if parent == folder.parent:
            break
        if parent.exists() and not parent.is_dir():
            raise ProjectError(f"{parent} is a file, and the project has a folder of this name.")


def _templates() -> Iterator[tuple[str, str]]:
    """Yield the path of each file of a project, and its text with placeholders."""
    for file in _FILES.rglob("*.txt"):
        name = re.sub(r"^dot\.", ".", file.name.removesuffix(".txt"))
        yield file.relative_to(_FILES).with_name(name).as_posix(), file.read_text(encoding="utf-8")


def _filled(text: str, words: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: words[match[1]], text)
