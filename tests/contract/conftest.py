from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
import real
from door import http_door, point_to
from real import World

from flash_nb.backends.auth import ApiKey
from flash_nb.backends.local import read_state
from flash_nb.backends.runpod import RunpodBackend

NO_APPS = "at Runpod an image serves what is in it: no app travels, and the engine runs no images"
IN_A_THREAD = (
    "at Runpod the job's code runs in a thread beside the worker's loop: what sleeps in C, as time.sleep "
    "does, hears of a cancel only when it returns"
)
COMPLETED = "a function that raised has completed at Runpod, and Runpod runs no completed job again"
CANNOT = {
    "test_cancelling_closes_a_generator": IN_A_THREAD,
    "test_a_failed_job_is_retried_under_its_id": COMPLETED,
    "test_a_route_answers_whatever_its_status": NO_APPS,
    "test_a_request_is_never_sent_twice": NO_APPS,
    "test_many_requests_at_once": NO_APPS,
    "test_who_stops_waiting_ends_the_request": NO_APPS,
    "test_a_changed_app_is_served_from_the_next_request_on": NO_APPS,
}
"""What the cloud backend cannot keep of the contract, and why."""


def pytest_collection_modifyitems(items):
    for item in items:
        reason = CANNOT.get(getattr(item, "originalname", ""))
        if reason and "[runpod" in item.name:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(scope="session")
def cache():
    with tempfile.TemporaryDirectory(prefix="fc-") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def patience(request, monkeypatch):
    """Do not wait long for what cannot be."""
    if request.node.get_closest_marker("xfail"):
        monkeypatch.setattr(real, "PATIENCE_S", 5.0)


@pytest.fixture(autouse=True)
def addresses(monkeypatch):
    """Take back what a test says of Runpod's addresses."""
    for name in ("RUNPOD_API_BASE_URL", "RUNPOD_ENDPOINT_BASE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.fixture(params=["local", "runpod"])
def new_backend(request, cache, addresses):
    """A factory: each call is the backend of another kernel of the same user."""
    world = World(cache)
    try:
        if request.param == "local":
            yield world.backend
        else:
            point_to(asyncio.run(http_door(world)))
            key = ApiKey(read_state(world.settings).api_key, "the engine's state")
            yield lambda: RunpodBackend(world.settings, key)
    finally:
        world.close()
