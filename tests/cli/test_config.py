"""``flash config``: what holds and why; of the key, only whether there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KEY = "rpa_SECRETSECRET"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def flash(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLASH_")}
    return subprocess.run(
        [sys.executable, "-m", "flash_nb", *arguments],
        cwd=folder,
        env={**kept, "HOME": str(folder.parent), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_setting_with_its_origin_and_its_meaning(here: Path) -> None:
    (here / "pyproject.toml").write_text("[tool.flash_nb]\nallow_apt = true\n")
    (here / ".env").write_text(f"FLASH_BACKEND=local\nRUNPOD_API_KEY={KEY}\n")
    ran = flash(here, "config", FLASH_HOME=str(here.parent / "state"))
    lines = ran.stdout.splitlines()
    assert [*map(str.split, lines[::2])] == [
        ["home", "~/state", "FLASH_HOME"],
        ["cache", "~/.cache/flash_nb", "default"],
        ["python", sys.executable, "default"],
        ["engine_idle_s", "300", "default"],
        ["transport", "unix", "default"],
        ["allow_apt", "true", "pyproject.toml"],
        ["backend", "local", "FLASH_BACKEND", "in", ".env"],
        ["down_on_exit", "false", "default"],
        ["api_key", "set", ".env"],
    ]
    assert all(line.startswith(" ") and line.strip() for line in lines[1::2])
    assert KEY[:6] not in ran.stdout


def test_as_json(here: Path) -> None:
    ran = flash(here, "config", "--json", RUNPOD_API_KEY=KEY)
    found = {line["name"]: line for line in json.loads(ran.stdout)}
    assert (found["api_key"]["value"], found["api_key"]["origin"]) == ("set", "RUNPOD_API_KEY")
    assert found["backend"]["value"] == "auto"
    assert KEY[:6] not in ran.stdout


@pytest.mark.parametrize(
    ("key", "said"),
    [("", ["api_key", "missing"]), ("two words", ["api_key", "unusable"])],
)
def test_a_key_that_is_none(here: Path, key: str, said: list[str]) -> None:
    ran = flash(here, "config", "api_key", RUNPOD_API_KEY=key)
    assert ran.stdout.split()[:2] == said
    assert "words" not in ran.stdout


def test_one_setting(here: Path) -> None:
    assert flash(here, "config", "transport").stdout.splitlines()[0].split() == [
        "transport",
        "unix",
        "default",
    ]


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (["backnd"], ["There is no setting 'backnd'; did you mean 'backend'?", "Settings are: home,"]),
        (["backnd", "local"], ["There is no setting 'backnd'; did you mean 'backend'?"]),
        (["backend", "lokal"], ["'lokal' is not one of auto, local, runpod; did you mean 'local'?"]),
        (["backend", "local"], ["keeps no settings", "FLASH_BACKEND=local", "[tool.flash_nb]"]),
    ],
)
def test_what_is_refused(here: Path, arguments: list[str], sentences: list[str]) -> None:
    ran = flash(here, "config", *arguments)
    assert ran.returncode == 1
    for sentence in sentences:
        assert sentence in ran.stderr


def test_a_variable_that_looks_like_one_of_ours_is_pointed_at(here: Path) -> None:
    ran = flash(here, "config", "backend", FLASH_BACKED="local", FLASH_HOST="0.0.0.0", FLASH_X="1")
    assert ran.stdout.splitlines()[2:] == ["FLASH_BACKED is no setting; did you mean 'FLASH_BACKEND'?"]


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["endpoint"], "endpoints"),
        (["engine", "statsu"], "status"),
        (["endpoints", "--jsn"], "--json"),
        (["engine", "status", "--jsn"], "--json"),
    ],
)
def test_a_slip_at_a_terminal_is_answered_with_what_is_near(
    here: Path, arguments: list[str], near: str
) -> None:
    ran = flash(here, *arguments)
    assert ran.returncode == 2
    assert near in ran.stderr.partition("No such")[2]
