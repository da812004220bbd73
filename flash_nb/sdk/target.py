"""What is known of a worker before there is one: its Python, and what its image holds already."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `flash check` has no use for them
    from flash_nb.backends.base import Backend
    from flash_nb.resources.serverless import ServerlessResource
    from flash_nb.settings import Settings

# Runpod's images for live endpoints run this Python, and those with a GPU are made from PyTorch's.
# Its official builder leaves these packages out for the same reason (runpod-flash 1.21).
IMAGE_PYTHON = (3, 12)
GPU_IMAGE_PACKAGES = frozenset({"torch", "torchaudio", "torchvision", "triton"})


@dataclass(frozen=True)
class Target:
    """What is known of the workers of a resource.

    Attributes:
        python: The minor version of their Python; None if it is not known.
        packages: Canonical names of what they have without installing it.
    """

    python: tuple[int, int] | None = None
    packages: frozenset[str] = frozenset()

    @property
    def runs_other_python(self) -> bool:
        """Whether bytecode of this process would surely meet another Python."""
        return self.python is not None and self.python != sys.version_info[:2]


def target_of(resource: ServerlessResource, backend: Backend, settings: Settings) -> Target:
    """Return what is known of the workers that a backend gives a resource."""
    if not backend.runs_images:
        return Target(_minor(settings.python))
    if not resource.is_live:
        return Target()
    return Target(IMAGE_PYTHON, frozenset() if resource.is_cpu else GPU_IMAGE_PACKAGES)


def _minor(python: str) -> tuple[int, int] | None:
    """Return the minor version of an interpreter: a path, or a version such as "3.12"."""
    if python == sys.executable:
        return sys.version_info[:2]
    version = re.search(r"(?:^|python)(3)\.(\d+)[^/\\]*$", python)
    return (int(version[1]), int(version[2])) if version else None
