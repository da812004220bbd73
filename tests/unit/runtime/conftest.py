"""The runtime as it is deployed: the files of an artifact, imported from its folder."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from artifacts import sample

from flash_nb.project.handlers import files_of


@pytest.fixture(scope="session")
def runtime_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("artifact")
    for name, content in files_of(sample()).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def runtime(runtime_folder):
    """Gives a module of the deployed runtime by its name."""
    sys.path.insert(0, str(runtime_folder))
    yield lambda name: importlib.import_module(f"flash_runtime.{name}")
    sys.path.remove(str(runtime_folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "flash_runtime"]:
        del sys.modules[name]
