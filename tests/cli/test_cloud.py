"""``flash login``, ``endpoints`` and ``down``, through ``python -m flash_nb``; the engine plays Runpod."""

from __future__ import annotations

import json
import os
import pty
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def world():
    """A user's home, an engine, and what points to it as Runpod."""
    folder = Path(tempfile.mkdtemp(prefix="fe-"))
    environment = {
        **os.environ,
        "HOME": str(folder),
        "FLASH_HOME": str(folder / "flash"),
        "FLASH_CACHE": str(folder / "cache"),
        "FLASH_BACKEND": "auto",
    }
    started = json.loads(run(environment, "engine", "start", "--json").stdout)
    environment |= started["runpod"]
    yield folder, environment, started["api_key"]
    run(environment, "engine", "stop")
    shutil.rmtree(folder)


def run(environment: dict, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "flash_nb", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
    )


def login(environment: dict, key: str) -> tuple[int, str]:
    """Type a key at a terminal; return the status and all that the terminal shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flash_nb", "login"],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        cwd="/",
    )
    os.close(theirs)
    shown = b""
    typed = False
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other side is closed
            break
        shown += piece
        if not piece:
            break
        if not typed and b"API key:" in shown:
            os.write(ours, f"{key}\n".encode())
            typed = True
    os.close(ours)
    return process.wait(timeout=60), shown.decode()


def test_login_stores_a_key_that_works_without_showing_it(world):
    folder, environment, key = world
    status, shown = login(environment, key)
    assert status == 0, shown
    file = folder / ".runpod" / "config.toml"
    assert f"Stored in {file}." in shown
    assert key not in shown
    assert file.read_text() == f'[default]\napi_key = "{key}"\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run(environment, "endpoints").stdout == "There are no endpoints (runpod).\n"
    _, shown = login({**environment, "RUNPOD_API_KEY": "rpa_other"}, key)
    assert "is used instead of it: unset RUNPOD_API_KEY" in shown


def test_login_refuses_a_key_that_runpod_refuses(world):
    folder, environment, _ = world
    status, shown = login(environment, "rpa_WRONG")
    assert status == 1
    assert "Runpod refuses the API key from what you typed." in shown
    assert "rpa_WRONG" not in shown
    assert not (folder / ".runpod").exists()


def test_the_setting_says_where_and_a_key_is_needed_there(world):
    _, environment, key = world
    assert run(environment, "endpoints").stdout == "There are no endpoints (local).\n"
    done = run(environment, "endpoints", "--backend", "runpod")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "Error: Runpod needs an API key, and there is none.\nStore one: flash login."
    )
    keyed = {**environment, "RUNPOD_API_KEY": key}
    assert run(keyed, "endpoints").stdout == "There are no endpoints (runpod).\n"
    assert run(keyed, "endpoints", "--json").stdout == "[]\n"
    assert run(keyed, "down", "--all").stdout == "There is nothing to delete (runpod).\n"
    bad = run({**environment, "RUNPOD_API_KEY": "rpa_WRONG"}, "endpoints")
    assert bad.stderr.startswith("Error: Runpod refuses the API key from the environment (RUNPOD_API_KEY).")
    assert "rpa_" not in bad.stderr


def test_down_says_what_to_name(world):
    _, environment, _ = world
    assert "Say which endpoints: flash down NAME" in run(environment, "down").stderr
    assert "There is no endpoint 'x'." in run(environment, "down", "x").stderr
