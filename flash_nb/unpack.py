"""Unpacking an artifact: `flash build` makes them, but anybody can bring one."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from flash_nb.errors import ProjectError

_BLOCK = 1024 * 1024


def unpack(archive: Path, folder: Path) -> Sequence[str]:
    """Unpack an archive into a new or empty folder; return the names of its files.

    Archives hold files and folders, and nothing else is accepted: no links, no devices, no path that
    leaves the folder, and no file twice.

    Raises:
        ProjectError: It is no archive, it was cut short, or it holds something else.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ProjectError(f"{folder} is not empty.", hint="Unpack into a new folder.")
    names = []
    try:
        with tarfile.open(archive, "r:gz", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                target = _safe(member, folder, archive)
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    _unpack_file(tar, member, target)
                    names.append(target.relative_to(folder).as_posix())
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise ProjectError(
            f"{archive} cannot be unpacked: {error}", hint="Build it again: flash build"
        ) from error
    return names


def _safe(member: tarfile.TarInfo, folder: Path, archive: Path) -> Path:
    """Return where to unpack a member."""
    target = Path(os.path.normpath(folder / member.name))
    is_within = target.is_relative_to(folder) and ".." not in PurePosixPath(member.name).parts
    if not (is_within and (member.isreg() or member.isdir())):
        is_link = member.issym() or member.islnk()
        what = "a link" if is_link else "not in it" if not is_within else "no file and no folder"
        raise ProjectError(
            f"{archive} is not safe to unpack: {member.name!r} is {what}.",
            hint="flash build makes no such archive: do not use this one.",
        )
    return target


def _unpack_file(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    assert content is not None
    with target.open("xb") as file:
        while piece := content.read(_BLOCK):
            file.write(piece)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)
