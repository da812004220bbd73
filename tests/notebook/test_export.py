"""``%flash export`` in a real kernel: what the project computes is what the cells have computed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from kernels import Kernel

CELLS = (
    "import math\nfrom flash_nb import CpuLiveServerless, remote\nfast = CpuLiveServerless(name='fast')",
    "SCALE = 3\nxs = [5, 7]",
    "def scaled(x):\n    return math.floor(x * SCALE)",
    "@remote(fast)\ndef total(values, start=0):\n    return sum(map(scaled, values), start)",
    "%%flash_remote -r fast\nxs.append(scaled(1.5))\nsquares = [x * x for x in xs]\nsquares[-1]",
    "%flash use fast",
    "%%flash_map n in xs\nhalf = n / 2",
    "answer = (await total(xs, start=1)).unwrap()",
)

PROGRAM = """
import asyncio, json, sys
import fast, httpx
from main import app
async def main():
    called = [fast.total([5, 7, 4], start=1), fast.make_squares([5, 7]), fast.make_half(7)]
    values = [(await each).unwrap() for each in called]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here") as http:
        values.append((await http.post("/make_squares", json={"xs": [5, 7]})).json())
        values.append((await http.post("/total", json={"values": [5, 7, 4], "start": 1})).json())
        values.append((await http.post("/total", json={})).status_code)
    print(json.dumps(values))
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def notebook(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    """Run the cells, with a file that is saved."""
    path = tmp_path_factory.mktemp("saved") / "oracle.ipynb"
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(CELLS)]
    nbformat.write(made, path)
    for source in CELLS:
        kernel.run(source).ok()
    kernel.run(f"__vsc_ipynb_file__ = {str(path)!r}").ok()
    return kernel


def in_a_bare_process(project: Path) -> list:
    """Import an exported module, and run its functions on the local engine."""
    # `answer` was computed with the list as the remote cell had left it.
    environ = {name: value for name, value in os.environ.items() if name != "JPY_PARENT_PID"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=project, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_an_exported_project_computes_what_the_cells_have_computed(notebook: Kernel, tmp_path: Path) -> None:
    reply = notebook.run(f"%flash export {tmp_path / 'project'}").ok()
    (shown,) = reply.displays
    assert "make_squares" in shown.text
    assert "make_squares" in shown.data["text/html"]
    assert "3 functions in 1 module; 7 files written" in shown.text
    total, cell, item, posted_cell, posted_total, nothing = in_a_bare_process(tmp_path / "project")
    assert total == notebook.value("answer")
    assert cell == {
        "xs": notebook.value("xs"),
        "squares": notebook.value("squares"),
        "result": notebook.value("squares[-1]"),
    }
    assert item == {"half": notebook.value("half[1]")}
    assert (posted_cell, posted_total, nothing) == (cell, total, 422)


def test_a_difference_is_told_by_cell(notebook: Kernel, tmp_path: Path) -> None:
    project = tmp_path / "project"
    notebook.run(f"%flash export {project}").ok()
    assert "no differences" in notebook.run(f"%flash diff {project}").ok().stdout
    text = (project / "fast.py").read_text()
    (project / "fast.py").write_text(text.replace("SCALE = 3", "SCALE = 4"))
    said = notebook.run(f"%flash diff {project}").ok().stdout
    assert "the block oracle.ipynb#cell-1 was changed by hand" in said
    assert "-SCALE = 4" in said
    assert "+SCALE = 3" in said
    assert notebook.run(f"%flash export {project}").ename == "TroubleError"


def test_without_a_file_the_cells_so_far_are_exported(fresh: Kernel, tmp_path: Path) -> None:
    fresh.run("%load_ext flash_nb").ok()
    fresh.run("k = 2").ok()
    fresh.run("%%flash_remote --name work\ndef f(x):\n    return x + k").ok()
    fresh.run(f"%flash export {tmp_path / 'so_far'}").ok()
    assert "k = 2" in (tmp_path / "so_far" / "work.py").read_text()
    assert "no differences" in fresh.run(f"%flash diff {tmp_path / 'so_far'}").ok().stdout
    assert fresh.run("%flash export x --target runpod").evalue.endswith(
        "--target 'runpod' is not one of flash_nb, runpod-flash; did you mean 'runpod-flash'?"
    )
