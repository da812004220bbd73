"""What of an artifact is ours: the files that its workers start from, and the runtime that they share.

::

    handler_gpu_worker.py        one for each resource: it names the resource, and the factory does the rest
    handler_mothership.py
    flash_runtime/               a copy of `flash_nb.runtime`
    flash_nb/__init__.py         so that the user's imports find the names of the runtime
    runpod_flash/__init__.py

``flash build`` writes them; the engine does, into artifacts of other builders. Some modules of the runtime
are copies of others: an error, a `JobOutput`, and where the arguments of a route travel must be the same in
a notebook, on a worker of the engine and in an artifact.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

RUNTIME = "flash_runtime"
STANDS_FOR = ("flash_nb", "runpod_flash")
SHARED: Mapping[str, tuple[str, str]] = {
    "errors.py": ("flash_nb", "errors.py"),
    "jobs.py": ("flash_nb", "jobs.py"),
    "version.py": ("flash_nb", "version.py"),
    "raised.py": ("flash_nb.worker", "raised.py"),
    "routes.py": ("flash_nb.worker", "routes.py"),
    "serving.py": ("flash_nb.worker", "serving.py"),
}
"""Modules of the runtime that are another package's."""

ALWAYS = ("cloudpickle>=3.1",)
FOR_HTTP = ("fastapi>=0.110", "uvicorn>=0.30")

_QUEUE = '''"""Starts workers of {key}: {functions}. Written by flash build."""

from flash_runtime.factory import queue_handler, start

handler = queue_handler({key!r})

if __name__ == "__main__":
    start(handler)
'''
_HTTP = '''"""Starts workers of {key}: {functions}. Written by flash build."""

from flash_runtime.factory import application, serve_forever

app = application({key!r})

if __name__ == "__main__":
    serve_forever(app)
'''
_FRONT = '''"""What the project imports from {package}: the names of the runtime. Written by flash build."""

from flash_runtime import declare as _declare
from flash_runtime.declare import *
from flash_runtime.declare import __getattr__, __version__

_declare.provide(__name__)
'''


def handler_file(key: str) -> str:
    """Return the name of the file that starts workers of a resource: ``handler_gpu_worker.py``."""
    return f"handler_{re.sub(r'[^A-Za-z0-9_-]', '_', key)}.py"


def handler(key: str, serves: str, *, is_http: bool) -> bytes:
    """Return a handler file.

    Args:
        key: The resource.
        serves: What it has, for the reader.
        is_http: It answers requests, else jobs.
    """
    return (_HTTP if is_http else _QUEUE).format(key=key, functions=serves).encode()


def runtime() -> dict[str, bytes]:
    """Return the runtime and what stands for our packages: relative path to content."""
    found = {f"{RUNTIME}/{name}": content for name, content in _runtime().items()}
    return found | {f"{name}/__init__.py": _FRONT.format(package=name).encode() for name in STANDS_FOR}


def requirements(*, serves_http: bool) -> tuple[str, ...]:
    """Return what the runtime needs, as PEP 508 strings."""
    return ALWAYS + (FOR_HTTP if serves_http else ())


def _runtime() -> dict[str, bytes]:
    """Return the runtime's modules, those of other packages in their places."""
    folder = files("flash_nb.runtime")
    names = sorted(each.name for each in folder.iterdir() if each.name.endswith(".py"))
    return {
        name: (files(SHARED[name][0]) / SHARED[name][1] if name in SHARED else folder / name).read_bytes()
        for name in names
    }
