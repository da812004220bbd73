"""Bodies of ``/run``, made into jobs."""

from __future__ import annotations

import pytest

from flash_nb.engine.gate import RefusalError
from flash_nb.engine.order import submission

LIVE = {"name": "live", "kind": "CpuLiveServerless", "app": None, "requirements": [], "system": []}
IMAGE = {
    "name": "image",
    "kind": "ServerlessEndpoint",
    "app": {"kind": "handler"},
    "requirements": ["numpy"],
    "system": ["ffmpeg"],
}


def submitted(spec: dict, body: dict):
    return submission("j1", "ep", spec, body, python="3.12")


@pytest.mark.parametrize("value", [None, 0, "", [], {}, {"input": {}}, 5, "text"])
def test_a_handler_takes_any_input(value):
    header, request = submitted(IMAGE, {"input": value})
    assert request == {"execution_type": "handler", "input": value, "extra": {}}
    needs = {"python": "3.12", "requirements": ["numpy"], "system": ["ffmpeg"], "instance": None}
    assert header == {"job": "j1", "endpoint": "ep", "needs": needs}


def test_a_handler_sees_the_other_keys_that_runpod_documents():
    body = {"input": 1, "s3Config": {"bucketName": "b"}, "webhook": "https://h/", "unknown": 1}
    _, request = submitted(IMAGE, body)
    assert request["extra"] == {"s3Config": {"bucketName": "b"}, "webhook": "https://h/"}


def test_a_live_input_brings_code_and_needs():
    given = {
        "function_name": "f",
        "function_code": "def f(): …",
        "dependencies": ["numpy"],
        "system_dependencies": ["ffmpeg"],
        "accelerate_downloads": False,
    }
    header, request = submitted(LIVE, {"input": given})
    assert request == {"execution_type": "live", "input": given, "instance": None}
    assert header["needs"] == {
        "python": "3.12",
        "requirements": ["numpy"],
        "system": ["ffmpeg"],
        "instance": None,
    }
    assert header["accelerate"] is False


def test_absent_and_null_dependencies_are_none():
    header, _ = submitted(LIVE, {"input": {"function_name": "f", "dependencies": None}})
    assert (header["needs"]["requirements"], header["needs"]["system"]) == ([], [])


def test_an_object_goes_to_its_own_worker_of_its_own_endpoint():
    given = {"execution_type": "class", "class_name": "C", "instance_id": "C_1"}
    header, request = submitted(LIVE, {"input": given})
    assert header["needs"]["instance"] == request["instance"] == "ep/C_1"


def test_times_are_milliseconds_outside_and_seconds_inside():
    header, _ = submitted(IMAGE, {"input": 1, "policy": {"executionTimeout": 5000, "ttl": 604_800_000}})
    assert (header["timeout"], header["ttl"]) == (5.0, 604_800.0)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "input"),
        ({"inputs": 1}, "input"),
        ({"input": 1, "policy": []}, "policy"),
        ({"input": 1, "policy": 5}, "policy"),
        ({"input": 1, "policy": {"executionTimeout": 4999}}, "executionTimeout"),
        ({"input": 1, "policy": {"executionTimeout": 604_800_001}}, "executionTimeout"),
        ({"input": 1, "policy": {"executionTimeout": "5000"}}, "executionTimeout"),
        ({"input": 1, "policy": {"executionTimeout": True}}, "executionTimeout"),
        ({"input": 1, "policy": {"ttl": 9999}}, "ttl"),
        ({"input": 1, "policy": {"ttl": float("nan")}}, "ttl"),
        ({"input": 1, "webhook": 5}, "webhook"),
        ({"input": 1, "webhook": "file:///etc/passwd"}, "webhook"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(body, word):
    with pytest.raises(RefusalError, match=word) as caught:
        submitted(IMAGE, body)
    assert caught.value.status == 400


@pytest.mark.parametrize("given", [None, 5, "f", [], {"dependencies": "numpy"}, {"dependencies": [1]}])
def test_a_live_input_that_is_no_function_request_is_refused(given):
    with pytest.raises(RefusalError):
        submitted(LIVE, {"input": given})
