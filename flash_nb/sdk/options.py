"""How a remote function or class runs: its resource and what was said beside it."""

from __future__ import annotations

from dataclasses import dataclass

from flash_nb.resources.serverless import ServerlessResource


@dataclass(frozen=True)
class RemoteOptions:
    """How a function runs; see `flash_nb.sdk.remote.remote`.

    Attributes:
        timeout_s: Longest run in seconds; None: the resource's.
        ttl_s: Longest life of a job in seconds, waiting included; None: a day.
        webhook: Where the finished job is posted to; None: nowhere.
        allow_apt: Missing system packages may be installed.
    """

    resource: ServerlessResource
    dependencies: tuple[str, ...] = ()
    system_dependencies: tuple[str, ...] = ()
    accelerate_downloads: bool = True
    local: bool = False
    strict: bool = False
    timeout_s: float | None = None
    ttl_s: float | None = None
    webhook: str | None = None
    allow_apt: bool = False
