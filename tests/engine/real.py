"""Real engines, workers and clients for tests: no part of ours is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flash_nb.backends.base import EndpointSpec, JobRequest
from flash_nb.backends.local import LocalBackend, connect, read_state
from flash_nb.jobs import FinishedEvent, ItemEvent, StatusEvent, StoredEvent, StreamEvent, new_job_id
from flash_nb.settings import Settings
from flash_nb.worker.codec import Decoder, Encoder, decode, encode, never_portable

PATIENCE_S = 30.0
SPEC = EndpointSpec(
    name="test",
    kind="CpuLiveServerless",
    hash="",
    hardware="CPU",
    gpu_count=0,
    env={},
    workers_min=0,
    workers_max=2,
    idle_timeout_s=60.0,
    timeout_s=None,
)


def spec(**fields) -> EndpointSpec:
    found = replace(SPEC, **fields)
    wire = wire_of(found)
    digest = hashlib.sha256(json.dumps(wire, sort_keys=True).encode()).hexdigest()[:16]
    return replace(found, wire=wire, hash=digest)


def wire_of(spec: EndpointSpec) -> dict:
    """Return what Runpod is told of an endpoint, as a resource of its kind would say it."""
    is_cpu = spec.kind.startswith("Cpu")
    machines = {"instanceIds": ["cpu3g-2-8"]} if is_cpu else {"gpuIds": "AMPERE_24", "gpuCount": 1}
    kind = ("-lb" if spec.balanced else "") + ("-cpu" if is_cpu else "")
    return machines | {
        "name": spec.name,
        "type": "LB" if spec.balanced else "QB",
        "workersMin": spec.workers_min,
        "workersMax": spec.workers_max,
        "idleTimeout": round(spec.idle_timeout_s),
        "executionTimeoutMs": round((spec.timeout_s or 0) * 1000),
        "scalerType": "REQUEST_COUNT" if spec.balanced else "QUEUE_DELAY",
        "scalerValue": 4,
        "template": {"name": f"{spec.name}-template", "imageName": f"runpod/flash{kind}:latest", "env": []},
    }


def cell(source: str, *outputs: str, values: dict | None = None, **fields) -> JobRequest:
    """Return a job that runs `source` as a cell."""
    encoder = Encoder(never_portable)
    for name, value in (values or {}).items():
        encoder.add(name, value)
    request = {
        "execution_type": "cell",
        "source": source,
        "filename": "<cell>",
        "cell": source,
        "namespace": encoder.items,
        "inputs": list(values or {}),
        "outputs": list(outputs),
        "definitions": [],
        "show_value": False,
    }
    return JobRequest(new_job_id(), request, encoder.buffers() if values else [], **fields)


def call(source: str, *args, **fields) -> JobRequest:
    """Return a job that calls the function ``f`` of `source`."""
    encoded = [encode(value, never_portable) for value in args]
    request = {
        "execution_type": "function",
        "function": "f",
        "namespace": [{"name": "f", "source": source, "filename": "<code>", "first_line": 1}],
        "namespace_buffers": 0,
        "args": [len(buffers) for buffers in encoded],
        "kwargs": {},
    }
    return JobRequest(new_job_id(), request, [b for buffers in encoded for b in buffers], **fields)


class Following:
    """Takes a job's events."""

    def __init__(self) -> None:
        self.events = []
        self.finished: asyncio.Future[FinishedEvent] = asyncio.get_running_loop().create_future()

    def __call__(self, event) -> None:
        self.events.append(event)
        if isinstance(event, FinishedEvent):
            self.finished.set_result(event)

    @property
    def text(self) -> str:
        return "".join(e.text for e in self.events if isinstance(e, StreamEvent) and e.name == "stdout")

    @property
    def status(self) -> str:
        found = [e.info.status.value for e in self.events if isinstance(e, (StatusEvent, FinishedEvent))]
        return found[-1] if found else ""

    @property
    def items(self) -> list:
        """What the job yielded, each place once, as its handle takes it."""
        found: dict[int, bytes] = {}
        for event in self.events:
            if isinstance(event, ItemEvent):
                found.setdefault(event.index, event.value)
        return [decode([found[index]], _resolve) for index in sorted(found)]

    @property
    def is_stored(self) -> bool:
        return any(isinstance(e, StoredEvent) for e in self.events)

    async def end(self, timeout: float | None = None) -> FinishedEvent:
        return await asyncio.wait_for(asyncio.shield(self.finished), timeout or PATIENCE_S)


def values_of(event: FinishedEvent) -> dict:
    """Return the variables that a cell brought back."""
    assert event.result is not None, event.info
    assert event.result["ok"], event.result["error"]["text"]
    items = [item for item in event.result["namespace"] if "value" in item]
    if not items:
        return {}
    decoder = Decoder(event.buffers[: event.result["counts"][0]], _resolve)
    return {item["name"]: decoder.load() for item in items}


def value_of(event: FinishedEvent):
    """Return what a function returned."""
    assert event.result is not None, event.info
    assert event.result["ok"], event.result["error"]["text"]
    return decode(event.buffers[: event.result["counts"][0]], _resolve)


def _resolve(name: str):
    raise AttributeError(name)


async def until(condition: Callable[[], object], timeout: float | None = None) -> None:
    """Wait for a condition."""
    give_up_at = time.monotonic() + (timeout or PATIENCE_S)
    while not condition():
        assert time.monotonic() < give_up_at, "the condition did not come true"
        await asyncio.sleep(0.01)


class World:
    """One home with its engine, and every process that belongs to it."""

    def __init__(self, cache: Path, **fields) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="fe-"))
        self.settings = Settings(home=self.home, cache=cache, **{"engine_idle_s": 30.0, **fields})
        self.backends: list[LocalBackend] = []
        self._clients: list[subprocess.Popen] = []

    @property
    def environment(self) -> dict[str, str]:
        """What a client process of this world needs."""
        return {
            **os.environ,
            "FLASH_HOME": str(self.home),
            "FLASH_CACHE": str(self.settings.cache),
            "FLASH_ENGINE_IDLE_S": str(self.settings.engine_idle_s),
            "FLASH_TRANSPORT": self.settings.transport,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        }

    def backend(self) -> LocalBackend:
        """Return a new kernel's backend."""
        backend = LocalBackend(self.settings)
        self.backends.append(backend)
        return backend

    @contextlib.asynccontextmanager
    async def endpoint(self, **fields):
        """Give an endpoint of a new backend."""
        backend = self.backend()
        yield await backend.ensure(spec(**fields))
        await backend.aclose()

    async def call(self, method: str, **params):
        client = await connect(self.settings, "test", start=False)
        try:
            return await client.call(method, **params)
        finally:
            client.close()

    def engine_pid(self) -> int:
        state = read_state(self.settings)
        assert state is not None
        return state.pid

    def kill_engine(self) -> None:
        pid = self.engine_pid()
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)

    def workers(self) -> list[int]:
        """Return the pids of the live worker processes of this home."""
        return [pid for pid in processes() if str(self.home) in cwd(pid) and "flash_worker" in cmdline(pid)]

    def processes(self) -> list[int]:
        """Return the pids of all live processes of this home."""
        here = str(self.home)
        return [pid for pid in processes() if cwd(pid).startswith(here)]

    def spills(self) -> list[Path]:
        """Return the spill files of this home's engine."""
        folders = [self.home / "spill", *Path("/dev/shm").glob(f"flash-{os.getuid()}-{self._digest}")]
        return [path for folder in folders if folder.is_dir() for path in folder.iterdir()]

    @property
    def _digest(self) -> str:
        return hashlib.sha256(str(self.home).encode()).hexdigest()[:12]

    def log(self) -> str:
        return self.settings.log_file.read_text() if self.settings.log_file.exists() else ""

    def run(self, code: str) -> subprocess.Popen:
        """Run Python code in a client process of its own; `real` can be imported there."""
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
        )
        self._clients.append(process)
        return process

    def flash(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        """Run the command line."""
        return subprocess.run(
            [sys.executable, "-m", "flash_nb", *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd="/",
        )

    def close(self) -> None:
        """End everything and see that nothing is left."""
        for client in self._clients:
            client.kill()
            client.wait()
            client.stdout.close()
            client.stdin.close()
        left = self.processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        give_up_at = time.monotonic() + 10
        while self.processes() and time.monotonic() < give_up_at:
            time.sleep(0.02)
        stubborn = [(pid, cmdline(pid)) for pid in self.processes()]
        for pid, _ in stubborn:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for folder in Path("/dev/shm").glob(f"flash-{os.getuid()}-{self._digest}"):
            shutil.rmtree(folder, ignore_errors=True)
        log = self.log()
        shutil.rmtree(self.home, ignore_errors=True)
        assert not stubborn, stubborn
        assert "Traceback" not in log, log


def processes() -> list[int]:
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if is_alive(pid)]


def is_alive(pid: int) -> bool:
    """Say if a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def wait_gone(pid: int) -> None:
    give_up_at = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < give_up_at, f"process {pid} does not end"
        time.sleep(0.005)


def cwd(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())
