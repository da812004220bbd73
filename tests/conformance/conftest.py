from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import official as official_worker
import pytest
from real import World


@pytest.fixture(scope="session")
def official():
    """The interpreter of an environment with Runpod's own package."""
    folder = Path(tempfile.mkdtemp(prefix="fr-"))
    yield official_worker.make_environment(folder / "environment")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def world():
    with tempfile.TemporaryDirectory(prefix="fc-") as cache:
        made = World(Path(cache))
        yield made
        made.close()
