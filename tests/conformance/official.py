"""Runpod's own worker as a process of a test, in an environment of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
from real import PATIENCE_S, World, spec
from uv import find_uv_bin

from flash_nb.backends.local import read_state

HANDLERS = Path(__file__).parent / "handlers.py"
PACKAGES = ("runpod==1.12.0", "cloudpickle")


def another_python() -> str:
    """Return a Python of another minor version than ours, as the official images have; uv may fetch it."""
    return "3.12" if sys.version_info[:2] != (3, 12) else "3.11"


def environ() -> dict[str, str]:
    """Return our environment, with every Python that pyenv has where it is used: uv asks its shims."""
    found = dict(os.environ)
    if pyenv := shutil.which("pyenv"):
        versions = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=False)
        found["PYENV_VERSION"] = ":".join(versions.stdout.split())
    return found


def make_environment(folder: Path, packages: Sequence[str] = PACKAGES) -> Path:
    """Make an environment with packages of Runpod's; return its interpreter."""
    python = folder / "bin" / "python"
    for command in (
        ["venv", "--quiet", "--python", another_python(), str(folder)],
        ["pip", "install", "--quiet", "--python", str(python), *packages],
    ):
        subprocess.run([find_uv_bin(), *command], check=True, env=environ())
    return python


def run_program(
    command: Sequence[str | Path], folder: Path, started: Mapping, **more: str
) -> subprocess.CompletedProcess:
    """Run a program as somebody who did what ``flash engine start --json`` says.

    Args:
        command: The program.
        folder: Its home, and where it runs.
        started: What that command printed.
        more: Variables besides, or instead.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "NO_PROXY": "127.0.0.1,localhost",
        "RUNPOD_API_KEY": started["api_key"],
        **started["runpod"],
        **more,
    }
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )


class Worker:
    """One official worker with one of `handlers`."""

    def __init__(self, python: Path, handler: str, environment: dict[str, str]) -> None:
        self.id = environment["RUNPOD_POD_ID"]
        self.folder = Path(tempfile.mkdtemp(prefix="fo-"))
        self.notes_file = self.folder / "notes"
        inherited = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                self.command(python, handler),
                env={**inherited, **environment, "HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def command(self, python: Path, handler: str) -> Sequence[str | Path]:
        return [python, HANDLERS, handler, self.notes_file]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def notes(self) -> list[str]:
        return self.notes_file.read_text().splitlines() if self.notes_file.exists() else []

    def signal(self, number: int) -> None:
        """Send a signal to its main process alone: its ping process goes on."""
        os.kill(self.process.pid, number)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Endpoint:
    """An endpoint without workers of our own, asked as Runpod's clients ask."""

    def __init__(self, world: World, endpoint, python: Path) -> None:
        self.world = world
        self.endpoint = endpoint
        self.workers: list[Worker] = []
        self._python = python
        self._http: httpx.AsyncClient | None = None

    async def worker(self, handler: str) -> Worker:
        """Start a worker, and wait until the engine has heard of it."""
        environment = await self.environment()
        started = Worker(self._python, handler, environment)
        self.workers.append(started)
        count = len(self.workers)
        health = await self.until("health", lambda found: found["workers"]["ready"] >= count)
        assert health["workers"]["ready"] == count
        return started

    async def environment(self) -> dict[str, str]:
        """Return what ``flash engine worker-env`` prints."""
        found = await self.world.call("worker_environment", endpoint=self.endpoint.id)
        return {**found, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}

    async def open(self) -> None:
        url = (await self.environment())["RUNPOD_WEBHOOK_GET_JOB"].partition("/job-take/")[0]
        token = read_state(self.world.settings).api_key
        self._http = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    async def get(self, path: str) -> dict:
        answer = await self._http.get(path)
        assert answer.is_success, answer.text
        return answer.json()

    async def post(self, path: str, body: object = None) -> dict:
        answer = await self._http.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def submit(self, **given) -> str:
        return (await self.post("run", {"input": given}))["id"]

    async def run(self, timeout: float = PATIENCE_S, **given) -> dict:
        """Run a job to its end; return what ``/status`` says."""
        return await self.end(await self.submit(**given), timeout)

    async def end(self, job_id: str, timeout: float = PATIENCE_S) -> dict:
        final = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
        return await self.until(f"status/{job_id}", lambda found: found["status"] in final, timeout)

    async def until(self, path: str, condition, timeout: float = PATIENCE_S) -> dict:
        give_up_at = time.monotonic() + timeout
        while not condition(found := await self.get(path)):
            logs = [worker.log[-3000:] for worker in self.workers]
            assert time.monotonic() < give_up_at, (found, *logs)
            await asyncio.sleep(0.03)
        return found

    async def noted(self, worker: Worker, begin: str) -> None:
        """Wait for a note that begins with these words."""
        give_up_at = time.monotonic() + PATIENCE_S
        while not any(note.startswith(begin) for note in worker.notes):
            assert time.monotonic() < give_up_at, (worker.notes, worker.log[-3000:])
            await asyncio.sleep(0.02)

    async def aclose(self) -> None:
        for worker in self.workers:
            worker.close()
        await self._http.aclose()


@contextlib.asynccontextmanager
async def serving(world: World, python: Path, *handlers: str, **fields):
    """Give an endpoint with official workers that have these handlers."""
    fields = {"kind": "ServerlessEndpoint", "workers_max": 0, **fields}
    backend = world.backend()
    opened = Endpoint(world, await backend.ensure(spec(**fields)), python)
    await opened.open()
    try:
        for handler in handlers:
            await opened.worker(handler)
        yield opened
    finally:
        await opened.aclose()
        await backend.aclose()
