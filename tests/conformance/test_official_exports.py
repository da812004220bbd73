"""Runpod's own ``flash build``, 1.0.0 and 1.21.0, takes an exported project and finds all its functions."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from official import environ, make_environment

from flash_nb.cells.reading import Cell
from flash_nb.project.export.folder import export_to
from flash_nb.sdk.notebook_file import read_cells

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

EVERYTHING = (
    "import os, math\nimport flash_nb",
    """volume = flash_nb.NetworkVolume(name="models", size=50)
SIZE = 100
template = flash_nb.PodTemplate(containerDiskInGb=SIZE)
gpu = flash_nb.LiveServerless(
    name="gpu-model",
    gpus=[flash_nb.GpuGroup.AMPERE_80],
    workersMax=2,
    env={"LEVEL": "debug"},
    networkVolume=volume,
    template=template,
)
cpu = flash_nb.CpuLiveServerless(name="cpu", instanceIds=[flash_nb.CpuInstanceType.CPU5C_4_8])
api = flash_nb.LiveLoadBalancer(name="api")""",
    "OFFSET = 3\ndef shifted(x): return math.floor(x) + OFFSET",
    "@flash_nb.remote(gpu)\nasync def shift(x): return shifted(x)",
    """@flash_nb.remote(cpu)
class Counter:
    def __init__(self, start=0): self.n = start
    def add(self, x):
        self.n += shifted(x)
        return self.n""",
    """@flash_nb.remote(api, method="POST", path="/shift")
async def over_http(x: int): return {"y": shifted(x)}""",
    '@flash_nb.remote(api, method="GET", path="/health")\ndef health(): return {"ok": True}',
    "%%flash_remote --name cell-work\ntotal = shifted(OFFSET)\ntotal",
)


@pytest.fixture(scope="module", params=["1.0.0", "1.21.0"])
def builder(request):
    """The ``flash`` of an official package."""
    folder = Path(tempfile.mkdtemp(prefix="ff-"))
    python = make_environment(folder / "environment", (f"runpod-flash=={request.param}",))
    yield python.parent / "flash"
    shutil.rmtree(folder, ignore_errors=True)


def build(flash: Path, project: Path) -> dict:
    """Build a project without its packages; return the manifest."""
    (project / "requirements.txt").write_text("")
    quiet = {
        "RUNPOD_FLASH_SILENCE_DEPRECATION": "1",
        "FLASH_NO_UPDATE_CHECK": "1",
        "HOME": str(project.parent),
    }
    env = {name: value for name, value in environ().items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [flash, "build", "--no-deps"],
        cwd=project,
        env=env | quiet,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
    assert (project / ".flash" / "artifact.tar.gz").stat().st_size > 1000
    return json.loads((project / ".flash" / "flash_manifest.json").read_text())


def functions_of(manifest: dict) -> dict[str, set[str]]:
    found = {
        name: {function["name"] for function in resource["functions"]}
        for name, resource in manifest["resources"].items()
        if not resource.get("is_mothership")
    }
    return {name: functions for name, functions in found.items() if functions}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_project_with_every_kind_is_built(builder, tmp_path):
    cells = [Cell(number, source, f"c{number}") for number, source in enumerate(EVERYTHING, 1)]
    made, _ = export_to(tmp_path / "p", "all.ipynb", cells, target="runpod-flash")
    manifest = build(builder, tmp_path / "p")
    assert functions_of(manifest) == {
        "gpu_model": {"shift"},
        "cpu": {"Counter"},
        "api": {"over_http", "health"},
        "cell_work": {"make_total"},
    }
    assert manifest["routes"]["api"] == {"POST /shift": "over_http", "GET /health": "health"}
    assert manifest["resources"]["gpu_model"]["workersMax"] == 2
    assert not made.left_out


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_our_notebooks_are_built(builder, path, tmp_path):
    made, _ = export_to(tmp_path / "p", path.name, read_cells(path), target="runpod-flash")
    for name in tmp_path.glob("p/*.py"):  # the builders install what decorators name: not here
        name.write_text(re.sub(r", dependencies=\[[^]]*\]", "", name.read_text()))
    expected: dict[str, set[str]] = {}
    for function in made.functions:
        expected.setdefault(function.resource, set()).add(function.name)
    assert functions_of(build(builder, tmp_path / "p")) == expected
