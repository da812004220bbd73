"""Runpod's own worker runs the handler file of an artifact, which brings all that it needs."""

from __future__ import annotations

import asyncio
import base64
import json

import cloudpickle
import pytest
from artifacts import write
from official import Worker, serving

SOURCE = """
from runpod_flash import CpuLiveServerless, remote

one = CpuLiveServerless(name="one")

@remote(one)
async def add(x, y=1):
    return x + y

@remote(one)
def numbers(n):
    yield from range(n)

@remote(one)
def fail():
    raise ValueError("no such model")

@remote(one)
async def both(x):
    return (await add(x)).unwrap() + (await add(x, y=2)).unwrap()

@remote(one)
class Counter:
    def __init__(self):
        self.value = 0
    def count(self):
        self.value += 1
        return self.value

drip = CpuLiveServerless(name="drip")

@remote(drip)
def letters(word):
    yield from word
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("artifact"), {"jobs.py": SOURCE})


class Deployed(Worker):
    """A worker that an image starts from an artifact's handler file."""

    def command(self, python, handler):
        return [python, handler]


async def start(endpoint, python, file) -> Deployed:
    worker = Deployed(python, file, await endpoint.environment())
    endpoint.workers.append(worker)
    await endpoint.until("health", lambda found: found["workers"]["ready"] >= 1)
    return worker


def packed(value) -> str:
    return base64.b64encode(cloudpickle.dumps(value)).decode()


def test_a_handler_file_runs_under_the_official_worker(world, official, folder):
    async def scenario():
        async with serving(world, official) as endpoint:
            await start(endpoint, official, folder / "handler_one.py")
            assert (await endpoint.run(function_name="add", x=1))["output"] == 2
            assert (await endpoint.run(function_name="numbers", n=3))["output"] == [0, 1, 2]
            assert (await endpoint.run(function_name="both", x=1))["output"] == 5
            counts = [(await endpoint.run(class_name="Counter", method="count"))["output"] for _ in range(2)]
            assert counts == [1, 2]
            failed = await endpoint.run(function_name="fail")
            error = json.loads(failed["error"])
            assert failed["status"] == "FAILED"
            assert (error["error_type"], error["error_message"]) == ("<class 'ValueError'>", "no such model")
            assert 'raise ValueError("no such model")' in error["error_traceback"]
            wrong = await endpoint.run(function_name="ad", x=1)
            assert "did you mean 'add'?" in json.loads(wrong["error"])["error_message"]
            request = {"execution_type": "function", "args": [packed({1})], "kwargs": {}}
            output = (await endpoint.run(function_name="numbers", **{**request, "args": [packed(2)]}))[
                "output"
            ]
            assert output["success"]
            assert cloudpickle.loads(base64.b64decode(output["result"])) == [0, 1]

    asyncio.run(scenario())


def test_a_generator_streams_under_the_official_worker(world, official, folder):
    async def scenario():
        async with serving(world, official) as endpoint:
            await start(endpoint, official, folder / "handler_drip.py")
            job = await endpoint.submit(word="abc")
            assert (await endpoint.end(job))["output"] == ["a", "b", "c"]
            chunks = (await endpoint.get(f"stream/{job}"))["stream"]
            assert [chunk["output"] for chunk in chunks] == ["a", "b", "c"]

    asyncio.run(scenario())
