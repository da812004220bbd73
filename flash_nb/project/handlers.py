"""The files that workers of an artifact start from, and the runtime that they share.

::

    handler_gpu_worker.py        one for each resource: it names the resource, and the factory does the rest
    handler_mothership.py
    flash_runtime/               a copy of `flash_nb.runtime`
    flash_nb/__init__.py         so that the user's imports find the names of the runtime
    runpod_flash/__init__.py

Some modules of the runtime are copies of others: an error, a `JobOutput`, and where the arguments of a route
travel must be the same in a notebook, on a worker of the engine and in an artifact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files

from flash_nb.project.declared import Project, Trouble, TroubleError

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


def files_of(project: Project) -> dict[str, bytes]:
    """Return what an artifact has besides the user's files and packages: relative path to content.

    Raises:
        TroubleError: Two resources would have one handler file.
    """
    found: dict[str, bytes] = {}
    owners: dict[str, str] = {}
    for key, content in _handlers(project):
        file = handler_file(key)
        if file.lower() in owners:  # some file systems do not tell them apart either
            raise TroubleError([_clash(project, key, owners[file.lower()], file)])
        owners[file.lower()] = key
        found[file] = content.encode()
    found.update({f"{RUNTIME}/{name}": content for name, content in _runtime().items()})
    found.update({f"{name}/__init__.py": _FRONT.format(package=name).encode() for name in STANDS_FOR})
    return found


def requirements_of(project: Project) -> tuple[str, ...]:
    """Return what the runtime needs in this artifact, as PEP 508 strings."""
    serves = project.mothership is not None or any(
        group.resource.is_load_balanced for group in project.groups
    )
    return ALWAYS + (FOR_HTTP if serves else ())


def _handlers(project: Project) -> Iterator[tuple[str, str]]:
    for group in project.groups:
        text = _HTTP if group.resource.is_load_balanced else _QUEUE
        names = ", ".join(function.name for function in group.functions)
        yield group.key, text.format(key=group.key, functions=names)
    if mothership := project.mothership:
        what = f"{mothership.variable} of {mothership.file}"
        yield mothership.resource.name, _HTTP.format(key=mothership.resource.name, functions=what)


def _runtime() -> dict[str, bytes]:
    """Return the runtime's modules, those of other packages in their places."""
    folder = files("flash_nb.runtime")
    names = sorted(each.name for each in folder.iterdir() if each.name.endswith(".py"))
    return {
        name: (files(SHARED[name][0]) / SHARED[name][1] if name in SHARED else folder / name).read_bytes()
        for name in names
    }


def _clash(project: Project, key: str, other: str, file: str) -> Trouble:
    place = next((group.place for group in project.groups if group.key == key), None)
    return Trouble(
        place,
        f"the resources {other!r} and {key!r} would both be started by {file}",
        f"rename one: {key!r} and {other!r} differ in signs or letters that a file name does not keep",
    )
