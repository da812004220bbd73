"""One real kernel per module, and one engine for all of them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernels import Engine, Kernel, started


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Set a home of our own, and end the engine that the kernels start there."""
    home = Path(tempfile.mkdtemp(prefix="fnb-"))
    before = os.environ.get("FLASH_HOME")
    os.environ["FLASH_HOME"] = str(home)
    started = Engine(home)
    try:
        yield started
    finally:
        started.stop()
        if before is None:
            del os.environ["FLASH_HOME"]
        else:
            os.environ["FLASH_HOME"] = before
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def kernel(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """Start a kernel of this interpreter, with the extension loaded."""
    with started(tmp_path_factory.mktemp("notebook")) as made:
        assert made.value("__import__('sys').executable") == sys.executable
        made.run("%load_ext flash_nb").ok()
        yield made


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """Return the file that cells of `kernels.detach` wait for."""
    return tmp_path / "go"


@pytest.fixture
def fresh(engine: Engine, tmp_path: Path) -> Iterator[Kernel]:
    """Start a kernel of this interpreter, with nothing loaded."""
    with started(tmp_path) as made:
        yield made
