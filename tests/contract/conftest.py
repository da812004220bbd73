from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from real import World


@pytest.fixture(scope="session")
def cache():
    with tempfile.TemporaryDirectory(prefix="fc-") as folder:
        yield Path(folder)


@pytest.fixture(params=["local"])
def new_backend(request, cache):
    """A factory: each call is the backend of another kernel of the same user."""
    assert request.param == "local"
    world = World(cache)
    yield world.backend
    world.close()
