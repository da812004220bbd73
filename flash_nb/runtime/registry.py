"""The registry: which endpoint a resource is, from the manifest.

The manifest lies beside this package, or where ``FLASH_MANIFEST_PATH`` says; its ``resources_endpoints`` are
written when the project is deployed. Where it comes from is a `Source`, so that another one can be asked.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from .errors import ManifestError, did_you_mean

TTL_S = 300.0
QUEUES_URL = "https://api.runpod.ai/v2"  # Runpod's own, where RUNPOD_ENDPOINT_BASE_URL says no other
MANIFEST = "flash_manifest.json"


def current_resource() -> str:
    """Return the resource whose worker this is; empty if it is nobody's."""
    return os.environ.get("FLASH_RESOURCE_NAME", "")


def artifact() -> Path:
    """Return the folder of the artifact."""
    return Path(__file__).parent.parent


class Source(Protocol):
    """Where a manifest comes from."""

    def load(self) -> Mapping[str, Any]:
        """Return it as it is now.

        Raises:
            ManifestError: It is missing, or makes no sense.
        """


class FileSource:
    """A manifest in a file.

    Args:
        path: The file; None: where ``FLASH_MANIFEST_PATH`` says, else in the artifact.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def load(self) -> Mapping[str, Any]:
        """Read the file."""
        path = self._path or Path(os.environ.get("FLASH_MANIFEST_PATH") or artifact() / MANIFEST)
        try:
            found = json.loads(path.read_bytes())
        except OSError as error:
            raise ManifestError(
                f"The manifest {path} cannot be read: {error.strerror}.", hint="flash build writes it."
            ) from error
        except ValueError as error:
            raise ManifestError(f"The manifest {path} is not JSON: {error}.") from error
        if not isinstance(found, dict) or not isinstance(found.get("resources"), dict):
            raise ManifestError(f"The manifest {path} has no resources.", hint="flash build writes it.")
        return found


class ServiceRegistry:
    """Looks resources up in a manifest, which is loaded again when it is older than `ttl_s`.

    Args:
        source: Where the manifest comes from.
        ttl_s: Seconds.
    """

    def __init__(self, source: Source | None = None, *, ttl_s: float = TTL_S) -> None:
        self._source = source or FileSource()
        self._ttl_s = ttl_s
        self._manifest: Mapping[str, Any] = {}
        self._loaded_at: float | None = None

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest.

        Raises:
            ManifestError: It is missing, or makes no sense.
        """
        now = time.monotonic()
        if self._loaded_at is None or now - self._loaded_at > self._ttl_s:
            self._manifest = self._source.load()
            self._loaded_at = now
        return self._manifest

    def resource(self, name: str) -> Mapping[str, Any]:
        """Return what the manifest says of a resource.

        Raises:
            ManifestError: Nothing.
        """
        resources = self.manifest["resources"]
        if name not in resources:
            raise ManifestError(
                f"The manifest has no resource {name!r}{did_you_mean(name, resources) or '.'}",
                hint="flash build writes it from the project's files: build and deploy again.",
            )
        found: Mapping[str, Any] = resources[name]
        return found

    def url(self, name: str) -> str:
        """Return where the endpoint of a resource is: its queue, or what its routes begin with.

        The manifest has an URL or an id.

        Raises:
            ManifestError: It names no endpoint for this resource.
        """
        entry = self.resource(name)
        endpoint = self.manifest.get("resources_endpoints", {}).get(name) or entry.get("endpoint_id")
        if not endpoint:
            raise ManifestError(
                f"The manifest names no endpoint for the resource {name!r}: it is not deployed.",
                hint="flash deploy send deploys it; flash build --preview runs it here.",
            )
        if "://" in endpoint:
            return str(endpoint).rstrip("/")
        queues = os.environ.get("RUNPOD_ENDPOINT_BASE_URL", QUEUES_URL).rstrip("/")
        if not entry.get("is_load_balanced"):
            return f"{queues}/{endpoint}"
        return f"https://{endpoint}.{urlsplit(queues).netloc}"


registry = ServiceRegistry()
"""That of this process."""
