"""What Runpod's own ``flash build`` finds in a project, a scan of ours finds too.

1.0.0 reads the syntax, as ours does, of plain decorators and assignments alone. 1.21.0 imports the modules,
so it sees what Python sees; it wants each resource in one file.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from official import make_environment

from flash_nb.project.manifest import manifest_of
from flash_nb.project.scan import scan
from flash_nb.project.sources import files_in

MAIN = """
from fastapi import FastAPI
app = FastAPI()
@app.get("/")
def home(): return {}
"""
PLAIN = {
    "main.py": MAIN,
    "workers/__init__.py": "",
    "workers/gpu.py": """
from runpod_flash import GpuGroup, LiveServerless, PodTemplate, remote
gpu = LiveServerless(name="gpu-work", gpus=[GpuGroup.ADA_24], workersMin=1, workersMax=2,
                     template=PodTemplate(containerDiskInGb=90))
@remote(resource_config=gpu)
async def train(x): return x
@remote(gpu)
class Model:
    def predict(self, x): return x
""",
    "workers/cpu.py": """
from runpod_flash import CpuInstanceType, CpuLiveLoadBalancer, CpuLiveServerless, remote
cpu = CpuLiveServerless(name="cpu_work", instanceIds=[CpuInstanceType.CPU5C_4_8], workersMax=7)
api = CpuLiveLoadBalancer(name="api", workersMax=4)
@remote(cpu)
def prepare(x): return x
@remote(api, method="POST", path="/items")
async def items(x: int): return {"x": x}
@remote(api, method="DELETE", path="/items/{x}")
def drop(x: int): return {"x": x}
""",
}
TRICKY = {
    "base.py": """
import runpod_flash as _flash
remote = _flash.remote
SIZES = {"small": 2, "large": 5}
TOKENS = ["a", "b"]
""",
    "training.py": """
import functools, os
from typing import TYPE_CHECKING
import runpod_flash as rf
from base import SIZES, TOKENS, remote as on
first, second = (rf.LiveServerless(name="first", workersMax=SIZES["small"], idleTimeout=60 * 2), 5)
@on(first, dependencies=["numpy"])
async def train(x): return x
if TYPE_CHECKING:
    @on(first)
    def unseen(): ...
if not os.environ.get("FLASH_SCAN_TEST_UNSET"):
    second_cpu = rf.CpuLiveServerless(name="second", env={"A": TOKENS[1]})
    on_second = functools.partial(rf.remote, second_cpu)
    @on_second()
    def tidy(x): return x
if __name__ == "__main__":
    @on(first)
    def never(): ...
""",
    "models.py": """
from base import *
from runpod_flash import *
class Settings:
    gpu = LiveServerless(name=f"model-{SIZES['large']}", workersMax=SIZES["large"] - 1)
class Base:
    def load(self): return 1
try:
    import ujson
except ImportError:
    @remote(Settings.gpu)
    class Model(Base):
        def __init__(self): self.x = 1
        async def predict(self, x): return x
        def _hidden(self): return x
        def size(self): return 1
@remote(Settings.gpu, local=True)
def here(x): return x
""",
    "web/__init__.py": "",
    "web/api.py": """
from runpod_flash import LiveLoadBalancer
from runpod_flash import remote as route
public = LiveLoadBalancer(name="public", scalerValue=9)
METHOD = "GET"
@route(public, method=METHOD, path="/" + "health")
def health(): return {"ok": 1}
async def process(x: int): return {"x": x}
process = route(public, method="POST", path="/process")(process)
""",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def our_manifest(folder: Path) -> dict:
    return manifest_of(scan(folder, files_in(folder)), python_version="3.12")


@pytest.fixture(scope="module", params=["1.0.0", "1.21.0"])
def official_build(request):
    """A version of the official package, and a function that builds a folder with it."""
    environment = Path(tempfile.mkdtemp(prefix="fb-"))
    python = make_environment(environment / "environment", (f"runpod-flash=={request.param}",))

    def build(folder: Path) -> dict:
        variables = {
            "PATH": f"{python.parent}:/usr/bin:/bin",
            "HOME": str(environment),
            "RUNPOD_API_KEY": "none",
            "RUNPOD_FLASH_SILENCE_DEPRECATION": "1",
            "FLASH_NO_UPDATE_CHECK": "1",
        }
        done = subprocess.run(
            [python.parent / "flash", "build", "--no-deps"],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
        return json.loads((folder / ".flash" / "flash_manifest.json").read_text())

    yield request.param, build
    shutil.rmtree(environment, ignore_errors=True)


def functions(manifest: dict, *, is_async: bool) -> dict[str, tuple]:
    """Return what both manifests say of functions, by their name.

    Args:
        manifest: Ours or theirs.
        is_async: Whether they say which are async. 1.21.0 says it of its own wrapper, which always is.
    """
    return {
        function["name"]: (
            resource,
            entry["resource_type"],
            function["module"],
            function["is_class"],
            function.get("http_method"),
            function.get("http_path"),
            is_async and function["is_async"],
        )
        for resource, entry in manifest["resources"].items()
        for function in entry["functions"]
    }


@pytest.mark.slow
def test_the_official_builds_find_the_same(official_build, tmp_path):
    version, build = official_build
    write(tmp_path, PLAIN if version == "1.0.0" else TRICKY)
    ours = our_manifest(tmp_path)
    theirs = build(tmp_path)
    found, theirs_found = (functions(each, is_async=version == "1.0.0") for each in (ours, theirs))
    if version == "1.21.0":
        # Both put functions into the manifest that are local=True and run on no endpoint.
        assert theirs_found.pop("here")
        assert theirs["function_registry"].pop("here")
    assert found == theirs_found
    assert ours["function_registry"] == theirs["function_registry"]
    assert ours["routes"] == theirs["routes"]
    assert list(ours["resources"]) == list(theirs["resources"])
    if version == "1.0.0":
        same = ["workersMin", "workersMax", "template", "config_variable", "main_file", "app_variable"]
        wanted = {"imageName", *same}
    else:
        assert ours["resources"]["model-5"]["functions"][0]["class_methods"] == ["predict", "size", "load"]
        # 1.21.0 has other defaults for the rest, and images by the version of Python.
        wanted = {"env", "idleTimeout", "instanceIds", "scalerType", "scalerValue", "workersMax"}
    said = {
        "first": {"workersMax", "idleTimeout"},
        "second": {"env", "instanceIds"},
        "model-5": {"workersMax"},
        "public": {"scalerType", "scalerValue"},
    }
    for name, entry in theirs["resources"].items():
        for key in wanted & said.get(name, wanted) & set(entry):
            ours_there = ours["resources"][name][key]
            if isinstance(entry[key], dict):
                ours_there = {part: ours_there.get(part) for part in entry[key] if not part.startswith("_")}
                entry[key] = {part: value for part, value in entry[key].items() if not part.startswith("_")}
            assert ours_there == entry[key], (name, key)
