"""Worker processes: started in a group of their own, ended by group.

The worker's code is the island (`flash_nb.worker`) and the very cloudpickle of this installation,
copied once into a folder that is put on the worker's path: a worker environment holds nothing but
the user's dependencies, so one without dependencies needs no index at all.

A worker inherits no secrets: of the engine's environment it gets only `INHERITED`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INHERITED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "SHELL",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HF_HOME",
)


GONE_S = 5.0


@dataclass(frozen=True)
class WorkerStart:
    """All that one worker process needs.

    Attributes:
        worker_id: Its id, which the user's code sees as ``RUNPOD_POD_ID``, as on Runpod.
        endpoint_id: Seen as ``RUNPOD_ENDPOINT_ID``.
        python: Interpreter of its environment.
        folder: Its working directory and home; made if absent.
        variables: Its environment, made from `inherited`.
        settings: The configuration that `flash_nb.worker.__main__` reads from stdin.
        log: File that gets what is printed outside jobs.
    """

    worker_id: str
    endpoint_id: str
    python: Path
    folder: Path
    variables: Mapping[str, str]
    settings: Mapping[str, Any]
    log: Path


class Processes:
    """The worker processes of one engine.

    Args:
        folder: Where the island is copied to.
    """

    def __init__(self, folder: Path) -> None:
        self._island = install_island(folder)
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._adopted: dict[str, int] = {}

    async def start(self, start: WorkerStart) -> None:
        """Start a worker process; it connects by itself.

        Raises:
            OSError: The interpreter cannot be started.
        """
        start.folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **start.variables,
            "HOME": str(start.folder),
            "PYTHONPATH": str(self._island),
            "PYTHONUNBUFFERED": "1",
            "MPLBACKEND": "module://flash_worker.mpl_backend",
            "RUNPOD_POD_ID": start.worker_id,
            "RUNPOD_ENDPOINT_ID": start.endpoint_id,
        }
        with start.log.open("ab") as log:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the worker keeps it until it ends
            process = await asyncio.create_subprocess_exec(
                *(start.python, "-s", "-m", "flash_worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=start.folder,
                env=environment,
                start_new_session=True,
            )
        assert process.stdin is not None
        process.stdin.write(json.dumps(start.settings).encode() + b"\n")
        process.stdin.close()
        self._running[start.worker_id] = process

    @staticmethod
    def has_ended(log: Path) -> bool:
        """Say if the worker with this log, started by an earlier engine, has surely ended."""
        try:
            with log.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def adopt(self, worker_id: str, pid: int) -> None:
        """Take over a worker that an earlier engine started."""
        if worker_id not in self._running:
            self._adopted[worker_id] = pid

    async def wait(self, worker_id: str) -> str:
        """Wait for a worker's end; return how it ended, as a phrase."""
        process = self._running.get(worker_id)
        if process is None:
            return "gone"
        code = await process.wait()
        self._running.pop(worker_id, None)
        return describe_exit(code)

    def kill(self, worker_id: str) -> None:
        """End a worker and everything it started."""
        process = self._running.get(worker_id)
        pid = process.pid if process else self._adopted.pop(worker_id, None)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    async def gone(self) -> None:
        """Wait until the workers that were killed have ended, `GONE_S` at most."""
        ends = [asyncio.create_task(process.wait()) for process in self._running.values()]
        if ends:
            await asyncio.wait(ends, timeout=GONE_S)

    def __contains__(self, worker_id: str) -> bool:
        return worker_id in self._running

    def __iter__(self) -> Iterator[str]:
        return iter([*self._running, *self._adopted])


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a worker may see of the engine's environment."""
    return {name: environ[name] for name in INHERITED if name in environ}


def describe_exit(code: int) -> str:
    """Return an exit status as a phrase."""
    if code >= 0:
        return f"exited with status {code}"
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"killed by signal {-code}{hint}"


def install_island(folder: Path) -> Path:
    """Copy the worker's code and cloudpickle into a folder named by their content; return it."""
    sources = {"flash_worker": _package("flash_nb.worker"), "cloudpickle": _package("cloudpickle")}
    digest = hashlib.sha256()
    for package in sources.values():
        for file in _modules(package):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    island = folder / digest.hexdigest()[:16]
    if not island.exists():
        unfinished = folder / f"{island.name}.{os.getpid()}"
        for name, package in sources.items():
            (unfinished / name).mkdir(parents=True, exist_ok=True)
            for file in _modules(package):
                shutil.copyfile(file, unfinished / name / file.name)
        with contextlib.suppress(OSError):  # another engine was faster: its copy is the same
            unfinished.rename(island)
        shutil.rmtree(unfinished, ignore_errors=True)
    return island


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _modules(package: Path) -> Sequence[Path]:
    return sorted(package.glob("*.py"))
