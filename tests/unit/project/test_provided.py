"""Whether everything that is imported will be there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flash_nb.project.builder.install import Installed, Machine
from flash_nb.project.builder.provided import missing, standard_library, tops
from flash_nb.project.declared import Function, Group, Import, Place, Project
from flash_nb.resources.custom import ServerlessEndpoint
from flash_nb.resources.live import CpuLiveServerless, LiveServerless

GPU = LiveServerless(name="gpu_worker")
CPU = CpuLiveServerless(name="cpu_worker")
OWN = ServerlessEndpoint(name="own_image", imageName="me/mine:1")


def troubles(tmp_path: Path, *modules: str | Import, on=CPU, has=(), python="3.12", excluded=()) -> list[str]:
    """Return what is missing of the imports of a module with a function on a resource."""
    folder = tmp_path / "build"
    for name in has:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    place = Place("workers.py", 3)
    imports = tuple(each if isinstance(each, Import) else Import(each, place) for each in modules)
    function = Function("f", "workers", Place("workers.py", 1), "function", True)
    project = Project("p", tmp_path, (Group(on, "x", place, (function,)),), imports={"workers": imports})
    found = missing(project, Installed(folder, {}), Machine(python), excluded)
    return [str(each) for each in found]


def test_what_was_installed_or_is_pythons_own_is_there(tmp_path):
    has = (
        "numpy/__init__.py",
        "six.py",
        "fast.cpython-312-x86_64-linux-gnu.so",
        "abi.abi3.so",
        "ext/__init__.so",
    )
    modules = (
        "numpy.linalg",
        "six.moves",
        "fast",
        "abi",
        "ext",
        "os.path",
        "json",
        "flash_nb",
        "runpod_flash.client",
    )
    assert troubles(tmp_path, *modules, has=has) == []


def test_what_is_missing_is_told_with_its_line_and_the_package_that_has_it(tmp_path):
    [trouble] = troubles(tmp_path, "yaml", "yaml")
    assert trouble.startswith("workers.py:3: import of a missing module: 'yaml'")
    assert 'dependencies=["pyyaml"]' in trouble


def test_a_namespace_is_there_only_with_the_part_that_is_meant(tmp_path):
    has = ("google/cloud/storage/__init__.py",)
    assert troubles(tmp_path, "google.cloud.storage", "google.cloud.storage.blob", has=has) == []
    [trouble] = troubles(tmp_path, "google.cloud.bigquery", has=has)
    assert "google-cloud-bigquery" in trouble
    place = Place("workers.py", 9)
    assert troubles(tmp_path, Import("google.cloud", place, names=("storage",)), has=has) == []
    assert troubles(tmp_path, Import("google.cloud", place, names=("bigquery",)), has=has)


def test_a_guarded_import_may_be_missing(tmp_path):
    assert troubles(tmp_path, Import("ujson", Place("workers.py", 3), guarded=True)) == []


def test_an_excluded_package_counts_as_there(tmp_path):
    assert troubles(tmp_path, "cv2", excluded=["opencv-python-headless"]) == []


def test_images_with_a_gpu_have_torch(tmp_path):
    assert troubles(tmp_path, "torch.nn", "torchvision", on=GPU) == []
    assert len(troubles(tmp_path, "torch.nn", "torchvision", on=CPU)) == 2


def test_nothing_is_known_of_an_image_of_the_users_own(tmp_path):
    assert troubles(tmp_path, "anything", on=OWN) == []


def test_modules_that_left_the_standard_library_or_came_later(tmp_path):
    [trouble] = troubles(tmp_path, "distutils.util")
    assert "left the standard library in Python 3.12" in trouble
    [trouble] = troubles(tmp_path, "tomllib", python="3.10")
    assert "--python-version 3.11" in trouble
    assert troubles(tmp_path, "distutils.util", "tomllib", python="3.11") == []


def test_the_standard_library_of_our_python_is_what_it_says():
    ours = ".".join(map(str, sys.version_info[:2]))
    assert standard_library(ours) == sys.stdlib_module_names


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_the_standard_library_of_another_python_is_what_it_says(python):
    ask = [f"python{python}", "-c", "import sys; print(*sys.stdlib_module_names)"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip(f"no Python {python} here")
    public = {name for name in done.stdout.split() if not name.startswith("_")}
    assert {name for name in standard_library(python) if not name.startswith("_")} == public


def test_top_level_modules_of_files():
    files = ["main.py", "workers/__init__.py", "workers/gpu.py", "a/b/__init__.py", "data.txt"]
    assert tops(files) == {"main", "workers"}
