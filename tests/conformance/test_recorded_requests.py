"""One program with the official SDK 1.0.0 and with ours: what both send to Runpod, field by field."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pickle
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults import Proxy
from official import make_environment, run_program
from real import World

PROGRAM = """
import asyncio
from PACKAGE import DataCenter, GpuGroup, LiveServerless, NetworkVolume, PodTemplate, remote

resource = LiveServerless(
    name="recorded",
    gpus=[GpuGroup.AMPERE_80, GpuGroup.ADA_24],
    gpuCount=2,
    workersMax=2,
    idleTimeout=33,
    executionTimeoutMs=60_000,
    scalerValue=7,
    env={"GREETING": "hello"},
    networkVolume=NetworkVolume(name="models", size=20, dataCenterId=DataCenter.EU_RO_1),
    template=PodTemplate(containerDiskInGb=100),
)

@remote(resource_config=resource, dependencies=["six"], system_dependencies=["coreutils"])
async def f(a, b=2):
    import time

    time.sleep(1.5)  # longer than Runpod holds the first question
    return a + b

asyncio.run(f(1, b=3))
"""


@dataclass
class Recorded:
    """What a program sent: ``(method, path, headers, body)`` each."""

    requests: list[tuple[str, str, dict[str, str], str]]

    def only(self, part: str, body: str = "") -> tuple[str, str, dict[str, str], str]:
        """Return the first request with this in its path and this in its body."""
        return next(each for each in self.requests if part in each[1] and body in each[3])

    def saved(self) -> dict:
        return json.loads(self.only("/graphql", "saveEndpoint")[3])["variables"]["input"]

    def job(self) -> dict:
        return json.loads(self.only("/run")[3])


def record(python: Path | str, package: str, folder: Path, *delete: str) -> Recorded:
    """Run the program against a fresh engine, then a command that deletes, with a recorder on the way."""

    async def main() -> Recorded:
        with tempfile.TemporaryDirectory(prefix="fc-") as cache:
            world = World(Path(cache))
            try:
                return await _recorded(world, python, package, folder, delete)
            finally:
                await asyncio.to_thread(world.close)

    return asyncio.run(main())


async def _recorded(
    world: World, python: Path | str, package: str, folder: Path, delete: tuple[str, ...]
) -> Recorded:
    told = await asyncio.to_thread(world.flash, "engine", "start", "--json")
    started = json.loads(told.stdout)
    root = started["runpod"]["RUNPOD_API_BASE_URL"]
    (folder / "program.py").write_text(PROGRAM.replace("PACKAGE", package))
    async with Proxy(root).running() as proxy:
        more = {
            "RUNPOD_ENV": "prod",  # else the official SDK leaves out where workers run
            "FLASH_HOME": str(folder / "flash"),
            "PYTHONPATH": os.pathsep.join(sys.path) if python == sys.executable else "",
            **{name: url.replace(root, proxy.url) for name, url in started["runpod"].items()},
        }
        for command in ([python, "program.py"], delete):
            done = await asyncio.to_thread(run_program, command, folder, started, **more)
            assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
        pairs = zip(proxy.heads, proxy.seen, strict=True)
        return Recorded([(method, path, headers, body) for (method, headers), (path, body) in pairs])


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    folder = Path(tempfile.mkdtemp(prefix="fr-"))
    python = make_environment(folder / "environment", ("runpod-flash==1.0.0",))
    delete = (str(python.parent / "flash"), "undeploy", "recorded-fb", "--force")
    yield record(python, "runpod_flash", tmp_path_factory.mktemp("theirs"), *delete)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    delete = (sys.executable, "-m", "flash_nb", "down", "recorded")
    return record(sys.executable, "flash_nb", tmp_path_factory.mktemp("ours"), *delete)


def test_an_endpoint_is_saved_with_the_same_fields(theirs, ours):
    official, our = theirs.saved(), ours.saved()
    assert (
        official.pop("name") == "recorded-fb"
    )  # 1.0.0 says flashboot in the name, its successors in a field
    assert (our.pop("name"), our.pop("flashBootType")) == ("recorded", "FLASHBOOT")
    assert sorted(official.pop("gpuIds").split(",")) == sorted(our.pop("gpuIds").split(","))
    official_name, our_name = official["template"].pop("name"), our["template"].pop("name")
    assert "__PodTemplate_" in official_name
    assert "__PodTemplate_" in our_name
    assert our == official


def test_the_same_volume_is_asked_for_by_the_rest_of_its_day(theirs, ours):
    official, our = "/rest/networkvolumes", "/v2/network-volumes"
    made, asked = json.loads(theirs.only(official, "{")[3]), json.loads(ours.only(our, "{")[3])
    assert (made["name"], made["size"], made["dataCenterId"]) == (
        asked.pop("name"),
        asked.pop("size"),
        asked.pop("dataCenter"),
    )
    assert not asked
    assert theirs.only(official)[:2] == ("GET", official)
    assert ours.only(our)[:2] == ("GET", our)
    assert not [path for _, path, _, _ in ours.requests if path.startswith("/rest")]


def test_a_job_has_the_same_fields(theirs, ours):
    official, our = theirs.job(), ours.job()
    assert list(our) == list(official) == ["input"]
    official, our = official["input"], our["input"]
    assert set(our) == set(official)
    own = {"function_name", "function_code", "args", "kwargs"}  # the harness, and what it runs
    rest = {name: value for name, value in our.items() if name not in own}
    assert rest == {name: value for name, value in official.items() if name not in own}
    for request in (official, our):
        values = [*request["args"], *request["kwargs"].values()]
        assert all(isinstance(pickle.loads(base64.b64decode(value)), int | str | bytes) for value in values)
        assert f"def {request['function_name']}(" in request["function_code"]


def test_a_job_is_asked_about_in_the_same_way(theirs, ours):
    for recorded in (theirs, ours):
        method, path, _, body = recorded.only("/status/")
        assert (method, body) == ("GET", "")
        assert re.fullmatch(r"/v2/ep-\w+/status/[\w-]+", path)


def test_an_endpoint_is_deleted_by_the_same_mutation(theirs, ours):
    for recorded in (theirs, ours):
        sent = json.loads(recorded.only("/graphql", "deleteEndpoint")[3])
        assert sent["variables"] == {"id": recorded.only("/run")[1].split("/")[2]}
        text = " ".join(sent["query"].split())
        assert text == "mutation deleteEndpoint($id: String!) { deleteEndpoint(id: $id) }"


def test_every_request_shows_the_key_in_the_same_way(theirs, ours):
    for recorded in (theirs, ours):
        for _, path, headers, _ in recorded.requests:
            scheme, _, key = headers["authorization"].partition(" ")
            assert (scheme, bool(key)) == ("Bearer", True), path
    for part in ("/graphql", "/run"):
        for recorded in (theirs, ours):
            method, _, headers, _ = recorded.only(part)
            assert (method, headers["content-type"]) == ("POST", "application/json")
