"""The local backend: a client of the engine's channel, which starts the engine when it is needed.

If the stream breaks, the engine has died: it is started again, and every job that has not finished
here is submitted again under its id. The engine runs those it lost, and follows those it knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from flash_nb import errors
from flash_nb.backends.base import EndpointSpec, JobRequest, OnEvent
from flash_nb.errors import BackendError, EngineError, FlashError
from flash_nb.jobs import (
    ClearEvent,
    DisplayEvent,
    FinishedEvent,
    JobEvent,
    JobInfo,
    JobStatus,
    PhaseEvent,
    StatusEvent,
    StoredEvent,
    StreamEvent,
)
from flash_nb.settings import Settings
from flash_nb.worker import frames
from flash_nb.worker.frames import Buffer, FrameReader, Header

START_TIMEOUT_S = 30.0
POLL_S = 0.005
MAX_RESTARTS = 5


@dataclass(frozen=True, slots=True)
class EngineState:
    """What ``engine.json`` says about a running engine."""

    url: str
    api_key: str
    pid: int
    version: str

    def __repr__(self) -> str:
        return f"EngineState({self.url!r}, pid={self.pid}, version={self.version!r})"


def read_state(settings: Settings) -> EngineState | None:
    """Return the state file's content; None if there is none or it is not an engine's."""
    try:
        state = json.loads(settings.state_file.read_text())
        return EngineState(state["url"], state["api_key"], int(state["pid"]), state["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def start_engine(settings: Settings) -> subprocess.Popen[bytes]:
    """Start the engine of these settings; if one is running, the new one ends at once."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "FLASH_HOME": str(settings.home),
        "FLASH_CACHE": str(settings.cache),
        "FLASH_PYTHON": settings.python,
        "FLASH_ENGINE_IDLE_S": str(settings.engine_idle_s),
    }
    with settings.log_file.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "flash_nb.engine"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
            cwd=settings.home,
        )


class EngineClient(asyncio.Protocol):
    """One stream to the engine. Use `EngineClient.open`."""

    def __init__(self, hello: Header, loop: asyncio.AbstractEventLoop) -> None:
        self._hello = hello
        self._loop = loop
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._jobs: dict[str, OnEvent] = {}
        self.welcome: asyncio.Future[Header] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    @classmethod
    async def open(cls, state: EngineState, client_id: str) -> EngineClient:
        """Connect and be welcomed.

        Raises:
            OSError: Nobody listens there.
            EngineError: The engine closed the stream: the token is not its own.
        """
        loop = asyncio.get_running_loop()
        hello = {"type": "client", "token": state.api_key, "client": client_id}
        client = cls(hello, loop)
        scheme, _, place = state.url.partition(":")
        if scheme == "unix":
            await loop.create_unix_connection(lambda: client, place)
        else:
            host, _, port = place.rpartition(":")
            await loop.create_connection(lambda: client, host, int(port))
        either: set[asyncio.Future[Any]] = {client.welcome, client.closed}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not client.welcome.done():
            raise EngineError("The engine refused the connection: its token has changed.")
        return client

    @property
    def spill_folders(self) -> Sequence[str]:
        """Where large buffers go."""
        folders: list[str] = self.welcome.result()["spill_folders"]
        return folders

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(frames.encode(self._hello))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Fail what waits for a reply."""
        self._transport = None
        for call in self._calls.values():
            if not call.done():
                call.set_exception(EngineError("The engine closed the connection."))
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Hand each frame to whom it is for."""
        for header, buffers in self._reader.feed(data):
            match header["type"]:
                case "event":
                    on_event = self._jobs.get(header["job"])
                    if on_event is not None:
                        on_event(_event(header["event"]))
                case "done":
                    self._finished(header, buffers)
                case "reply":
                    self._replied(header)
                case "welcome":
                    self.welcome.set_result(header)

    async def call(self, method: str, **params: Any) -> Any:
        """Make one call of the control plane."""
        number = next(self._numbers)
        self._calls[number] = self._loop.create_future()
        try:
            self.write(frames.encode({"type": "call", "call": number, "method": method, "params": params}))
            return await self._calls[number]
        finally:
            del self._calls[number]

    def follow(self, job_id: str, on_event: OnEvent) -> None:
        """Have the events of a job go to `on_event`."""
        self._jobs[job_id] = on_event

    def send(self, header: Header) -> None:
        """Send a frame without buffers."""
        self.write(frames.encode(header))

    def write(self, frame: bytes) -> None:
        """Send an encoded frame at the end of this turn of the loop."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(frame)

    def close(self) -> None:
        """Close the stream after what was sent."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and unsent:
            self._transport.write(b"".join(unsent))

    def _replied(self, header: Header) -> None:
        call = self._calls.get(header["call"])
        if call is None or call.done():
            return
        if "error" in header:
            call.set_exception(_rebuild(header["error"]))
        else:
            call.set_result(header["result"])

    def _finished(self, header: Header, buffers: Sequence[Buffer]) -> None:
        on_event = self._jobs.pop(header["job"], None)
        if on_event is None:
            return
        if header["snapshot"] is None:
            info = JobInfo(header["job"], "", JobStatus.FAILED, 0.0, error="the engine has no such job")
            on_event(FinishedEvent(info, None, ()))
            return
        info = _info(header["snapshot"])
        try:
            values = frames.unspill(header, buffers)
        except FileNotFoundError:
            lost = replace(info, status=JobStatus.FAILED, error="its result was delivered already")
            on_event(FinishedEvent(lost, None, ()))
            return
        if "spill" in header:
            self.send({"type": "received", "job": header["job"]})
        on_event(FinishedEvent(info, header["result"], values))


class LocalEndpoint:
    """An endpoint of the engine."""

    def __init__(self, backend: LocalBackend, endpoint_id: str, *, simulated: bool) -> None:
        self.id = endpoint_id
        self.simulated = simulated
        self._backend = backend

    def run(self, request: JobRequest, on_event: OnEvent) -> None:
        """Submit a job."""
        self._backend.submit(self.id, request, on_event)

    def cancel(self, job_id: str) -> None:
        """Cancel a job."""
        self._backend.tell({"type": "cancel", "job": job_id})

    def release(self, instance: str) -> None:
        """Forget a remote object."""
        self._backend.tell({"type": "release", "instance": instance})


class LocalBackend:
    """The engine of these settings, started when first needed."""

    name = "local"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client_id = secrets.token_hex(6)
        self._client: EngineClient | None = None
        self._connecting: asyncio.Lock | None = None
        self._open_jobs: dict[str, tuple[Header, Sequence[Buffer], OnEvent]] = {}
        self._specs: dict[str, EndpointSpec] = {}
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def ensure(self, spec: EndpointSpec) -> LocalEndpoint:
        """Create or update the endpoint in the engine."""
        client = await self.client()
        answer = await client.call("ensure", spec=_wire(spec))
        self._specs[answer["id"]] = spec
        return LocalEndpoint(self, answer["id"], simulated=answer["simulated"])

    def attach(self, job_id: str, on_event: OnEvent) -> None:
        """Replay and follow a job."""
        self._spawn(self._attach(job_id, on_event))

    async def aclose(self) -> None:
        """Close the stream; the engine goes on with the jobs."""
        self._closing = True
        if self._client is not None:
            self._client.close()
            await self._client.closed

    async def client(self) -> EngineClient:
        """Return the stream, opened and the engine started if need be."""
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._client is None or self._client.closed.done():
                self._client = await connect(self._settings, self._client_id)
                self._spawn(self._watch(self._client))
            return self._client

    def submit(self, endpoint_id: str, request: JobRequest, on_event: OnEvent) -> None:
        """Send a job now, or when the engine is back."""
        header: Header = {
            "type": "submit",
            "job": request.job_id,
            "endpoint": endpoint_id,
            "needs": {
                "python": request.python or self._settings.python,
                "requirements": list(request.requirements),
                "system": list(request.system),
                "instance": request.instance,
            },
            "request": request.request,
        }
        for name, value in (("timeout", request.timeout_s), ("ttl", request.ttl_s)):
            if value is not None:
                header[name] = value
        if request.allow_apt:
            header["allow_apt"] = list(request.system)
        if request.durable:
            header["sync"] = True
        client = self._client
        assert client is not None  # `ensure` made this endpoint
        header, buffers = frames.spill(header, request.buffers, client.spill_folders)
        self._open_jobs[request.job_id] = (header, buffers, on_event)
        if client.closed.done():
            self._spawn(self._resume())
        else:
            self._send_job(client, request.job_id)

    def tell(self, header: Header) -> None:
        """Send a frame that needs no answer."""
        if self._client is not None:
            self._client.send(header)

    def _send_job(self, client: EngineClient, job_id: str) -> None:
        header, buffers, on_event = self._open_jobs[job_id]

        def relay(event: JobEvent) -> None:
            if isinstance(event, FinishedEvent):
                self._open_jobs.pop(job_id, None)
            on_event(event)

        client.follow(job_id, relay)
        client.write(frames.encode(header, buffers))

    async def _attach(self, job_id: str, on_event: OnEvent) -> None:
        client = await self.client()
        client.follow(job_id, on_event)
        client.send({"type": "watch", "job": job_id})

    async def _watch(self, client: EngineClient) -> None:
        await client.closed
        if self._open_jobs and not self._closing:
            await self._resume()

    async def _resume(self) -> None:
        """Reconnect, and submit again what is unfinished."""
        reason: Exception | None = None
        for _ in range(MAX_RESTARTS):
            try:
                client = await self.client()
                for spec in self._specs.values():
                    await client.call("ensure", spec=_wire(spec))
            except (BackendError, OSError) as error:
                reason = error
                continue
            for job_id, (header, buffers, on_event) in list(self._open_jobs.items()):
                self._open_jobs[job_id] = ({**header, "again": True}, buffers, on_event)
                self._send_job(client, job_id)
            return
        self._fail_open_jobs(f"the engine cannot be started again: {reason}")

    def _fail_open_jobs(self, error: str) -> None:
        jobs, self._open_jobs = self._open_jobs, {}
        for job_id, (header, _, on_event) in jobs.items():
            info = JobInfo(job_id, header["endpoint"], JobStatus.FAILED, 0.0, error=error)
            on_event(FinishedEvent(info, None, ()))

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def connect(settings: Settings, client_id: str, *, start: bool = True) -> EngineClient:
    """Open a stream to the engine, which is started if it does not run.

    Raises:
        EngineError: It does not run and `start` is false, or it does not come up.
    """
    client = await _try_connect(settings, client_id)
    if client is not None:
        return client
    if not start:
        raise EngineError("The engine is not running.", hint="Start it: flash engine start")
    process = start_engine(settings)
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_at:
        client = await _try_connect(settings, client_id)
        if client is not None:
            return client
        if process.poll() not in (None, 0):  # 0: another engine was faster
            break
        await asyncio.sleep(POLL_S)
    raise EngineError(
        f"The engine did not come up{_exit_note(process)}.",
        hint=f"Its log says why: {settings.log_file}",
    )


def _exit_note(process: subprocess.Popen[bytes]) -> str:
    code = process.poll()
    return f" within {START_TIMEOUT_S:g} s" if code is None else f": it ended with status {code}"


async def _try_connect(settings: Settings, client_id: str) -> EngineClient | None:
    state = read_state(settings)
    if state is None:
        return None
    with contextlib.suppress(OSError, EngineError):
        return await EngineClient.open(state, client_id)
    return None


_SCALING = ("workers_min", "workers_max", "idle_timeout_s", "timeout_s")


def _wire(spec: EndpointSpec) -> dict[str, Any]:
    wire = asdict(spec)
    scaling = {name: wire.pop(name) for name in _SCALING}
    return {**wire, "env": dict(spec.env), "scaling": scaling}


def _info(snapshot: dict[str, Any]) -> JobInfo:
    return JobInfo(**{**snapshot, "status": JobStatus(snapshot["status"])})


def _event(event: dict[str, Any]) -> JobEvent:
    match event["type"]:
        case "stream":
            return StreamEvent(event["name"], event["text"])
        case "display" | "result":
            return DisplayEvent(
                event["data"],
                event["metadata"],
                event.get("display_id"),
                event.get("update", False),
                is_result=event["type"] == "result",
            )
        case "clear":
            return ClearEvent(event["wait"])
        case "phase":
            return PhaseEvent(event["phase"])
        case "stored":
            return StoredEvent()
        case "status":
            return StatusEvent(_info(event["snapshot"]))
    raise EngineError(f"The engine sent an event of an unknown type: {event['type']!r}.")


def _rebuild(error: dict[str, Any]) -> FlashError:
    kind = getattr(errors, error["type"], BackendError)
    rebuilt: FlashError = kind(error["message"], hint=error["hint"])
    return rebuilt
