"""The guest: how a Runpod worker that knows nothing of flash_nb runs a notebook's job.

The text of this file travels as ``function_code`` of Flash's *FunctionRequest*. The worker executes it and
awaits `run` with the request's arguments: the island's modules, and a job. The island is unpacked and
imported once; from then on `resident` keeps what must survive between jobs. Only the standard library
may be used here, and nothing of the island can be imported before it is unpacked.
"""

import atexit
import importlib
import json
import os
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

PACKAGE = "flash_guest"


async def run(digest: str, island: bytes, job: bytes) -> bytes:
    """Run a job, and return its result; see `flash_nb.protocol.live`.

    Args:
        digest: Names this island among others.
        island: Its modules: zlib-compressed JSON, file name to source.
        job: The request and its values, as a frame.
    """
    package = sys.modules.get(PACKAGE)
    if getattr(package, "__digest__", "") != digest:
        _unpack(digest, island)
    resident = importlib.import_module(f"{PACKAGE}.resident").resident()
    result: bytes = await resident.run(job, sys._getframe())
    return result


def _unpack(digest: str, island: bytes) -> None:
    """Import the island from a folder of its own, in place of another that is there."""
    folder = Path(tempfile.mkdtemp(prefix="flash-"))
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    (folder / PACKAGE).mkdir()
    for name, source in json.loads(zlib.decompress(island)).items():
        (folder / PACKAGE / name).write_text(source, encoding="utf-8")
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        importlib.import_module(PACKAGE).__digest__ = digest  # type: ignore[attr-defined]
        importlib.import_module(f"{PACKAGE}.resident")
    finally:
        sys.path.remove(str(folder))
