"""``flash demo``: the quickstart and every other notebook run, and a failing one says so."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="fd-") as home:  # short: the engine's socket lies in it
        environment = {**os.environ, "FLASH_HOME": home}
        yield environment
        flash(environment, "engine", "stop")


def flash(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flash_nb", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


OTHERS = [path for path in NOTEBOOKS if path.stem != "quickstart"]


def test_the_quickstart_is_the_default(environment: dict[str, str]) -> None:
    done = flash(environment, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "back in process" in done.stdout
    assert "[25, 168, 1229, 9592, 78498]" in done.stdout
    assert "[11, 13, 16]" in done.stdout


SHOWN = {
    "pipelines": (
        "{'slope': 2.0, 'intercept': 1.0, 'rows': 20}",
        "1 of 50 items of count_primes() failed",
        "([4, 4, 5, 5, 6, 6, 6, 6, 7, 7], 50)",
        "{'epoch': 2, 'loss': 0.1353}",
        "{'model': 'line', 'call': 2, 'y': 9.0}",
        "({'result': 3}, {'status': 'ok'})",
        '{"result":42}',
        "answered 422: body.x",
    ),
    "export_and_build": (
        "({'cat': 0.67, 'dog': 0.33}, {'words': 3})",
        "4 functions in 3 modules; 9 files written",
        "no differences",
        "✓ built",
        "{'counted': [['cat', 2], ['dog', 1]], 'scores': {'cat': 0.67, 'dog': 0.33}}",
        "('COMPLETED', [['cat', 2], ['dog', 1]], {'words': 3})",
        "The preview is over.",
    ),
    "picker_and_jobs": (
        "trainer is this notebook's default",
        "no errors in 3 cells",
        "<pending losses: job ",
        "0.08333333333333333",
        "was cancelled.",
        "reused from ",
        "[0, 1, 4, 9, 16, 25, 36, 49]",
        "stop: %flash down trainer",
        "✓ Every cell ran",
    ),
}


@pytest.mark.parametrize("notebook", OTHERS, ids=lambda path: path.stem)
def test_every_other_notebook_runs(notebook: Path, environment: dict[str, str]) -> None:
    done = flash(environment, "demo", str(notebook))
    assert done.returncode == 0, done.stdout + done.stderr
    for text in SHOWN[notebook.stem]:
        assert text in done.stdout


def test_a_failing_cell_ends_it_with_its_traceback(environment: dict[str, str], tmp_path: Path) -> None:
    cells = ["%load_ext flash_nb", "%%flash_remote\n1 / 0", "print('went on')"]
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(document, tmp_path / "wrong.ipynb")
    done = flash(environment, "demo", str(tmp_path / "wrong.ipynb"))
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stdout
    assert "went on" not in done.stdout.partition("ZeroDivisionError")[2]


def test_a_missing_notebook_is_named(environment: dict[str, str]) -> None:
    done = flash(environment, "demo", "nowhere.ipynb")
    assert done.returncode == 1
    assert "nowhere.ipynb" in done.stderr
