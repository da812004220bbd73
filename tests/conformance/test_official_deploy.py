"""The official ``flash``, unmodified, deploys to the engine: apps, environments, builds, endpoints.

Version 1.0.0, whose documentation is ours; and the last one, which does all of it in one command.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import endpoint_hosts
from official import make_environment, run_program
from real import World
from test_official_clients import FLASH

from flash_nb.project.builder.archive import Entry, pack
from flash_nb.project.handlers import files_of
from flash_nb.project.manifest import manifest_of, to_text
from flash_nb.project.scan import scan

NEWEST = ("runpod-flash==1.21.0",)
NEWEST_VARIABLES = {
    "RUNPOD_URL_MIXED_OK": "1",
    "RUNPOD_FLASH_SILENCE_DEPRECATION": "1",
    "FLASH_NO_UPDATE_CHECK": "1",
}
MAIN = """
from fastapi import FastAPI

from worker import double

app = FastAPI()


@app.get("/")
def home():
    return {"shop": "open"}


@app.post("/double")
async def call(body: dict):
    answer = await double(body["x"])
    return {"status": answer.status, "output": answer.output}
"""
WORKER = """
from runpod_flash import CpuLiveServerless, remote

config = CpuLiveServerless(name="worker", workersMin=0, workersMax=2)


@remote(config)
async def double(x):
    import os

    return {"double": 2 * x, "on": os.environ["FLASH_RESOURCE_NAME"]}


@remote(config)
def triple(x):
    return 3 * x
"""
FRONT = """
from runpod_flash import CpuLiveLoadBalancer, remote

front_config = CpuLiveLoadBalancer(name="front", workersMin=0, workersMax=2)


@remote(front_config, method="POST", path="/price")
async def price(item: str, count: int = 1):
    return {"item": item, "price": 10 * count}
"""
FILES = {"main.py": MAIN, "worker.py": WORKER, "front.py": FRONT}
PEERS = """
from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, remote

config = CpuLiveServerless(name="worker", workersMin=0, workersMax=2)
front = CpuLiveLoadBalancer(name="front", workersMin=0, workersMax=2)


@remote(config)
async def double(x):
    return 2 * x


@remote(front, method="POST", path="/double")
async def doubled(x: int):
    return {"output": (await double(x)).output}
"""
CALL = """
import base64, json, os, sys
import cloudpickle, runpod

runpod.api_key = os.environ["RUNPOD_API_KEY"]
_, endpoint, function, argument = sys.argv
pickled = base64.b64encode(cloudpickle.dumps(json.loads(argument))).decode()
request = {"function_name": function, "execution_type": "function", "args": [pickled], "kwargs": {}}
answer = runpod.Endpoint(endpoint).run_sync({"input": request})
assert answer["success"], answer
print(json.dumps(cloudpickle.loads(base64.b64decode(answer["result"]))))
"""
SCRIPT = """
import asyncio, json, sys
from peers import double

print(json.dumps(asyncio.run(double(int(sys.argv[1])))))
"""
REQUEST = """
import os, sys
import httpx

_, url, body = sys.argv
headers = {"Authorization": "Bearer " + os.environ["RUNPOD_API_KEY"], "Content-Type": "application/json"}
answer = httpx.request("POST" if body else "GET", url, content=body or None, headers=headers, timeout=60)
answer.raise_for_status()
print(answer.text)
"""


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[Path, Path]]:
    """The interpreter of an environment with the official SDK, and a project that it has built."""
    folder = Path(tempfile.mkdtemp(prefix="ff-"))
    python = make_environment(folder / "environment", FLASH)
    project = folder / "shop"
    project.mkdir()
    for name, text in FILES.items():
        (project / name).write_text(text)
    (project / "requirements.txt").write_text("")
    build(python, project)
    yield python, project
    shutil.rmtree(folder, ignore_errors=True)


def build(python: Path, project: Path) -> None:
    """Run the official build: it asks nobody for anything, with these requirements."""
    started = {"api_key": "none", "runpod": {}}
    done = run_program([python.parent / "flash", "build", "--no-deps"], project, started)
    assert done.returncode == 0, (done.stdout, done.stderr)


class Shop:
    """A project, and who deploys it with the official tool."""

    def __init__(self, world: World, python: Path, project: Path, folder: Path) -> None:
        self.project = folder / "shop"
        shutil.copytree(project, self.project)
        self.python = python
        self._world = world
        self._started = json.loads(world.flash("engine", "start", "--json").stdout)
        self.url: str = self._started["runpod"]["RUNPOD_API_BASE_URL"]
        self.variables: dict[str, str] = {}

    def run(self, *command: str | Path) -> subprocess.CompletedProcess:
        return run_program(command, self.project, self._started, COLUMNS="200", **self.variables)

    def flash(self, *arguments: str) -> str:
        """Run the official tool; return what it prints."""
        done = self.run(self.python.parent / "flash", *arguments)
        assert done.returncode == 0, (arguments, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """Run the official tool, which is to fail; return what it prints."""
        done = self.run(self.python.parent / "flash", *arguments)
        assert done.returncode != 0, (arguments, done.stdout)
        return " ".join((done.stdout + done.stderr).split())

    def answered(self, program: str, *arguments: str) -> object:
        """Run a program in the official environment; return the JSON that it prints."""
        done = self.run(self.python, "-c", program, *arguments)
        assert done.returncode == 0, (done.stdout, done.stderr[-3000:])
        return json.loads(done.stdout)

    def endpoints(self) -> dict[str, str]:
        """Return the engine's endpoints: name to id."""
        return {each["name"]: each["id"] for each in asyncio.run(self._world.call("endpoints"))}

    def typed(self, answers: str, *arguments: str) -> str:
        """Run the official tool at a terminal, and type when it asks; return what it shows."""
        ours, theirs = pty.openpty()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.project),
            "TERM": "xterm",
            "RUNPOD_API_KEY": self._started["api_key"],
            **self._started["runpod"],
        }
        process = subprocess.Popen(
            [self.python.parent / "flash", *arguments],
            env=environment,
            cwd=self.project,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
            shown += piece
            if answers and b"Are you sure" in shown:
                os.write(ours, answers.encode())
                answers = ""
        os.close(ours)
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
        assert process.wait(timeout=60) == 0, text
        return text


@pytest.fixture
def shop(world, built, tmp_path) -> Iterator[Shop]:
    opened = Shop(world, *built, tmp_path)
    with endpoint_hosts(opened.url, tmp_path) as opened.variables:
        yield opened


@pytest.mark.timeout(240)
def test_apps_and_environments_by_its_commands(shop):
    assert "No Flash apps found" in shop.flash("app", "list")
    assert "App not found: 'none'" in shop.refused("app", "get", "none")
    assert "created successfully" in shop.flash("app", "create", "shop")
    assert "'production' created successfully" in shop.flash("deploy", "new", "production")
    assert "an environment 'production' already" in shop.refused("deploy", "new", "production")
    assert re.search(r"production .* env-", shop.flash("deploy", "list"))
    assert "State: PENDING" in shop.flash("deploy", "info", "production")
    assert "'staging' not found in app 'shop'" in shop.refused("deploy", "info", "staging")
    assert "'staging' not found in app 'shop'" in shop.refused("deploy", "send", "staging")
    assert "production" in shop.flash("app", "get", "shop")
    assert "deleted successfully" in shop.flash("app", "delete", "-a", "shop")
    assert "No Flash apps found" in shop.flash("app", "list")


@pytest.mark.timeout(240)
def test_a_project_is_deployed_called_and_taken_down(shop):
    shop.flash("deploy", "new", "production")
    sent = shop.flash("deploy", "send", "production")
    assert "Deployed to 'production' successfully" in sent
    assert "MOTHERSHIP: mothership" in sent
    ids = shop.endpoints()
    assert sorted(ids) == ["front-fb", "mothership-fb", "worker-fb"]
    info = shop.flash("deploy", "info", "production")
    assert "Active Build: build-" in info
    for name, endpoint_id in ids.items():
        assert re.search(rf"{name} .* {endpoint_id}", info)

    queue = ids["worker-fb"]
    assert shop.answered(CALL, queue, "double", "21") == {"double": 42, "on": "worker"}
    assert shop.answered(CALL, queue, "triple", "2") == 6
    domain = shop.url.removeprefix("http://")
    price = shop.answered(REQUEST, f"https://{ids['front-fb']}.{domain}/price", '{"item": "x", "count": 3}')
    assert price == {"item": "x", "price": 30}
    host = f"https://{ids['mothership-fb']}.{domain}"
    assert shop.answered(REQUEST, f"{host}/", "") == {"shop": "open"}
    called = shop.answered(REQUEST, f"{host}/double", '{"x": 4}')
    assert called == {"status": "COMPLETED", "output": {"double": 8, "on": "worker"}}

    assert f"worker-fb ({queue})" in shop.refused("app", "delete", "-a", "shop")
    shop.flash("undeploy", "worker-fb", "--force")
    assert sorted(shop.endpoints()) == ["front-fb", "mothership-fb"]
    shop.flash("undeploy", "--all", "--force")
    assert shop.endpoints() == {}
    assert "deleted successfully" in shop.flash("app", "delete", "-a", "shop")


@pytest.mark.timeout(240)
def test_a_project_is_deployed_again_and_its_environment_deleted(shop):
    shop.flash("deploy", "new", "production")
    shop.flash("deploy", "send", "production")
    ids = shop.endpoints()
    assert shop.answered(CALL, ids["worker-fb"], "triple", "2") == 6
    worker = shop.project / "worker.py"
    worker.write_text(worker.read_text().replace("3 * x", "[x, x, x]"))
    build(shop.python, shop.project)
    shop.flash("deploy", "send", "production")
    assert shop.endpoints() == ids
    assert shop.answered(CALL, ids["worker-fb"], "triple", "2") == [2, 2, 2]
    assert shop.flash("app", "list").count("build-") == 2
    deleted = shop.typed("y", "deploy", "delete", "production")
    assert "Undeployed 3 resource(s) for 'production'" in deleted
    assert "Environment 'production' deleted successfully" in deleted
    assert shop.endpoints() == {}
    assert "No environments found" in shop.flash("deploy", "list")


@pytest.mark.timeout(240)
def test_it_deploys_what_we_have_built(shop):
    """Manifest, handlers and archive of ours, in the places where it looks for its own."""
    project = scan(shop.project, FILES)
    manifest = to_text(
        manifest_of(project, python_version=f"{sys.version_info.major}.{sys.version_info.minor}")
    )
    ours = {**files_of(project), "flash_manifest.json": manifest}
    folder = shop.project.parent / "ours"
    entries = [Entry(name, shop.project / name) for name in FILES]
    for name, content in ours.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        entries.append(Entry(name, folder / name))
    for _ in pack(entries, shop.project / ".flash" / "artifact.tar.gz"):
        pass
    (shop.project / ".flash" / "flash_manifest.json").write_bytes(manifest)

    shop.flash("deploy", "new", "production")
    assert "Deployed to 'production' successfully" in shop.flash("deploy", "send", "production")
    ids = shop.endpoints()
    assert sorted(ids) == ["front-fb", "mothership-fb", "worker-fb"]
    assert shop.answered(CALL, ids["worker-fb"], "double", "21") == {"double": 42, "on": "worker"}
    host = f"https://{ids['mothership-fb']}.{shop.url.removeprefix('http://')}"
    called = shop.answered(REQUEST, f"{host}/double", '{"x": 4}')
    assert called == {"status": "COMPLETED", "output": {"double": 8, "on": "worker"}}


@pytest.fixture
def newest(world, tmp_path) -> Iterator[Shop]:
    folder = Path(tempfile.mkdtemp(prefix="ff-"))
    python = make_environment(folder / "environment", NEWEST)
    project = folder / "shop"
    project.mkdir()
    (project / "peers.py").write_text(PEERS)
    (project / "requirements.txt").write_text("")
    opened = Shop(world, python, project, tmp_path)
    with endpoint_hosts(opened.url, tmp_path) as hosts:
        opened.variables = {**hosts, **NEWEST_VARIABLES}
        yield opened
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(240)
def test_the_newest_deploys_in_one_command(newest):
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = ("deploy", "--no-deps", "--python-version", version)
    assert "deployed to production" in newest.flash(*command)
    ids = newest.endpoints()
    assert sorted(ids) == ["front", "worker"]
    host = f"https://{ids['front']}.{newest.url.removeprefix('http://')}"
    assert newest.answered(REQUEST, f"{host}/double", '{"x": 4}') == {"output": 8}
    url = f"{newest.url}/v2/{ids['worker']}/runsync"
    assert newest.answered(REQUEST, url, '{"input": {"x": 5}}')["output"] == 10
    assert newest.answered(SCRIPT, "6") == 12
    peers = newest.project / "peers.py"
    peers.write_text(peers.read_text().replace("2 * x", "[x, x]"))
    assert "deployed to production" in newest.flash(*command)
    assert newest.endpoints() == ids
    assert newest.answered(REQUEST, f"{host}/double", '{"x": 4}') == {"output": [4, 4]}
