"""The files that a build adds to an artifact."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import flash_nb
from flash_nb import resources
from flash_nb.project.declared import Function, Group, Mothership, Place, Project, TroubleError
from flash_nb.project.handlers import files_of, handler_file, requirements_of
from flash_nb.protocol.artifact import SHARED


def project(*names: str, kind=resources.CpuLiveServerless, mothership: bool = False) -> Project:
    route = {"method": "POST", "path": "/p"} if "LoadBalancer" in kind.__name__ else {}
    groups = []
    for name in names:
        function = Function(
            f"f_{len(groups)}", "jobs", Place("jobs.py", 3), "function", is_async=True, **route
        )
        groups.append(Group(kind(name=name), "config", Place("jobs.py", 1), (function,)))
    app = Mothership("main.py", "app", resources.CpuLiveLoadBalancer(name="mothership"))
    return Project("p", Path("p"), tuple(groups), app if mothership else None)


def test_each_resource_has_a_file_that_names_it_and_says_what_it_serves():
    found = files_of(project("gpu_worker", "cpu-worker", mothership=True))
    text = found["handler_gpu_worker.py"].decode()
    assert "queue_handler('gpu_worker')" in text
    assert "f_0" in ast.get_docstring(ast.parse(text))
    assert {name for name in found if name.startswith("handler_")} == {
        "handler_gpu_worker.py",
        "handler_cpu-worker.py",
        "handler_mothership.py",
    }
    assert "application('mothership')" in found["handler_mothership.py"].decode()


def test_a_load_balanced_resource_serves_an_application():
    found = files_of(project("api", kind=resources.LiveLoadBalancer))
    assert "app = application('api')" in found["handler_api.py"].decode()


@pytest.mark.parametrize(
    ("key", "file"),
    [("a b.c", "handler_a_b_c.py"), ("q-gpu", "handler_q-gpu.py"), ("1", "handler_1.py")],
)
def test_any_name_has_a_file(key, file):
    assert handler_file(key) == file
    ast.parse(files_of(project(key))[file])


def test_resources_that_one_file_would_start_are_refused():
    with pytest.raises(TroubleError, match=r"jobs\.py:1: the resources 'a b' and 'a_b' would both") as raised:
        files_of(project("a b", "a_b"))
    assert "rename one" in raised.value.troubles[0].fix
    with pytest.raises(TroubleError, match="'Worker' and 'worker'"):
        files_of(project("Worker", "worker"))


def test_everything_is_python_of_the_oldest_version_and_the_same_each_time():
    found = files_of(project("worker", mothership=True))
    assert found == files_of(project("worker", mothership=True))
    for name, content in found.items():
        ast.parse(content, name, feature_version=(3, 10))


def test_shared_modules_are_the_very_files():
    found = files_of(project("worker"))
    here = Path(flash_nb.__file__).parent
    for name, (package, file) in SHARED.items():
        folder = here.joinpath(*package.split(".")[1:])
        assert found[f"flash_runtime/{name}"] == (folder / file).read_bytes()


def test_the_runtime_imports_nothing_but_the_standard_library_and_what_it_asks_for():
    allowed = {"cloudpickle", "fastapi", "starlette", "uvicorn", "runpod"} | sys.stdlib_module_names
    for name, content in files_of(project("worker")).items():
        if not name.startswith("flash_runtime/"):
            continue
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.Import):
                roots = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                roots = {node.module.partition(".")[0]}
            else:
                continue
            assert roots <= allowed, name


def test_http_is_required_where_an_endpoint_serves_it():
    names = {text.partition(">")[0] for text in requirements_of(project("worker"))}
    assert names == {"cloudpickle"}
    for serving in (project("worker", mothership=True), project("api", kind=resources.CpuLiveLoadBalancer)):
        names = {text.partition(">")[0] for text in requirements_of(serving)}
        assert names == {"cloudpickle", "fastapi", "uvicorn"}
