from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from real import World


@pytest.fixture(scope="session")
def cache():
    """Worker environments of all tests: built once."""
    folder = Path(tempfile.mkdtemp(prefix="fc-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make_world(cache):
    worlds = []

    def make(**fields) -> World:
        worlds.append(World(cache, **fields))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world):
    return make_world()
