"""``flash check``: a notebook's file in, findings and a status out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def flash_check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flash_nb", "check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(path: Path, *sources: str, **metadata: object) -> Path:
    made = nbformat.v4.new_notebook(metadata=metadata)
    made.cells = [nbformat.v4.new_markdown_cell("# Title")]
    made.cells += [nbformat.v4.new_code_cell(source, id=f"id-{n}") for n, source in enumerate(sources)]
    nbformat.write(made, path)
    return path


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_our_notebooks_are_clean(notebook: Path) -> None:
    done = flash_check(notebook)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no errors" in done.stdout


def test_a_bad_notebook(tmp_path: Path) -> None:
    path = write(
        tmp_path / "bad.ipynb",
        "x = 1",
        "%%flash_remote --gup ADA_24\ny = x",
        "open('ran', 'w')\nprint(nowhere)",
        "%%flash_remote\nimport no_such\nz = x",
    )
    done = flash_check(path)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "cell 3  id-1",
        "  ✗ error    line 1   no such option: --gup; did you mean '--gpu'?",
        "                      → see %%flash_remote?",
        "cell 5  id-3",
        "  ⚠ warning  line 2   no_such is not installed here: the newest no-such of PyPI is taken",
        "                      → name the version that you mean: --deps 'no-such==…'",
        "✗ bad.ipynb: 1 error and 1 warning in 4 cells",
    ]
    assert not Path("ran").exists()


def test_warnings_alone_are_no_failure(tmp_path: Path) -> None:
    path = write(tmp_path / "warned.ipynb", "%%flash_remote\nimport no_such")
    done = flash_check(path)
    assert done.returncode == 0
    assert "✓ warned.ipynb: 1 warning in 1 cell" in done.stdout


def test_json(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.ipynb", "x = 1", "later\nnowhere", "later = 2")
    done = flash_check(path, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "notebook": "bad.ipynb",
        "cells": 3,
        "errors": 2,
        "warnings": 0,
        "findings": [
            {
                "cell": 3,
                "id": "id-1",
                "line": 1,
                "severity": "error",
                "code": "below",
                "message": "later is only defined in cell 4, below this one",
                "fix": "move that cell up",
            },
            {
                "cell": 3,
                "id": "id-1",
                "line": 2,
                "severity": "error",
                "code": "undefined",
                "message": "nowhere is not defined",
                "fix": "define it in the notebook or in this cell",
            },
        ],
    }


def test_an_old_notebook(tmp_path: Path) -> None:
    cell = {"cell_type": "code", "language": "python", "input": ["nowhere"], "outputs": []}
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": [cell]}]}
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps(old))
    done = flash_check(path)
    assert "nowhere is not defined" in done.stdout, done.stderr


FOREIGN = {
    "no JSON": ("# a script\n", "is not a notebook: Expecting value"),
    "cut off": ('{"cells": [', "is not a notebook: Expecting value"),
    "a list": ("[1]", "is not a notebook: it has not the form of one."),
    "something else": ('{"nbformat": 4}', "is not a notebook: it has not the form of one."),
    "cells of numbers": ('{"nbformat": 4, "metadata": {}, "cells": [1]}', "it has not the form of one."),
    "bytes": (b"\xff\xfe\x00", "is not a notebook: "),
    "another language": (
        '{"nbformat": 4, "metadata": {"kernelspec": {"language": "R"}}, "cells": []}',
        "is a notebook in R: only Python can be checked.",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files(name: str, tmp_path: Path) -> None:
    content, says = FOREIGN[name]
    path = tmp_path / "odd.ipynb"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = flash_check(path)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_no_file(tmp_path: Path) -> None:
    done = flash_check(tmp_path / "none.ipynb")
    assert done.returncode == 1
    assert "There is no notebook" in done.stderr
