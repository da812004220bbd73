"""Where Runpod is, and how that is overridden."""

from __future__ import annotations

import pytest

from flash_nb.protocol import urls


def test_defaults():
    assert urls.graphql({}) == "https://api.runpod.io/graphql"
    assert urls.volumes({}) == "https://api.runpod.io/v2/network-volumes"
    assert urls.queue("ep1", {}) == "https://api.runpod.ai/v2/ep1"
    assert urls.balanced("ep1", {}) == "https://ep1.api.runpod.ai"


def test_overrides_are_those_of_the_official_sdk():
    environ = {
        "RUNPOD_API_BASE_URL": "http://a/",
        "RUNPOD_ENDPOINT_BASE_URL": "https://c.example/v2/",
    }
    assert urls.graphql(environ) == "http://a/graphql"
    assert urls.volumes(environ) == "http://a/v2/network-volumes"
    assert urls.queue("ep1", environ) == "https://c.example/v2/ep1"
    assert urls.balanced("ep1", environ) == "https://ep1.c.example"
    assert urls.graphql({"RUNPOD_API_BASE_URL": ""}) == "https://api.runpod.io/graphql"


def test_they_are_read_when_used(monkeypatch):
    for base in ("http://one", "http://two"):
        monkeypatch.setenv("RUNPOD_API_BASE_URL", base)
        assert urls.volumes() == f"{base}/v2/network-volumes"


@pytest.mark.parametrize("host", ["127.0.0.1:80", "localhost:80", "[::1]:80"])
def test_a_server_of_this_machine_has_everything_under_one_address(host):
    environ = {"RUNPOD_ENDPOINT_BASE_URL": f"http://{host}/v2"}
    assert urls.balanced("ep1", environ) == f"http://{host}/ep1"


@pytest.mark.parametrize("base", ["https://127.0.0.1:80/v2", "http://example.org/v2"])
def test_others_do_not(base):
    assert urls.balanced("ep1", {"RUNPOD_ENDPOINT_BASE_URL": base}).startswith("https://ep1.")
