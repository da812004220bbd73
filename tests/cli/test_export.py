"""``flash export``, ``flash diff`` and ``flash check --drift``: files in, files and a status out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from flash_nb.project.manifest import manifest_of
from flash_nb.project.scan import scan
from flash_nb.project.sources import files_in

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
HEAD = 'from flash_nb import CpuLiveServerless, remote\nw = CpuLiveServerless(name="work")'


def flash(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flash_nb", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(path: Path, *sources: str) -> Path:
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell(source, id=f"id-{n}") for n, source in enumerate(sources)]
    nbformat.write(made, path)
    return path


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_our_notebooks_become_projects_that_scan(notebook: Path, tmp_path: Path) -> None:
    done = flash("export", notebook, tmp_path / "p")
    assert done.returncode == 0, done.stdout + done.stderr
    found = scan(tmp_path / "p", files_in(tmp_path / "p"))
    listed = {line.split()[2] for line in done.stdout.splitlines() if line.startswith("  cell")}
    assert {function.name for function in found.functions} == listed
    assert manifest_of(found, python_version="3.12")["resources"].keys() >= {g.key for g in found.groups}
    assert found.mothership is not None
    without = {line.split()[1] for line in done.stdout.splitlines() if "is made with arguments" in line}
    queued = {each.name for each in found.functions if not each.method}
    assert found.mothership.calls == queued - without


def test_what_stands_against_an_export_is_listed_and_nothing_is_written(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.ipynb", HEAD, "data = open('x').read()", "@remote(w)\ndef f():\n    return data"
    )
    done = flash("export", path, tmp_path / "p")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        (
            "✗ a.ipynb, cell 3 (id-2):3: f reads data, which exists only where the notebook has run "
            "(cell 2, line 1: data = open('x').read())"
        ),
        "    → pass it as an argument",
        "Nothing was written: 1 thing stands against it.",
    ]
    assert not (tmp_path / "p").exists()
    assert flash("export", path, tmp_path / "p", "--partial").returncode == 1, "nothing is left of it"


def test_diff_and_check_have_a_status(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", HEAD, "k = 1", "@remote(w)\ndef f():\n    return k")
    assert "No project of a.ipynb lies near it" in flash("diff", path).stderr
    assert flash("export", path, tmp_path / "p").returncode == 0
    for command in (("diff", path), ("diff", path, tmp_path / "p"), ("check", path, "--drift")):
        done = flash(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "no differences" in done.stdout
    write(path, HEAD, "k = 2", "@remote(w)\ndef f():\n    return k")
    done = flash("diff", path)
    assert done.returncode == 1
    assert "cell 2 (id-1) has changed since the export" in done.stdout
    assert "    -k = 1\n    +k = 2\n" in done.stdout
    assert flash("check", path, "--drift").returncode == 1
    assert flash("check", path).returncode == 0
    said = json.loads(flash("diff", path, "--json").stdout)
    assert [(each["kind"], each["cell"], each["file"], each["diff"][1:]) for each in said["drift"]] == [
        ("changed", 2, "work.py", ["-k = 1", "+k = 2"])
    ]


def test_a_target_is_one_of_two(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", HEAD, "@remote(w)\ndef f(): return 1")
    assert flash("export", path, tmp_path / "p", "--target", "runpod").returncode == 2
    assert flash("export", path, tmp_path / "p", "--target", "runpod-flash").returncode == 0
    assert "from runpod_flash import" in (tmp_path / "p" / "work.py").read_text()
