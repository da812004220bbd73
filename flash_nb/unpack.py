"""Unpacking an artifact that somebody brought: nothing of it comes to lie outside its folder."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from flash_nb.errors import ProjectError


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a ``.tar.gz`` into a folder that does not exist yet.

    Owners, dates and rare modes are left behind. Links are made last: nothing is written through one.

    Args:
        archive: The file.
        folder: Made with its parents; on failure what is in it is of no use.

    Raises:
        ProjectError: It cannot be read; or a member leads outside, or is neither file, folder nor link.
    """
    folder.mkdir(parents=True)
    root = folder.resolve()
    links: list[tuple[Path, str]] = []
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                place = _place(root, member.name)
                if member.issym():
                    links.append((place, member.linkname))
                elif member.islnk():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(_place(root, member.linkname), place)
                elif member.isdir():
                    place.mkdir(parents=True, exist_ok=True)
                elif member.isreg():
                    _write(tar, member, place)
                else:
                    raise ProjectError(f"The artifact's {member.name!r} is neither a file nor a folder.")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ProjectError(f"The artifact cannot be unpacked: {error}.") from error
    for place, target in links:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
    for place, target in links:
        if not place.resolve().is_relative_to(root):
            raise ProjectError(f"The artifact's {place.name!r} is a link to {target!r}, outside of it.")


def _place(root: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ProjectError(f"The artifact's {name!r} leads outside of it.")
    return root / path


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None
    with place.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    place.chmod(0o755 if member.mode & 0o111 else 0o644)
