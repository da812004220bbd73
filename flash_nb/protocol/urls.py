"""Where Runpod is: every base URL, with the official SDK's environment variables to override it.

==============================  =========================  ==============================
variable                        default                    what is there
==============================  =========================  ==============================
``RUNPOD_API_BASE_URL``         https://api.runpod.io      GraphQL, at ``/graphql``; REST v2, at ``/v2``:
                                                           the catalog of GPUs, volumes
``RUNPOD_ENDPOINT_BASE_URL``    https://api.runpod.ai/v2   jobs; load-balanced hosts follow from it
==============================  =========================  ==============================

They are read when a URL is asked for, not at import: a notebook may set them in any cell.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit


def graphql(environ: Mapping[str, str] | None = None) -> str:
    """Return where GraphQL is asked."""
    return _api_base(environ) + "/graphql"


def catalog(environ: Mapping[str, str] | None = None) -> str:
    """Return where the catalog of GPUs is asked."""
    return _api_base(environ) + "/v2/catalog/gpus"


def volumes(environ: Mapping[str, str] | None = None) -> str:
    """Return where volumes are listed and made."""
    return _api_base(environ) + "/v2/network-volumes"


def queue(endpoint_id: str, environ: Mapping[str, str] | None = None) -> str:
    """Return the base of a queue-based endpoint's routes, such as ``/run``."""
    return f"{_queue_base(environ)}/{endpoint_id}"


def balanced(endpoint_id: str, environ: Mapping[str, str] | None = None) -> str:
    """Return the base of a load-balanced endpoint's routes.

    On Runpod each has a host of its own. A server of this machine has no such hosts, so there an
    endpoint lies at the root, under its id: ``http://127.0.0.1:8000/ID``.
    """
    scheme, netloc, *_ = urlsplit(_queue_base(environ))
    if scheme == "http" and is_loopback(netloc):
        return f"http://{netloc}/{endpoint_id}"
    return f"https://{endpoint_id}.{netloc}"


def is_loopback(netloc: str) -> bool:
    """Say if a host, with or without a port, is this machine."""
    host = urlsplit(f"//{netloc}").hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _api_base(environ: Mapping[str, str] | None) -> str:
    return _base("RUNPOD_API_BASE_URL", "https://api.runpod.io", environ)


def _queue_base(environ: Mapping[str, str] | None) -> str:
    return _base("RUNPOD_ENDPOINT_BASE_URL", "https://api.runpod.ai/v2", environ)


def _base(variable: str, default: str, environ: Mapping[str, str] | None) -> str:
    return ((os.environ if environ is None else environ).get(variable) or default).rstrip("/")
