"""``flash build``: a folder in, an artifact and a status out."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from wheelhouse import settings, wheel, wheel_of, write

WORKER = """\
from flash_nb import CpuLiveLoadBalancer, CpuLiveServerless, remote

cpu = CpuLiveServerless(name="cpu_worker")
web = CpuLiveLoadBalancer(name="web_worker")


@remote(cpu, dependencies=["tool"])
async def double(x):
    import tool

    return {"twice": 2 * x, "tool": tool.VERSION}


@remote(web, method="GET", path="/hello")
async def hello():
    return {}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    wheels = tmp_path / "wheels"
    for name in ("cloudpickle", "fastapi", "uvicorn", "tool"):
        wheel(wheels, name, "9.0")
    return write(tmp_path / "demo", {"workers.py": WORKER, "requirements.txt": "runpod-flash\n"})


def environment(project: Path) -> dict[str, str]:
    return {**os.environ, **settings(project.parent / "wheels", project.parent / "cache"), "COLUMNS": "120"}


def flash_build(project: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flash_nb", "build", *arguments],
        cwd=cwd or project,
        env=environment(project),
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_printed(project):
    done = flash_build(project)
    assert done.returncode == 0, done.stderr
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert lines[:4] == [
        "Reading files        2 files",
        "Finding functions    2 functions on 2 endpoints",
        "Installing packages  4 packages",
        "Checking imports     1 import",
    ]
    assert lines[4].startswith("Packing              ")
    table = "\n".join(lines[5:8])
    for cell in ("endpoint", "cpu_worker", "queue", "double", "web_worker", "HTTP", "GET /hello hello"):
        assert cell in table
    assert "runpod-flash (requirements.txt:1) is left out" in lines[8]
    assert lines[9].startswith("✓ .flash/artifact.tar.gz: ")
    assert lines[9].endswith(" MiB of 500 MiB")
    assert "flash build --preview" in lines[10]
    assert (project / ".flash" / "artifact.tar.gz").exists()


def test_at_a_terminal_there_are_bars(project):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "flash_nb", "build"]
    process = subprocess.Popen(
        command, cwd=project, env={**environment(project), "TERM": "xterm"}, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65_536):
            shown += chunk
    except OSError:  # the other end was closed
        pass
    finally:
        os.close(ours)
    assert process.wait() == 0
    assert "━" in shown.decode()
    assert "Installing packages" in shown.decode()
    assert "✓ .flash/artifact.tar.gz" in shown.decode()


def test_as_json(project):
    done = flash_build(project, "--json", "-o", "mine", "--keep-build")
    built = json.loads(done.stdout)
    archive = Path(built["archive"])
    assert archive == project.resolve() / ".flash" / "mine.tar.gz"
    assert built["size"] == archive.stat().st_size
    assert {each["name"] for each in built["packages"]} == {"cloudpickle", "fastapi", "uvicorn", "tool"}
    assert set(built["manifest"]["resources"]) == {"cpu_worker", "web_worker"}
    assert (project / ".flash" / ".build" / "handler_cpu_worker.py").exists()


def test_a_folder_by_name_and_packages_to_exclude(project):
    done = flash_build(project, "demo", "--exclude", "tool,fastapi", "--json", cwd=project.parent)
    assert done.returncode == 0, done.stderr
    assert {each["name"] for each in json.loads(done.stdout)["packages"]} == {"cloudpickle", "uvicorn"}


def test_troubles_end_with_status_1_and_say_where(project):
    (project / "broken.py").write_text("def f(:\n")
    done = flash_build(project)
    assert done.returncode == 1
    assert "broken.py:1: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--python-version", "2.7"], "--python-version takes one of 3.10"),
        (["-o", "a/b"], "no name for an artifact"),
        (["--docker"], "flash build --preview --docker"),
        (["--preview", "--docker"], "containers are not supported"),
        (["--preview", "--host", "0.0.0.0"], "cannot listen on"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_done(project, arguments, said):
    done = flash_build(project, *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (project / ".flash").exists()


MUTE_INDEX = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
asked = listening.accept()
print("asked", flush=True)
input()
"""
# A process that a test starts in the background may ignore the signal.
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from flash_nb.cli import main
main()
"""


def test_a_preview_runs_what_was_built(project):
    (project / "workers.py").write_text(WORKER.partition("@remote(web")[0])
    wheel_of(project.parent / "wheels", "cloudpickle")
    ours = ".".join(map(str, sys.version_info[:2]))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", INTERRUPTIBLE, "build", "--preview", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--python-version", ours],
        cwd=project,
        env={**environment(project), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C" in line:
                break
        url = re.search(r"http://\S+", said[-1])[0]
        request = urllib.request.Request(
            f"{url}/v2/cpu_worker/runsync",
            data=json.dumps({"input": {"x": 21}}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            job = json.load(answer)
        assert job["output"] == {"twice": 42, "tool": "9.0"}
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert "Traceback" not in "".join(said) + rest


def test_ctrl_c_leaves_the_last_artifact_and_nothing_else(project):
    flash_build(project)
    before = {path.name: path.read_bytes() for path in (project / ".flash").iterdir()}
    (project / "requirements.txt").write_text("slow\n")
    pipes = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", MUTE_INDEX], stdin=subprocess.PIPE, **pipes) as index:
        port = int(index.stdout.readline())
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTIBLE, "build"],
            cwd=project,
            env={**environment(project), "UV_DEFAULT_INDEX": f"http://127.0.0.1:{port}/simple"},
            stderr=subprocess.STDOUT,
            **pipes,
        )
        assert index.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
        index.communicate("\n")
    assert process.returncode != 0
    assert "Traceback" not in said
    assert {path.name: path.read_bytes() for path in (project / ".flash").iterdir()} == before
