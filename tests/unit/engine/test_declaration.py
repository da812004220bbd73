"""What ``saveEndpoint`` says, as a spec and back."""

from __future__ import annotations

import pytest

from flash_nb.engine.declaration import answer_of, is_live, spec_of
from flash_nb.engine.state import Scaling
from flash_nb.errors import ResourceError

OFFICIAL = {
    "executionTimeoutMs": 0,
    "gpuCount": 1,
    "idleTimeout": 5,
    "name": "first-fb",
    "scalerType": "QUEUE_DELAY",
    "scalerValue": 4,
    "type": "QB",
    "workersMax": 3,
    "workersMin": 0,
    "workersPFBTarget": 0,
    "allowedCudaVersions": "",
    "gpuIds": "AMPERE_80",
    "template": {
        "containerDiskInGb": 64,
        "env": [{"key": "A", "value": "1"}],
        "imageName": "runpod/flash:latest",
        "name": "t",
    },
}
"""What the official SDK 1.0.0 sends for a plain LiveServerless."""


def declared(image: str = "runpod/flash:latest", **fields) -> dict:
    return {**OFFICIAL, "template": {"imageName": image, "env": []}, **fields}


def test_what_the_official_sdk_sends():
    spec = spec_of(OFFICIAL)
    assert (spec["name"], spec["kind"], spec["gpu_count"]) == ("first-fb", "LiveServerless", 1)
    assert spec["env"] == {"A": "1"}
    assert spec["scaling"] == {
        "workers_min": 0,
        "workers_max": 3,
        "idle_timeout_s": 5.0,
        "timeout_s": None,
        "queue_delay_s": None,
        "requests_per_worker": None,
    }
    assert Scaling(**spec["scaling"]) == Scaling()


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, "LiveServerless"),
        ({"image": "runpod/flash:py3.12-latest"}, "LiveServerless"),
        ({"instanceIds": ["cpu3g-2-8"]}, "CpuLiveServerless"),
        ({"instanceIds": ["cpu3g-2-8"], "image": "runpod/flash-cpu:latest"}, "CpuLiveServerless"),
        ({"type": "LB", "image": "runpod/flash-lb:latest"}, "LiveLoadBalancer"),
        ({"image": "me/upper:1"}, "ServerlessEndpoint"),
        ({"image": "me/upper:1", "instanceIds": ["cpu3g-2-8"]}, "CpuServerlessEndpoint"),
        ({"image": "me/upper:1", "type": "LB"}, "LoadBalancerSlsResource"),
        ({"image": "me/upper", "type": "LB", "instanceIds": ["cpu5c-1-2"]}, "CpuLoadBalancerSlsResource"),
    ],
)
def test_the_kind_follows_from_type_image_and_machines(fields, kind):
    assert spec_of(declared(**fields))["kind"] == kind


def test_only_flashs_own_images_are_live():
    assert is_live("runpod/flash-lb-cpu:x")
    assert is_live("docker.io/runpod/flash")
    assert not is_live("runpod/flash-mine:latest")
    assert not is_live("me/runpod/flash")


def test_a_chosen_scaler_counts():
    assert spec_of(declared(scalerValue=9))["scaling"]["queue_delay_s"] == 9.0
    counting = spec_of(declared(scalerType="REQUEST_COUNT"))["scaling"]
    assert (counting["queue_delay_s"], counting["requests_per_worker"]) == (None, 4)


def test_a_change_keeps_what_it_does_not_name():
    known = spec_of(OFFICIAL) | {"app": {"kind": "handler"}, "requirements": ["numpy"]}
    changed = spec_of({"id": "ep-1", "workersMax": 7, "locations": None}, known)
    assert changed["scaling"]["workers_max"] == 7
    assert [changed[key] for key in ("name", "kind", "env", "app", "requirements", "image")] == [
        known[key] for key in ("name", "kind", "env", "app", "requirements", "image")
    ]


def test_an_empty_volume_is_none():
    assert spec_of(declared(networkVolumeId=""))["volume"] is None


def test_a_template_replaces_the_variables():
    assert spec_of(declared(), spec_of(OFFICIAL))["env"] == {}


def test_the_answer_has_texts_where_clients_split_them():
    told = answer_of("ep-1", spec_of({"name": "x", "templateId": "tpl-mine"}))
    assert told["gpuIds"] == told["allowedCudaVersions"] == told["locations"] == ""
    assert (told["id"], told["templateId"]) == ("ep-1", "tpl-mine")
    told = answer_of("ep-1", spec_of(OFFICIAL))
    assert told["env"] == told["template"]["env"] == [{"key": "A", "value": "1"}]
    assert {name: told[name] for name in OFFICIAL if name != "template"} == {
        name: value for name, value in OFFICIAL.items() if name != "template"
    }


def test_an_endpoint_of_our_own_kernels_is_told_and_changed_too():
    ours = {
        "name": "mine",
        "kind": "CpuLiveServerless",
        "hash": "",
        "hardware": "",
        "gpu_count": 0,
        "env": {"A": "1"},
        "volume": "EU-RO-1-data",
        "balanced": False,
        "app": None,
        "requirements": [],
        "system": [],
        "scaling": spec_of(declared(scalerType="REQUEST_COUNT", executionTimeoutMs=1500))["scaling"],
    }
    told = answer_of("ep-1", ours)
    assert (told["type"], told["scalerType"], told["executionTimeoutMs"]) == ("QB", "REQUEST_COUNT", 1500)
    assert told["instanceIds"]
    assert told["networkVolume"] == {"id": "EU-RO-1-data"}
    changed = spec_of({"workersMax": 9}, ours)
    assert (changed["kind"], changed["env"], changed["volume"]) == (
        "CpuLiveServerless",
        {"A": "1"},
        "EU-RO-1-data",
    )
    assert changed["scaling"] == {**ours["scaling"], "workers_max": 9}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"template": {"imageName": "i"}}, "name"),
        ({"name": "x"}, "imageName"),
        ({"name": "x", "template": {"imageName": ""}}, "imageName"),
        (declared(type="XX"), "type"),
        (declared(workersMin=4), "workersMin"),
        (declared(networkVolumeId="../../etc"), "volume"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given, word):
    with pytest.raises(ResourceError, match=word):
        spec_of(given)
