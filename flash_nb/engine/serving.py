"""What workers serve of an unpacked artifact; and what an artifact lacks that another builder made.

An artifact of ``flash build`` has all that its workers need. One of the official SDK has the user's files and
packages alone, because its images bring the rest: there the handler files and the runtime are written beside
them, in place of the official package, and the few packages that the runtime needs are installed.
"""

from __future__ import annotations

import functools
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flash_nb.protocol import artifact

_TAG = re.compile(r"\.cpython-3(\d+)-")
_FOR_HTTP = "fastapi>=0.110"


def served(folder: Path, key: str, manifest: Mapping[str, Any], *, python: str) -> dict[str, Any]:
    """Return what the spec of an endpoint says that serves a resource.

    Args:
        folder: The artifact, unpacked and complete.
        key: Names the resource.
        manifest: That of the artifact.
        python: The interpreter of workers, where the artifact asks for no other version.
    """
    is_http = bool(manifest["resources"][key].get("is_load_balanced"))
    module = artifact.handler_file(key).removesuffix(".py")
    version = manifest.get("python_version") or _version_of_extensions(folder)
    is_ours = version == f"{sys.version_info.major}.{sys.version_info.minor}" and python == sys.executable
    needed = [*artifact.ALWAYS, *([_FOR_HTTP] if is_http else [])]
    return {
        "app": {
            "kind": "asgi" if is_http else "handler",
            "artifact": {"folder": str(folder), "module": module},
        },
        "requirements": [each for each in needed if not (folder / re.split(r"\W", each)[0]).is_dir()],
        "python": python if is_ours or not version else version,
    }


def complete(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write into an unpacked artifact what its workers start from, if its builder did not."""
    if (folder / artifact.RUNTIME).is_dir():
        return
    for name in artifact.STANDS_FOR:
        shutil.rmtree(folder / name, ignore_errors=True)
    files = artifact.runtime()
    for key, resource in manifest["resources"].items():
        names = ", ".join(function["name"] for function in resource.get("functions", ()))
        is_http = bool(resource.get("is_load_balanced"))
        files[artifact.handler_file(key)] = artifact.handler(key, names, is_http=is_http)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


@functools.cache
def _version_of_extensions(folder: Path) -> str:
    """Return the Python that an artifact's compiled modules are for, such as ``3.12``; empty: for any."""
    tags = (_TAG.search(file.name) for file in folder.rglob("*.so"))
    return next((f"3.{tag[1]}" for tag in tags if tag), "")
