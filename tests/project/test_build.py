"""A build, with the real uv and wheels of the test: what it makes, and what it leaves."""

from __future__ import annotations

import json
import os
import tarfile
import threading
from pathlib import Path

import pytest
from wheelhouse import wheel, write

from flash_nb.errors import ProjectError
from flash_nb.project.builder import BuildOptions, build
from flash_nb.project.builder.step import run
from flash_nb.project.declared import TroubleError
from flash_nb.unpack import unpack

WORKER = """\
from runpod_flash import remote, LiveServerless, GpuGroup

gpu = LiveServerless(name="gpu_worker", gpus=[GpuGroup.AMPERE_80])


@remote(gpu, dependencies=["tool>=1"])
async def look(x):
    import tool

    return tool.VERSION
"""
MAIN = "from fastapi import FastAPI\n\napp = FastAPI()\n\n@app.get('/')\ndef root():\n    return {}\n"
PROJECT = {
    "workers/gpu.py": WORKER,
    "workers/__init__.py": "",
    "main.py": MAIN,
    "requirements.txt": "runpod-flash\nother\n",
    ".env": "SECRET=1\n",
    "prompts/hello.txt": "hello",
}


@pytest.fixture
def project(tmp_path: Path, wheels: Path) -> Path:
    wheel(wheels, "tool", needs=["deep"], programs=["tool"])
    wheel(wheels, "deep")
    wheel(wheels, "other")
    return write(tmp_path / "demo", PROJECT)


def names(archive: Path) -> set[str]:
    with tarfile.open(archive) as tar:
        return set(tar.getnames())


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_a_build_makes(project):
    steps = []
    built = run(build(project), steps.append)
    assert built.archive == project / ".flash" / "artifact.tar.gz"
    assert built.size == built.archive.stat().st_size
    found = names(built.archive)
    assert found > {
        "main.py",
        "workers/gpu.py",
        "workers/__init__.py",
        "prompts/hello.txt",
        "requirements.txt",
        "flash_manifest.json",
        "handler_gpu_worker.py",
        "handler_mothership.py",
        "flash_runtime/factory.py",
        "flash_nb/__init__.py",
        "runpod_flash/__init__.py",
        "tool/__init__.py",
        "deep/__init__.py",
        "other/__init__.py",
        "cloudpickle/__init__.py",
        "fastapi/__init__.py",
    }
    assert not {
        name for name in found if name.startswith((".env", ".flash", "bin/")) or name.endswith(".pyc")
    }
    manifest = json.loads((project / ".flash" / "flash_manifest.json").read_text())
    assert manifest["resources"]["gpu_worker"]["functions"][0]["name"] == "look"
    assert len(manifest["source_fingerprint"]) == 64
    assert manifest == built.manifest
    link = project / ".flash" / "archive.tar.gz"
    assert link.readlink() == Path("artifact.tar.gz")
    assert not (project / ".flash" / ".build").exists()
    assert {name for name in built.packages if name} == set(built.versions)
    assert sum(built.packages.values()) == pytest.approx(built.size, rel=0.02)
    assert [note for note in built.notes if "runpod-flash (requirements.txt:1) is left out" in note]
    assert not [note for note in built.notes if "is made by" in note]
    order = list(dict.fromkeys(step.name for step in steps))
    assert order == ["sources", "scan", "install", "check", "archive"]
    assert steps[-1].done == steps[-1].total > 0


def test_an_application_that_a_function_makes_is_noted(project):
    (project / "main.py").write_text(
        "from fastapi import FastAPI\n\ndef create_app():\n    return FastAPI()\n\napp = create_app()\n"
    )
    built = run(build(project))
    [note] = [note for note in built.notes if "is made by" in note]
    assert note.startswith("main.py:6: app is made by create_app() (main.py:3), ")
    assert note.endswith(
        "Write app = FastAPI() in main.py, and add the routes to it there: app.include_router(…)"
    )
    assert "handler_mothership.py" not in names(built.archive)


def test_the_same_inputs_give_the_same_bytes(tmp_path, project):
    first = run(build(project)).archive.read_bytes()
    again = run(build(project)).archive.read_bytes()
    other = write(tmp_path / "elsewhere" / "demo", dict(reversed(PROJECT.items())))
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
    os.umask(os.umask(0o077))
    assert again == first
    assert run(build(other)).archive.read_bytes() == first
    (other / "prompts" / "hello.txt").write_text("hullo")
    assert run(build(other)).archive.read_bytes() != first


def test_an_unpacked_artifact_is_what_was_packed(project, tmp_path):
    built = run(build(project, BuildOptions(keep_build=True)))
    unpack(built.archive, tmp_path / "out")
    kept = project / ".flash" / ".build"
    assert contents(tmp_path / "out") == contents(kept)
    (kept / "tool" / "__init__.py").write_text("broken while somebody looked into it")
    assert run(build(project)).archive.exists()
    assert not kept.exists()
    out = tmp_path / "again"
    unpack(built.archive, out)
    assert (out / "tool" / "__init__.py").read_text() == "VERSION = '1.0'\n"


def test_a_name_of_ones_own(project):
    built = run(build(project, BuildOptions(output="production")))
    assert built.archive.name == "production.tar.gz"
    assert (project / ".flash" / "archive.tar.gz").readlink() == Path("production.tar.gz")


@pytest.mark.parametrize("name", ["../out", "a/b.tar.gz", "", ".."])
def test_a_name_that_is_a_path_is_refused(name):
    with pytest.raises(ProjectError, match="no name for an artifact"):
        BuildOptions(output=name)


def test_an_unknown_python_is_refused():
    assert BuildOptions(python="3.12.4").python == "3.12"
    with pytest.raises(ProjectError, match=r"Python '3\.21'.*did you mean '3\.1"):
        BuildOptions(python="3.21")


def test_a_build_that_fails_leaves_the_artifact_as_it_was(project):
    built = run(build(project))
    before = {path.name: path.read_bytes() for path in (project / ".flash").iterdir()}
    (project / "requirements.txt").write_text("not-on-any-index\n")
    with pytest.raises(TroubleError):
        run(build(project))
    assert {path.name: path.read_bytes() for path in (project / ".flash").iterdir()} == before
    assert built.archive.exists()


def test_a_build_that_is_given_up_leaves_the_artifact_as_it_was(project):
    run(build(project))
    before = {path.name: path.read_bytes() for path in (project / ".flash").iterdir()}
    (project / "main.py").write_text(MAIN + "# changed\n")
    steps = build(project)
    for step in steps:
        if step.name == "archive":
            steps.close()
    assert {path.name: path.read_bytes() for path in (project / ".flash").iterdir()} == before
    run(build(project))  # nothing is locked


def test_two_builds_at_once_are_refused(project):
    steps = build(project)
    while next(steps).name != "install":
        pass
    said = []

    def second():
        try:
            run(build(project))
        except ProjectError as error:
            said.append(str(error))

    thread = threading.Thread(target=second)
    thread.start()
    thread.join()
    assert "Another build" in said[0]
    run(steps)


def test_exclude_leaves_packages_out_wherever_they_are_asked_for(project):
    built = run(build(project, BuildOptions(exclude=("Deep", "other"))))
    assert set(built.versions) == {"cloudpickle", "fastapi", "tool", "uvicorn"}


def test_exclude_of_what_nothing_asks_for_is_said(project):
    built = run(build(project, BuildOptions(exclude=("torchaudio",))))
    assert "--exclude torchaudio: nothing asks for it" in built.notes
    with pytest.raises(TroubleError, match="did you mean 'other'"):
        run(build(project, BuildOptions(exclude=("othre",))))


def test_no_deps(project):
    assert "deep" not in run(build(project, BuildOptions(with_needs=False))).versions


def test_the_projects_own_module_hides_a_package(project):
    write(project, {"other/__init__.py": "MINE = True\n"})
    built = run(build(project))
    assert "The project's own 'other' hides that of the package other" in built.notes
    with tarfile.open(built.archive) as tar:
        assert tar.extractfile("other/__init__.py").read() == b"MINE = True\n"


def test_packages_of_the_image_are_packed_and_that_is_said(project, wheels):
    wheel(wheels, "torch", files={"torch/__init__.py": os.urandom(300_000)})
    (project / "requirements.txt").write_text("torch\n")
    built = run(build(project))
    assert "torch" in built.versions
    [note] = [note for note in built.notes if "--exclude torch saves" in note]
    assert built.packages["torch"] == pytest.approx(300_000, rel=0.1)
    assert "mothership" in note


def test_a_file_that_the_build_writes_itself_is_refused(project):
    write(project, {"handler_gpu_worker.py": ""})
    with pytest.raises(TroubleError, match=r"handler_gpu_worker\.py:1: This name is taken"):
        run(build(project))


def test_a_file_that_cannot_be_written_is_named(project):
    (project / ".flash").write_text("in the way")
    with pytest.raises(ProjectError, match=r"cannot go on: .*\.flash"):
        run(build(project))


def test_there_is_no_folder(tmp_path):
    with pytest.raises(ProjectError, match="There is no folder"):
        run(build(tmp_path / "nowhere"))
