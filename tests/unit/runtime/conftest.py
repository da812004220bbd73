"""The runtime as it is deployed: the files of an artifact, imported from its folder."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from artifacts import write


@pytest.fixture(scope="session")
def runtime_folder(tmp_path_factory) -> Path:
    source = """
    from flash_nb import CpuLiveServerless, remote
    @remote(CpuLiveServerless(name="one"))
    async def f(x): ...
    """
    return write(tmp_path_factory.mktemp("artifact"), {"jobs.py": source})


@pytest.fixture(scope="session")
def runtime(runtime_folder):
    """Gives a module of the deployed runtime by its name.

    The artifact's folder does not stay on the path: processes inherit it, and it has a ``flash_nb`` too.
    """
    sys.path.insert(0, str(runtime_folder))
    importlib.import_module("flash_runtime")
    sys.path.remove(str(runtime_folder))
    yield lambda name: importlib.import_module(f"flash_runtime.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "flash_runtime"]:
        del sys.modules[name]
