"""Binder: what repo2docker does with ``binder/``, without its container.

It clones the repository, makes an environment of the Python in ``runtime.txt``, installs
``requirements.txt`` from the repository's root, runs ``postBuild`` there, and starts JupyterLab. Here all of
it has a home of its own, no key, and no setting of this machine but where packages come from.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]
QUICKSTART = "notebooks/quickstart.ipynb"
TIMEOUT_S = 60
KEPT = ("LANG", "TMPDIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy")
PACKAGES = ("PIP_", "UV_", "SSL_", "REQUESTS_")  # where packages come from

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Binder:
    """What Binder has built.

    Attributes:
        repository: The clone; all commands run there.
        environment: The variables of all processes.
        built: What ``postBuild`` printed.
    """

    repository: Path
    environment: dict[str, str]
    built: str = ""

    def run(self, *command: str) -> str:
        """Run a command, which must succeed; return what it printed."""
        done = subprocess.run(
            command,
            cwd=self.repository,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout


@pytest.fixture(scope="module")
def binder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Binder]:
    """Build it."""
    folder = tmp_path_factory.mktemp("binder")
    made = Binder(_clone(folder / "repository"), _environment(folder / "home", folder / "venv"))
    version = (ROOT / "binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    uv = find_uv_bin()
    made.run(uv, "venv", "--quiet", "--python", _interpreter(version), str(folder / "venv"))
    made.run(uv, "pip", "install", "--quiet", "--requirements", "binder/requirements.txt")
    try:
        yield Binder(made.repository, made.environment, made.run("binder/postBuild"))
    finally:
        made.run("flash", "engine", "stop")


def _clone(folder: Path) -> Path:
    junk = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
    return Path(shutil.copytree(ROOT, folder, ignore=junk))


def _environment(home: Path, venv: Path) -> dict[str, str]:
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(PACKAGES)}
    cache = subprocess.run([find_uv_bin(), "cache", "dir"], capture_output=True, text=True, check=True)
    return {
        **kept,
        "HOME": str(home),
        "PATH": f"{venv / 'bin'}{os.pathsep}/usr/local/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": str(venv),
        "UV_CACHE_DIR": cache.stdout.strip(),  # downloads only: what is installed is new
    }


def _interpreter(version: str) -> str:
    """Return a Python of pyenv, which uv cannot see behind its shims; else what uv looks for itself."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(root.glob(f"versions/{version}.*/bin/python"))
    return str(found[-1]) if found else version


def test_post_build_runs_every_cell_and_leaves_no_engine(binder: Binder) -> None:
    assert "✓ Every cell ran" in binder.built
    assert "in process" in binder.built
    assert not (Path(binder.environment["HOME"]) / ".local/state/flash_nb/engine.json").exists()


def test_the_notebook_runs_with_no_key(binder: Binder) -> None:
    assert "missing" in binder.run("flash", "config", "api_key")
    binder.run("jupyter", "nbconvert", "--to", "notebook", "--execute", QUICKSTART, "--output", "done.ipynb")
    done = nbformat.read(binder.repository / "notebooks" / "done.ipynb", as_version=4)
    cells = [cell for cell in done.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    shown = json.dumps([cell.outputs for cell in cells])
    assert "completed" in shown
    assert "78498" in shown


def test_lab_opens_the_notebook(binder: Binder) -> None:
    with lab(binder) as server:
        assert server.get("").url == f"{server.url}lab/tree/{QUICKSTART}"
        served = server.get(f"api/contents/{QUICKSTART}")
    original = nbformat.read(ROOT / QUICKSTART, as_version=4)
    cells = json.loads(served.text)["content"]["cells"]
    assert [cell["source"] for cell in cells] == [cell.source for cell in original.cells]


@dataclass(frozen=True)
class Page:
    """What a server answered, and from where, after redirections."""

    url: str
    text: str


@dataclass(frozen=True)
class Server:
    """A JupyterLab."""

    url: str
    token: str

    def get(self, path: str) -> Page:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"token {self.token}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=TIMEOUT_S) as response:
            return Page(response.url, response.read().decode())


@contextlib.contextmanager
def lab(binder: Binder) -> Iterator[Server]:
    """Start JupyterLab as Binder does, on a port of the loopback."""
    runtime = Path(binder.environment["HOME"]) / "runtime"
    command = [
        "jupyter",
        "lab",
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        "--allow-root",
    ]
    log = runtime.with_suffix(".log")
    with log.open("w") as opened:
        process = subprocess.Popen(
            command,
            cwd=binder.repository,
            env={**binder.environment, "JUPYTER_RUNTIME_DIR": str(runtime)},
            stdin=subprocess.DEVNULL,
            stdout=opened,
            stderr=opened,
        )
    try:
        yield _when_ready(runtime / f"jpserver-{process.pid}.json", process, log)
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


def _when_ready(info: Path, process: subprocess.Popen[bytes], log: Path) -> Server:
    give_up_at = time.monotonic() + TIMEOUT_S
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up_at, log.read_text()
        with contextlib.suppress(FileNotFoundError, ValueError, urllib.error.URLError):
            told = json.loads(info.read_text())
            server = Server(told["url"], told["token"])
            server.get("api/status")
            return server
        time.sleep(0.1)
