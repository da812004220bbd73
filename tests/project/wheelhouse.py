"""A package index of a test: wheels made here, found by uv without a network."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path


def wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    files: Mapping[str, str | bytes] | None = None,
    needs: Sequence[str] = (),
    tag: str = "py3-none-any",
    python: str = "",
    programs: Sequence[str] = (),
) -> Path:
    """Write a wheel.

    Args:
        folder: Where to.
        name: Of the package; its module has the same name.
        version: Its version.
        files: What it holds. Default: the module, which says its version.
        needs: Its requirements.
        tag: Python, ABI and platform that it is for.
        python: Its ``Requires-Python``.
        programs: Names of console scripts.
    """
    module = name.replace("-", "_")
    content = dict(files if files is not None else {f"{module}/__init__.py": f"VERSION = {version!r}\n"})
    info = f"{module}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Python: {python}"] * bool(python)
    metadata += [f"Requires-Dist: {need}" for need in needs]
    content[f"{info}/METADATA"] = "\n".join(metadata) + "\n"
    content[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    if programs:
        lines = [f"{each} = {module}:main" for each in programs]
        content[f"{info}/entry_points.txt"] = "\n".join(["[console_scripts]", *lines, ""])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-{tag}.whl"
    record = []
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in content.items():
            data = text.encode() if isinstance(text, str) else text
            archive.writestr(file, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{file},sha256={digest},{len(data)}")
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    return path


def settings(wheels: Path, cache: Path) -> dict[str, str]:
    """Return the variables with which uv finds these wheels, and nothing else."""
    empty = cache.with_name("empty-index")
    empty.mkdir(exist_ok=True)
    return {
        "UV_FIND_LINKS": str(wheels),
        "UV_DEFAULT_INDEX": empty.as_uri(),
        "UV_CACHE_DIR": str(cache),
        "UV_NO_CONFIG": "1",
    }


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write the files of a project; return its folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def wheel_of(folder: Path, name: str) -> Path:
    """Write a wheel of a package of pure Python that is installed here."""
    found = distribution(name)
    files = {
        str(file): file.read_binary()
        for file in found.files or ()
        if file.suffix == ".py" and not str(file).startswith("..")
    }
    return wheel(folder, name, found.version, files=files)
