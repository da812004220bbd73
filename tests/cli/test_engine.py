"""``flash engine``: the commands, through ``python -m flash_nb``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pytest


@pytest.fixture
def home():
    folder = Path(tempfile.mkdtemp(prefix="fe-"))
    yield folder
    flash(folder, "stop")
    shutil.rmtree(folder)


def flash(home: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "flash_nb", "engine", *arguments],
        env={**os.environ, "FLASH_HOME": str(home), "FLASH_CACHE": str(home / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def answer(home: Path, *arguments: str) -> dict:
    done = flash(home, *arguments, "--json")
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_start_status_stop_as_json(home):
    from flash_nb.version import __version__

    started = answer(home, "start")
    assert started["running"] is True
    assert started["url"] == f"unix:{home}/engine.sock"
    assert started["version"] == __version__
    assert started["api_key"] == json.loads((home / "engine.json").read_text())["api_key"]
    assert is_alive(started["pid"])
    url = started["runpod"]["RUNPOD_API_BASE_URL"]
    assert started["runpod"] == {
        "RUNPOD_API_BASE_URL": url,
        "RUNPOD_REST_API_URL": f"{url}/rest",
        "RUNPOD_ENDPOINT_BASE_URL": f"{url}/v2",
    }
    headers = {"Authorization": f"Bearer {started['api_key']}"}
    asked = httpx.post(f"{url}/graphql", json={"query": "{myself {endpoints {id}}}"}, headers=headers)
    assert asked.json() == {"data": {"myself": {"endpoints": []}}}
    assert started["api_key"] not in flash(home, "start").stdout
    assert answer(home, "start")["pid"] == started["pid"]
    status = answer(home, "status")
    assert {key: status[key] for key in ("url", "api_key", "pid", "version")} == {
        key: started[key] for key in ("url", "api_key", "pid", "version")
    }
    assert (status["endpoints"], status["jobs"], status["workers"]) == (0, 0, {})
    assert answer(home, "stop") == {"stopped": True}
    give_up_at = time.monotonic() + 10
    while is_alive(started["pid"]) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert not is_alive(started["pid"])
    assert not (home / "engine.json").exists()
    assert not (home / "engine.sock").exists()
    assert answer(home, "stop") == {"stopped": False}
    gone = flash(home, "status", "--json")
    assert (gone.returncode, json.loads(gone.stdout)) == (1, {"running": False})


def test_start_status_stop_for_people(home):
    before = flash(home, "status")
    assert (before.returncode, before.stdout.split()) == (1, ["running", "no"])
    started = flash(home, "start")
    assert started.returncode == 0
    shown = dict(line.split(None, 1) for line in started.stdout.splitlines())
    assert shown["running"] == "yes"
    assert shown["url"].startswith("unix:")
    assert shown["workers"] == "none"
    key = json.loads((home / "engine.json").read_text())["api_key"]
    assert key not in started.stdout
    assert flash(home, "status").stdout.splitlines()[0].split() == ["running", "yes"]
    assert flash(home, "stop").stdout.split() == ["stopped", "yes"]
    assert flash(home, "stop").stdout.split() == ["stopped", "no"]


def test_logs_show_the_end_of_each_log(home):
    (home / "workers").mkdir()
    (home / "engine.log").write_text("".join(f"line {n}\n" for n in range(100)))
    (home / "workers" / "w-1.log").write_text("from a worker\n")
    assert answer(home, "logs", "-n", "2") == {
        "engine.log": ["line 98", "line 99"],
        "w-1.log": ["from a worker"],
    }
    shown = flash(home, "logs").stdout
    assert "── engine.log" in shown
    assert "line 50" in shown
    assert "line 49" not in shown
    assert "from a worker" in shown


def test_logs_of_an_engine_that_never_ran_are_empty(home):
    assert answer(home, "logs") == {}


def test_an_unknown_command_is_an_error(home):
    done = flash(home, "restart")
    assert done.returncode == 2
    assert "No such command 'restart'" in done.stderr


def test_a_setting_that_makes_no_sense_is_a_sentence_and_its_place():
    done = subprocess.run(
        [sys.executable, "-m", "flash_nb", "engine", "status"],
        env={**os.environ, "FLASH_ENGINE_IDLE_S": "soon"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: engine_idle_s = 'soon' is not a float",
        "It comes from: FLASH_ENGINE_IDLE_S",
    ]
