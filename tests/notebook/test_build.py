"""``%flash build`` in a real kernel: one record, which shows the steps and then the endpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kernels import Kernel
from wheelhouse import settings, wheel, write

WORKER = """\
from flash_nb import CpuLiveServerless, remote

cpu = CpuLiveServerless(name="cpu_worker")


@remote(cpu, dependencies=["tool"])
async def double(x):
    import tool

    return {"twice": 2 * x, "tool": tool.VERSION}
"""


@pytest.fixture
def project(kernel: Kernel, tmp_path: Path) -> Path:
    """Give a project, and a kernel that installs from wheels of the test."""
    for name in ("cloudpickle", "tool"):
        wheel(tmp_path / "wheels", name, "9.0")
    variables = settings(tmp_path / "wheels", tmp_path / "cache")
    kernel.run(f"import os\nos.environ.update({variables!r})").ok()
    return write(tmp_path / "demo", {"workers.py": WORKER, "requirements.txt": "runpod-flash\n"})


def test_the_record_shows_steps_and_then_what_was_built(kernel: Kernel, project: Path) -> None:
    reply = kernel.run(f"%flash build {project}").ok()
    [shown] = reply.displays
    html, text = shown.data["text/html"], shown.text
    assert text.startswith("✓ built · .flash/artifact.tar.gz: ")
    for cell in ("endpoint", "cpu_worker", "queue", "double", "runpod-flash (requirements.txt:1)"):
        assert cell in text
        assert cell in html
    assert "tool 9.0 (" in html
    assert "<script" not in html
    assert (project / ".flash" / "artifact.tar.gz").exists()
    assert shown.updates > 2
    assert reply.stdout == ""


def test_a_build_that_fails_says_where_and_its_record_how_far_it_came(kernel: Kernel, project: Path) -> None:
    write(project, {"workers.py": WORKER.replace('["tool"]', '["tool>99"]')})
    reply = kernel.run(f"%flash build {project}")
    assert reply.ename == "TroubleError"
    assert "workers.py:7: " in reply.evalue
    assert "File " not in reply.traceback
    text = reply.displays[0].text
    assert text.startswith("✗ not built · ")
    assert "Finding functions: 1 function on 1 endpoint" in text


def test_as_json(kernel: Kernel, project: Path) -> None:
    reply = kernel.run(f"%flash build {project} --json").ok()
    assert json.loads(reply.stdout)["files"] > 10
    assert reply.displays == []


def test_what_is_refused_before_anything_is_done(kernel: Kernel, project: Path) -> None:
    reply = kernel.run(f"%flash build {project} --exlude torch")
    assert "did you mean '--exclude'" in reply.evalue
    assert not (project / ".flash").exists()
