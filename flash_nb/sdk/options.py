"""How a remote function or class runs: its resource and what was said beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from flash_nb.errors import ResourceError, did_you_mean
from flash_nb.resources.serverless import ServerlessResource

_PER_CALL = ("timeout", "ttl", "webhook")


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

    def changed(self, **given: Any) -> RemoteOptions:
        """Return these options with some that a single call may have of its own.

        Args:
            **given: `timeout` and `ttl` in seconds or as a `timedelta`, `webhook` as a URL; None is the
                default again.

        Raises:
            ResourceError: There is no such option, or its value cannot work.
        """
        changes: dict[str, Any] = {}
        for name, value in given.items():
            if name not in _PER_CALL:
                raise ResourceError(
                    f"A call has no option {name!r}{did_you_mean(name, _PER_CALL) or '.'}",
                    hint=f"It may have {', '.join(_PER_CALL[:-1])} and {_PER_CALL[-1]}.",
                )
            if name == "webhook":
                changes[name] = None if value is None else _web_address(value)
            else:
                changes[f"{name}_s"] = None if value is None else _seconds(name, value)
        return replace(self, **changes)


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise ResourceError(
            f"{name} is {value!r}, not a number of seconds.", hint=f"For example: options({name}=60)"
        )
    if value <= 0:
        raise ResourceError(f"{name} is {value:g} s: it must be longer than 0 s.")
    return float(value)


def _web_address(value: Any) -> str:
    example = 'For example: options(webhook="https://example.com/done")'
    if not isinstance(value, str):
        raise ResourceError(f"webhook is {value!r}, not a URL.", hint=example)
    try:
        parts = urlsplit(value)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number, a bracket too many
        valid = False
    if not valid or any(sign.isspace() for sign in value):
        raise ResourceError(f"webhook is {value!r}, not an http:// or https:// URL.", hint=example)
    return value
