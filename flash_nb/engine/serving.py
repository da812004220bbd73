"""What workers serve of an artifact: the handler file of a resource; one is written where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def served(folder: Path, key: str, resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an endpoint's spec says where it is a resource of an artifact.

    Args:
        folder: The artifact, unpacked.
        key: Names the resource in the manifest.
        resource: What the manifest says of it.
    """
    kind = "asgi" if resource.get("is_load_balanced") else "handler"
    return {"app": {"kind": kind, "artifact": {"folder": str(folder), "module": f"handler_{key}"}}}


def complete(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write into an unpacked artifact what workers start from, if its build did not."""
