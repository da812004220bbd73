"""Workers that serve the folder of a built project."""

from __future__ import annotations

import asyncio
import shutil
import textwrap
from pathlib import Path

import cloudpickle
import pytest
from real import Following, spec, until

from flash_nb.backends.base import HttpRequest, JobRequest
from flash_nb.jobs import new_job_id

HANDLER = """
import asyncio, os, sys

def handler(job):
    given = job["input"]
    if given == "where":
        return {"cwd": os.getcwd(), "path": sys.path, "pythonpath": os.environ.get("PYTHONPATH")}
    if given == "cloudpickle":
        import cloudpickle
        value = cloudpickle.loads(cloudpickle.dumps(lambda: 42))()
        return {"version": cloudpickle.__version__, "file": cloudpickle.__file__, "value": value}
    if given == "items":
        return (lambda number=number: number for number in range(3))
    if given == "error":
        class Own(Exception):
            pass
        raise Own("mine")
    import flash_worker.codec, cloudpickle
    return flash_worker.codec.cloudpickle is cloudpickle
"""
APP = """
import asyncio, os

log = []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        open("begun", "w").close()
        while not os.path.exists("gate"):
            await asyncio.sleep(0.01)
        scope["state"]["model"] = "loaded"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        open("ended", "w").close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = scope["state"]["model"].encode() + b" " + scope["path"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
BROKEN = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no model"})
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "handler_one.py").write_text(textwrap.dedent(HANDLER))
    return tmp_path


def artifact(folder: Path, kind: str = "handler", **fields):
    app = {"kind": kind, "artifact": {"folder": str(folder), "module": "handler_one"}}
    return spec(kind="CpuLiveServerless", app=app, **fields)


async def run(endpoint, given):
    following = Following()
    request = {"execution_type": "handler", "input": given}
    endpoint.run(JobRequest(new_job_id(), request, []), following)
    return await following.end()


def scenario(world, folder, steps, **fields) -> None:
    async def main():
        backend = world.backend()
        endpoint = await backend.ensure(artifact(folder, **fields))
        await steps(backend, endpoint)
        await backend.aclose()

    asyncio.run(main())


def output(event):
    import json

    assert event.result is not None, event.info
    assert event.result["ok"], event.result["error"]["text"]
    return json.loads(bytes(event.buffers[0]))


def test_the_artifact_comes_first_and_the_workers_own_code_is_not_on_the_path(world, folder):
    async def steps(_, endpoint):
        found = output(await run(endpoint, "where"))
        assert found["cwd"] == found["path"][0] == str(folder)
        assert found["pythonpath"] is None
        assert not any((Path(place) / "flash_worker").exists() for place in found["path"])

    scenario(world, folder, steps)


def test_the_workers_cloudpickle_is_not_the_artifacts(world, folder):
    async def steps(_, endpoint):
        failed = await run(endpoint, "cloudpickle")
        assert failed.info.error == "ModuleNotFoundError: No module named 'cloudpickle'"

    scenario(world, folder, steps)


def test_an_artifact_may_bring_another_cloudpickle(world, folder):
    package = folder / "cloudpickle"
    shutil.copytree(Path(cloudpickle.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    with (package / "__init__.py").open("a") as file:
        file.write("\n__version__ = '99'\n")

    async def steps(_, endpoint):
        found = output(await run(endpoint, "cloudpickle"))
        assert found == {"version": "99", "file": str(package / "__init__.py"), "value": 42}
        assert output(await run(endpoint, "same")) is False
        items = await run(endpoint, "items")
        assert "cannot be sent back" in items.info.error
        error = await run(endpoint, "error")
        assert error.info.error.endswith("Own: mine")
        assert output(await run(endpoint, "cloudpickle")) == found

    scenario(world, folder, steps)


def test_an_application_starts_before_its_first_request_and_ends_after_its_last(world, folder):
    (folder / "handler_one.py").write_text(APP)

    async def steps(backend, endpoint):
        asked = asyncio.create_task(endpoint.request(HttpRequest("GET", "/a b")))
        await until((folder / "begun").exists)
        assert not asked.done()
        (folder / "gate").touch()
        assert (await asked).body == b"loaded /a b"
        await backend.ensure(artifact(folder, kind="asgi", balanced=True, env={"NEW": "1"}))
        await until((folder / "ended").exists)

    scenario(world, folder, steps, kind="asgi", balanced=True)


def test_an_application_that_cannot_start_says_so_to_who_asks(world, folder):
    (folder / "handler_one.py").write_text(BROKEN)

    async def steps(_, endpoint):
        answer = await endpoint.request(HttpRequest("GET", "/"))
        assert answer.status == 500
        assert b"LifespanError: no model" in answer.body

    scenario(world, folder, steps, kind="asgi", balanced=True)
