"""Runpod's own clients, unmodified, against the engine: ``runpod`` and ``runpod-flash``."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from official import make_environment, run_program
from real import World
from test_rest import IMAGE

HERE = Path(__file__).parent
FLASH = ("runpod-flash==1.0.0",)


@pytest.fixture(scope="session")
def official_flash():
    """The interpreter of an environment with Runpod's Flash SDK."""
    folder = Path(tempfile.mkdtemp(prefix="ff-"))
    yield make_environment(folder / "environment", FLASH)
    shutil.rmtree(folder, ignore_errors=True)


def program(world: World, python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    started = json.loads(world.flash("engine", "start", "--json").stdout)
    return run_program([python, *arguments], folder, started)


def said(world: World, python: Path, folder: Path, *arguments: str) -> dict:
    """Return the JSON that a program prints last."""
    done = program(world, python, folder, *arguments)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def asked(world: World, python: Path, folder: Path, name: str) -> dict:
    """Let the official client do what is called so in `runpod_client`, with an endpoint of handlers."""

    async def endpoint_id() -> str:
        async with world.endpoint(**IMAGE) as endpoint:
            return endpoint.id

    script = str(HERE / "runpod_client.py")
    return said(world, python, folder, script, name, asyncio.run(endpoint_id()))


def steps(count: int) -> list:
    return [{"step": n} for n in range(count)]


def test_the_sync_client(world, official, tmp_path):
    found = asked(world, official, tmp_path, "sync")
    health = found.pop("health")
    cancelled = found.pop("cancelled")
    assert found.pop("first") in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED")
    assert found == {
        "output": {"text": "hi"},
        "chunks": steps(3),
        "all chunks": steps(3),
        "purged": {"removed": 2, "status": "completed"},
        "after purge": ["CANCELLED"] * 2,
        "after cancel": "CANCELLED",
        "output of a cancelled job": None,
        "run_sync": {"text": "again"},
        "wrapped": {"text": "once"},
        "falsy": {"input": {}},
    }
    assert cancelled["status"] == "CANCELLED"
    assert health["jobs"] == {"completed": 2, "failed": 0, "inProgress": 1, "inQueue": 2, "retried": 0}
    assert health["workers"]["running"] == 1


def test_the_asyncio_client(world, official, tmp_path):
    found = asked(world, official, tmp_path, "asynchronous")
    assert found["health"]["workers"]["initializing"] == 0
    assert found["cancelled"]["status"] == found["after cancel"] == "CANCELLED"
    assert found["output"] == {"text": "hi"}
    assert found["status"] == "COMPLETED"
    assert found["chunks"] == steps(2)
    assert found["many"] == [{"number": n} for n in range(10)]


def test_errors_as_its_clients_see_them(world, official, tmp_path):
    found = asked(world, official, tmp_path, "errors")
    assert found["failed output"] is found["failed run_sync"] is None
    assert found["failed"]["status"] == "FAILED"
    assert json.loads(found["failed"]["error"])["error_message"] == "no"
    for name, kind, word in (
        ("unknown endpoint", "HTTPError", "404"),
        ("unknown job", "HTTPError", "404"),
        ("wrong key", "RuntimeError", "401"),
        ("too large", "HTTPError", "413"),
    ):
        assert found[name][0] == kind, found[name]
        assert word in found[name][1]


def test_its_control_functions(world, official, tmp_path):
    found = asked(world, official, tmp_path, "control")
    assert found["made"]["name"] == "by-client"
    assert [each["name"] for each in found["listed"]] == ["image", "by-client"]


def test_a_flash_program_runs_as_it_is(world, official_flash, tmp_path):
    script = str(HERE / "flash_client.py")
    done = program(world, official_flash, tmp_path, script)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    assert "printed remotely" in done.stdout.splitlines()
    found = json.loads(done.stdout.splitlines()[-1])
    kind, text = found.pop("error")
    assert found == {
        "pair": "{'sum': 6, 'pair': (1, 5), 'greeting': 'hello'}",
        "plain": "TEXT",
        "numeral": "IX",
        "counts": [11, 16, 101],
    }
    assert kind == "Exception"
    assert text.startswith("Remote execution failed: nothing here\nTraceback (most recent call last):")
    (listed,) = asyncio.run(world.call("endpoints"))
    assert (listed["name"], listed["kind"]) == ("official-fb", "CpuLiveServerless")
    command = str(official_flash.parent / "flash")
    assert "official-fb" in program(world, official_flash, tmp_path, command, "undeploy", "list").stdout
    undeploy = program(world, official_flash, tmp_path, command, "undeploy", "official-fb", "--force")
    assert undeploy.returncode == 0, (undeploy.stdout, undeploy.stderr)
    assert asyncio.run(world.call("endpoints")) == []


def test_two_runs_of_a_flash_program_share_one_endpoint(world, official_flash, tmp_path):
    code = (
        "import asyncio\nfrom runpod_flash import CpuLiveServerless, remote\n"
        "@remote(CpuLiveServerless(name='shared'))\nasync def f(): return 'ran'\n"
        "print(repr(asyncio.run(f())))\n"
    )
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "program.py").write_text(code)
        done = program(world, official_flash, folder, "program.py")
        assert done.stdout.splitlines()[-1] == "'ran'", (done.stdout, done.stderr)
    assert len(asyncio.run(world.call("endpoints"))) == 1
