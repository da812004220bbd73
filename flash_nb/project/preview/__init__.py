"""A preview: an artifact, run on this machine behind one address.

::

    http://localhost:8000 ── gateway ── private engine ──┬── worker of gpu_worker   (a process)
                                            ▲            ├── worker of cpu_worker
                                            └────────────┴── worker of mothership
                                       calls of other endpoints

Each resource has one process, in a bare environment of the Python that the artifact was built for: what it
imports comes from the unpacked artifact and from nowhere else. The engine is one of our own, in this process
and in a folder that is removed with it, so the user's engine hears nothing of it. It is reached with a token
that only the workers have, as their ``RUNPOD_API_KEY``; the gateway needs none, and takes requests of this
machine only.

WebSockets are not forwarded. Container images are not run: `flash_nb.stand_in` says what stands for one.

`gateway` is that address, `interpreter` finds the Python.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn

from flash_nb.engine.environments import Environments, EnvironmentSpec
from flash_nb.engine.http import KEEP_ALIVE_S, Uvicorn
from flash_nb.engine.server import Server, memory_folder
from flash_nb.engine.state import WorkerStatus
from flash_nb.errors import EngineError, ManifestError, ProjectError
from flash_nb.project.address import address
from flash_nb.project.address import listen as listen_at
from flash_nb.project.handlers import handler_file
from flash_nb.project.preview.gateway import Gateway, Served
from flash_nb.project.preview.interpreter import interpreter, running
from flash_nb.settings import Settings, read_dotenv
from flash_nb.unpack import unpack

HOST, PORT = "localhost", 8000
HOSTS: Mapping[str, str] = {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1"}
POLL_S = 0.1
CLOSE_S = 5.0
MANIFEST = "flash_manifest.json"
OWN = "preview"  # before lines that no resource wrote
HEALTHY = frozenset({WorkerStatus.IDLE, WorkerStatus.BUSY})

Say = Callable[[str, str], None]
"""Is told the name of a resource and a line of its log."""


def listen(host: str = HOST, port: int = PORT) -> socket.socket:
    """Return a socket for a preview; port 0 is any.

    Raises:
        ProjectError: Others than this machine would reach it, or the port is taken.
    """
    if host not in HOSTS:
        raise ProjectError(
            f"A preview asks for no key, so it cannot listen on {host!r}.",
            hint=f"Listen where only this machine gets in: --host {HOST}",
        )
    return listen_at(HOSTS[host], port)


class Preview:
    """Runs an artifact: ``async with Preview(archive, listen()) as preview``, or `run` until Ctrl-C.

    Args:
        archive: The artifact, a tar.gz.
        opened: Where it answers, from `listen`; closed at its end.
        docker: Run each worker in a container of its image: not done yet, and refused.
        environ: What variables of the workers that the project takes from the environment come from;
            default: the environment, and ``.env`` of the current folder.
        say: Gets the workers' logs; default: they are printed.

    Attributes:
        url: Where it is, without a slash at the end.
        resources: What it serves.
    """

    def __init__(
        self,
        archive: Path,
        opened: socket.socket,
        *,
        docker: bool = False,
        environ: Mapping[str, str] | None = None,
        say: Say | None = None,
    ) -> None:
        if docker:
            opened.close()
            raise ProjectError(
                "A preview runs workers as processes of this machine; containers are not supported.",
                hint="Leave out --docker. What the image brings besides Python has to be in the artifact.",
            )
        self.url = address(HOST, opened)
        self.resources: Sequence[Served] = ()
        self._archive = archive
        self._opened = opened
        self._environ = environ
        self._names: dict[str, str] = {}
        self._say = say or _Printer(self._names)
        self._stack = contextlib.AsyncExitStack()
        self._printed: dict[str, _Lines] = {}

    def run(self) -> None:
        """Serve until SIGINT (Ctrl-C) or SIGTERM; then nothing of it is left.

        Raises:
            ProjectError: It cannot be served.
            ManifestError: The archive is no artifact.
        """
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            raise ProjectError(
                "A preview runs until Ctrl-C, and here something else runs already.",
                hint="Run it in a terminal: flash build --preview",
            )
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._run())

    async def _run(self) -> None:
        """Serve until a signal; those that follow change nothing, for it is ending already."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        told: list[bool] = []

        def end() -> None:
            if not told:
                told.append(True)
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        async with self:
            self._say(OWN, f"{self.url}  (Ctrl-C ends it)")
            for served in self.resources:
                self._say(served.key, f"{served.kind}: {served.example}")
            await asyncio.wait([self._running])
            self._running.result()
            raise EngineError("The preview's engine ended by itself.", hint="Start the preview again.")

    async def __aenter__(self) -> Preview:  # noqa: PYI034 - Self is newer than Python 3.10
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ready(self) -> None:
        """Wait until each resource has a worker that answers."""
        while not all(map(self._is_up, self.resources)):  # noqa: ASYNC110 - the machine tells nobody
            await asyncio.sleep(POLL_S)

    # --- starting -----------------------------------------------------------------------------

    async def _start(self) -> None:
        self._stack.enter_context(self._opened)
        folder = await self._stack.enter_async_context(_folder())
        artifact = folder / "artifact"
        await _in_thread(unpack, self._archive, artifact)
        manifest = _manifest(artifact, self._archive)
        python = await _in_thread(interpreter, str(manifest.get("python_version") or running()))
        settings = Settings(
            home=folder / "home", cache=folder / "cache", python=python, engine_idle_s=math.inf
        )
        (settings.home / "workers").mkdir(parents=True, mode=0o700)
        await Environments(settings.cache / "environments").build(EnvironmentSpec.of(python), lambda _: None)
        await self._stack.enter_async_context(self._engine(settings))
        await self._serve_endpoints(manifest, artifact, folder / MANIFEST)
        gateway = Gateway(self._server, self.resources, self._token)
        config = uvicorn.Config(
            gateway.app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        await self._stack.enter_async_context(_serving(Uvicorn(config), self._opened))
        await self._stack.enter_async_context(_task(self._follow(settings.home / "workers")))

    @contextlib.asynccontextmanager
    async def _engine(self, settings: Settings) -> AsyncIterator[None]:
        """Run an engine of our own."""
        self._stack.callback(shutil.rmtree, memory_folder(settings.home), ignore_errors=True)
        self._token = secrets.token_urlsafe(32)
        self._server = Server(settings, self._token, settings.engine_url, self._job_said)
        announcement = _Announcement()
        self._running = asyncio.create_task(self._server.run(announcement))
        try:
            up = asyncio.create_task(announcement.is_up.wait())
            await asyncio.wait([self._running, up], return_when=asyncio.FIRST_COMPLETED)
            up.cancel()
            yield
        finally:
            self._server.stop()
            await self._running

    async def _serve_endpoints(self, manifest: Mapping[str, Any], artifact: Path, file: Path) -> None:
        """Declare an endpoint for each resource; tell workers in a manifest where the others are."""
        door, control = self._server.http_url(), self._server.control
        found = [(key, entry, _served(key, entry, self.url)) for key, entry in manifest["resources"].items()]
        specs = {key: _spec(key, entry, artifact) for key, entry, _ in found}
        ids = {key: control.id_of(spec) for key, spec in specs.items()}
        addresses = {
            key: f"{door}/{ids[key]}" if spec["balanced"] else f"{door}/v2/{ids[key]}"
            for key, spec in specs.items()
        }
        file.write_text(json.dumps({**manifest, "resources_endpoints": addresses}))
        environ = _environ() if self._environ is None else self._environ
        ours = {
            "FLASH_MANIFEST_PATH": str(file),
            "RUNPOD_ENDPOINT_BASE_URL": f"{door}/v2",
            "RUNPOD_API_KEY": self._token,
        }
        self.resources = tuple(served(ids[key]) for key, _, served in found)
        self._names.update({ids[key]: key for key in specs})
        for key, entry, _ in found:
            variables, missing = _variables(entry, environ)
            for name in missing:
                self._say(key, f"the variable {name} is not set here, and the project takes it from there")
            control.save(ids[key], {**specs[key], "env": {**variables, **ours, "FLASH_RESOURCE_NAME": key}})

    def _is_up(self, served: Served) -> bool:
        workers = self._server.machine.workers.values()
        return any(w.endpoint_id == served.endpoint and w.status in HEALTHY for w in workers)

    # --- logs ---------------------------------------------------------------------------------

    def _job_said(self, endpoint: str, text: str) -> None:
        for line in self._printed.setdefault(endpoint, _Lines()).add(text.encode()):
            self._say(self._names.get(endpoint, endpoint), line)

    async def _follow(self, folder: Path) -> None:
        """Pass on what workers write outside jobs, from their log files."""
        endpoints: dict[str, str] = {}
        tails: dict[Path, _Tail] = {}
        try:
            while True:
                self._pass_on(folder, endpoints, tails)
                await asyncio.sleep(POLL_S)
        finally:
            self._pass_on(folder, endpoints, tails)

    def _pass_on(self, folder: Path, endpoints: dict[str, str], tails: dict[Path, _Tail]) -> None:
        workers = self._server.machine.workers
        endpoints.update({worker_id: worker.endpoint_id for worker_id, worker in workers.items()})
        for path in sorted(folder.glob("*.log")):
            name = endpoints.get(path.stem, path.stem)
            for line in tails.setdefault(path, _Tail(path)).lines():
                self._say(self._names.get(name, name), line)


# --- endpoints ----------------------------------------------------------------------------------


def _served(key: str, entry: Mapping[str, Any], url: str) -> Callable[[str], Served]:
    """Return what makes the `Served` of a resource once its endpoint's id is known."""
    functions = entry.get("functions") or []
    if entry.get("is_mothership"):
        kind, path, call = f"{entry['app_variable']} of {entry['main_file']}", "/", f"curl {url}/"
    elif entry.get("is_load_balanced"):
        kind, path = ", ".join(f"{f['http_method']} {f['http_path']}" for f in functions), f"/{key}/"
        first = functions[0]
        call = f"curl -X {first['http_method']} {url}/{quote(key)}{first['http_path']}"
    else:
        kind, path = ", ".join(f["name"] for f in functions), f"/v2/{key}/"
        named = {"function_name": functions[0]["name"], "kwargs": {}} if len(functions) > 1 else {}
        call = f"curl {url}/v2/{quote(key)}/runsync -d '{json.dumps({'input': named})}'"
    return lambda endpoint: Served(key, endpoint, kind, path, call)


def _spec(key: str, entry: Mapping[str, Any], artifact: Path) -> dict[str, Any]:
    """Return the engine's spec of a resource's endpoint, without variables: one worker, always there."""
    is_balanced = bool(entry.get("is_load_balanced") or entry.get("is_mothership"))
    gpus = 0 if entry.get("instanceIds") or str(entry["resource_type"]).startswith("Cpu") else 1
    volume = entry.get("networkVolume") or {}
    return {
        "name": key,
        "kind": entry["resource_type"],
        "hash": "",
        "hardware": "preview",
        "gpu_count": int(entry.get("gpuCount") or gpus),
        "env": {},
        "volume": entry.get("networkVolumeId") or volume.get("name"),
        "balanced": is_balanced,
        "app": {
            "kind": "asgi" if is_balanced else "handler",
            "artifact": {"folder": str(artifact), "module": Path(handler_file(key)).stem},
        },
        "requirements": [],
        "system": [],
        "scaling": {
            "workers_min": 1,
            "workers_max": 1,
            "idle_timeout_s": 3600.0,
            "timeout_s": (entry.get("executionTimeoutMs") or 0) / 1000 or None,
            "queue_delay_s": None,
            "requests_per_worker": None,
        },
    }


def _variables(entry: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return a worker's variables, and those of `environ` that are missing."""
    template = (entry.get("template") or {}).get("env") or {}
    pairs = template.items() if isinstance(template, Mapping) else ((e["key"], e["value"]) for e in template)
    variables = {**dict(pairs), **(entry.get("env") or {})}
    taken: Mapping[str, str] = entry.get("env_from") or {}
    variables.update({name: environ[source] for name, source in taken.items() if source in environ})
    missing = [source for name, source in taken.items() if source not in environ and name not in variables]
    return variables, missing


def _environ() -> dict[str, str]:
    dotenv, _ = read_dotenv(Path.cwd())
    return {**{name: value for name, value in dotenv.items() if value is not None}, **os.environ}


def _manifest(artifact: Path, archive: Path) -> Mapping[str, Any]:
    try:
        manifest = json.loads((artifact / MANIFEST).read_bytes())
        resources = manifest["resources"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{archive} is no artifact: it has no {MANIFEST} that makes sense.", hint="Make one: flash build"
        ) from error
    for key in resources:
        if not (artifact / handler_file(key)).exists():
            raise ManifestError(
                f"{archive} has no {handler_file(key)}: another program made it.",
                hint="Make one: flash build",
            )
    found: Mapping[str, Any] = manifest
    return found


# --- what is opened and closed ----------------------------------------------------------------


@contextlib.asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    """Give a private folder; its name is short, for a socket's path must be."""
    folder = Path(tempfile.mkdtemp(prefix="flash-preview-"))
    try:
        yield folder
    finally:
        await _in_thread(lambda: shutil.rmtree(folder, ignore_errors=True))


@contextlib.asynccontextmanager
async def _serving(server: uvicorn.Server, listening: socket.socket) -> AsyncIterator[None]:
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.wait([serving], timeout=CLOSE_S)


@contextlib.asynccontextmanager
async def _task(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    running = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Run a function in a thread; a cancellation waits for its end, so that nothing is written later."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


class _Announcement:
    """Nobody else is to find this engine."""

    def __init__(self) -> None:
        self.is_up = asyncio.Event()

    def publish(self, url: str) -> None:  # noqa: ARG002 - of the protocol
        self.is_up.set()

    def keep(self) -> bool:
        return True

    def withdraw(self) -> None:
        """It was told to nobody."""


class _Lines:
    """Cuts a text into lines, whatever the pieces it comes in; one that is not finished waits for its end."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, text: bytes) -> list[str]:
        """Return the lines that are finished now."""
        *lines, self._rest = (self._rest + text).split(b"\n")
        return [line.decode(errors="replace") for line in lines]


class _Tail:
    """The lines that are added to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._lines = _Lines()

    def lines(self) -> list[str]:
        """Return those since the last time."""
        with self._path.open("rb") as file:
            file.seek(self._position)
            added = file.read()
        self._position += len(added)
        return self._lines.add(added)


class _Printer:
    """Prints lines with a name before them, in a column.

    Args:
        names: The names that come, as its values.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def __call__(self, name: str, line: str) -> None:
        width = max(map(len, [OWN, *self._names.values()]))
        print(f"{name:<{width}} | {line}", flush=True)
