"""The local backend: a client of the engine's channel, which starts the engine when it is needed.

If the stream breaks, the engine has died: it is started again, and every job that has not finished
here is submitted again under its id. The engine runs those it lost, and follows those it knows.

If somebody deletes an endpoint that is used here, the next job or request has it made again, and says so.
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
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from flash_nb import errors
from flash_nb.backends.base import (
    EndpointInfo,
    EndpointSpec,
    HttpRequest,
    HttpResponse,
    JobRequest,
    OnEvent,
)
from flash_nb.backends.events import worker_event
from flash_nb.errors import BackendError, EndpointNotFoundError, EngineError, FlashError
from flash_nb.jobs import (
    FinishedEvent,
    JobEvent,
    JobInfo,
    JobStatus,
    PhaseEvent,
    StatusEvent,
    StoredEvent,
    StreamEvent,
)
from flash_nb.resources.offers import Offers, shipped_offers
from flash_nb.settings import Settings
from flash_nb.worker import frames
from flash_nb.worker.frames import Buffer, FrameReader, Header

START_TIMEOUT_S = 30.0
POLL_S = 0.005
MAX_RESTARTS = 5

Follow = Callable[[JobEvent, int | None], None]
RESTARTS_WINDOW_S = 60.0
STOPPED_POLL_S = 0.5


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
    """Start the engine of these settings; if one is running, the new one ends at once.

    Raises:
        EngineError: Its home cannot be written.
    """
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = settings.log_file.open("ab")
    except OSError as error:
        raise EngineError(
            f"The engine's home {settings.home} cannot be used: {error.strerror}.",
            hint="Choose a folder that you can write to: FLASH_HOME=/path/to/it",
        ) from error
    environment = {
        **os.environ,
        "FLASH_HOME": str(settings.home),
        "FLASH_CACHE": str(settings.cache),
        "FLASH_PYTHON": settings.python,
        "FLASH_ENGINE_IDLE_S": str(settings.engine_idle_s),
        "FLASH_TRANSPORT": settings.transport,
    }
    with log:
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
        self._requests: dict[str, _OpenRequest] = {}
        self._numbers = itertools.count()
        self._jobs: dict[str, Follow] = {}
        self._mapped: set[str] = set()
        self.welcome: asyncio.Future[Header] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.stopped = False
        self.on_no_endpoint: Callable[[str], None] | None = None

    @classmethod
    async def open(cls, state: EngineState, client_id: str, instances: Sequence[str] = ()) -> EngineClient:
        """Connect and be welcomed.

        Args:
            state: Where the engine is.
            client_id: Who we are.
            instances: Remote objects of ours.

        Raises:
            OSError: Nobody listens there.
            EngineError: The engine closed the stream: the token is not its own.
        """
        loop = asyncio.get_running_loop()
        hello = {
            "type": "client",
            "token": state.api_key,
            "client": client_id,
            "instances": list(instances),
        }
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
        for request in self._requests.values():
            request.fail("The engine closed the connection: nobody knows if a worker took the request.")
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Hand each frame to whom it is for."""
        for header, buffers in self._reader.feed(data):
            match header["type"]:
                case "event":
                    on_event = self._jobs.get(header["job"])
                    if on_event is not None:
                        on_event(_event(header["event"]), header["number"])
                case "done":
                    self._finished(header, buffers)
                case "reply":
                    self._replied(header)
                case "response":
                    if (request := self._requests.get(header["request"])) is not None:
                        request.take(header, buffers)
                case "no_endpoint":
                    if self.on_no_endpoint is not None:
                        self.on_no_endpoint(header["job"])
                case "welcome":
                    self.welcome.set_result(header)
                case "stopping":
                    self.stopped = True

    async def call(self, method: str, **params: Any) -> Any:
        """Make one call of the control plane."""
        number = next(self._numbers)
        self._calls[number] = self._loop.create_future()
        try:
            self.write(frames.encode({"type": "call", "call": number, "method": method, "params": params}))
            return await self._calls[number]
        finally:
            del self._calls[number]

    async def request(self, endpoint_id: str, request: HttpRequest) -> HttpResponse:
        """Send a request to a load-balanced endpoint, and return its whole answer."""
        number = secrets.token_hex(8)
        header = {
            "type": "request",
            "request": number,
            "endpoint": endpoint_id,
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": list(request.headers),
            "root": "",
        }
        opened = self._requests[number] = _OpenRequest(self._loop.create_future())
        try:
            self.write(frames.encode(*frames.spill(header, [request.body], self.spill_folders)))
            return await opened.response
        except asyncio.CancelledError:
            self.send({"type": "abort", "request": number})
            raise
        finally:
            del self._requests[number]

    def follow(self, job_id: str, on_event: Follow) -> None:
        """Have the events of a job go to `on_event`, with the numbers of those that are stored."""
        self._jobs[job_id] = on_event

    def received(self, job_id: str) -> None:
        """Have the engine delete the file of a job's result, if it came in one."""
        if job_id in self._mapped:
            self._mapped.discard(job_id)
            self.send({"type": "received", "job": job_id})

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
            on_event(FinishedEvent(info, None, ()), None)
            return
        info = _info(header["snapshot"])
        try:
            values = frames.unspill(header, buffers)
        except FileNotFoundError:
            lost = replace(info, status=JobStatus.FAILED, error="its result was delivered already")
            on_event(FinishedEvent(lost, None, ()), None)
            return
        if "spill" in header:
            self._mapped.add(header["job"])
        if values:
            result, *values = values
            on_event(FinishedEvent(info, json.loads(bytes(result)), values), None)
        else:
            on_event(FinishedEvent(info, None, ()), None)


class _OpenRequest:
    """A request whose answer is coming in."""

    def __init__(self, response: asyncio.Future[HttpResponse]) -> None:
        self.response = response
        self._status = 0
        self._headers: dict[str, str] = {}
        self._pieces: list[bytes] = []

    def take(self, header: Header, buffers: Sequence[Buffer]) -> None:
        """Take a piece of the answer."""
        if header.get("no_endpoint"):
            if not self.response.done():
                self.response.set_exception(EndpointNotFoundError(header["broken"]))
            return
        if "broken" in header:
            self.fail(f"No answer: {header['broken']}.")
            return
        self._status = header.get("status", self._status)
        self._headers |= {name.lower(): value for name, value in header.get("headers", ())}
        self._pieces.append(frames.take(header, buffers))
        if not header["more"] and not self.response.done():
            self.response.set_result(HttpResponse(self._status, self._headers, b"".join(self._pieces)))

    def fail(self, reason: str) -> None:
        """End it without an answer."""
        if not self.response.done():
            self.response.set_exception(EngineError(reason))


class LocalEndpoint:
    """An endpoint of the engine."""

    def __init__(self, backend: LocalBackend, endpoint_id: str, *, url: str, simulated: bool) -> None:
        self.id = endpoint_id
        self.url = url
        self.simulated = simulated
        self._backend = backend

    def run(self, request: JobRequest, on_event: OnEvent) -> None:
        """Submit a job."""
        self._backend.submit(self.id, request, on_event)

    def cancel(self, job_id: str) -> None:
        """Cancel a job."""
        self._backend.cancel(job_id)

    def release(self, instance: str) -> None:
        """Forget a remote object."""
        self._backend.release(instance)

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Send a request to a worker."""
        client = await self._backend.client()
        try:
            return await client.request(self.id, request)
        except EndpointNotFoundError:  # no worker has seen the request
            note = await self._backend.make_again(self.id)
        client = await self._backend.client()
        return replace(await client.request(self.id, request), note=note)


@dataclass(slots=True)
class _OpenJob:
    """A job that has not finished here: what was sent, and from which number on its events are new.

    The engine keeps the result until it is told that it was taken: that its names were bound, if it
    `is_kept`, else that it has arrived.
    """

    header: Header
    buffers: Sequence[Buffer]
    on_event: OnEvent
    is_kept: bool
    seen: int = 0
    is_cancelled: bool = False


class LocalBackend:
    """The engine of these settings, started when first needed."""

    name = "local"
    runs_images = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.created: set[str] = set()
        self._client_id = secrets.token_hex(6)
        self._client: EngineClient | None = None
        self._connecting: asyncio.Lock | None = None
        self._open_jobs: dict[str, _OpenJob] = {}
        self._instances: set[str] = set()
        self._resuming: asyncio.Task[None] | None = None
        self._restarts: deque[float] = deque(maxlen=MAX_RESTARTS)
        self._specs: dict[str, EndpointSpec] = {}
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def ensure(self, spec: EndpointSpec) -> LocalEndpoint:
        """Create or update the endpoint in the engine."""
        client = await self.client()
        answer = await client.call("ensure", spec=_wire(spec))
        self._specs[answer["id"]] = spec
        if answer["created"]:
            self.created.add(answer["id"])
        return LocalEndpoint(self, answer["id"], url=answer["url"], simulated=answer["simulated"])

    def attach(self, job_id: str, on_event: OnEvent) -> None:
        """Replay and follow a job; one that is followed here already is not replayed."""
        known = self._open_jobs.get(job_id)
        if known is not None:
            known.on_event = _both(known.on_event, on_event)
            return
        self._open_jobs[job_id] = _OpenJob(
            {"type": "watch", "job": job_id, "seen": 0}, (), on_event, is_kept=True
        )
        if self._client is None or self._client.closed.done():
            self._resume()
        else:
            self._send_job(self._client, job_id)

    def received(self, job_id: str) -> None:
        """Have the engine delete the result's file."""
        if self._client is not None:
            self._client.received(job_id)

    async def retry(self, job_id: str, on_event: OnEvent) -> None:
        """Run a job again, and follow it."""
        client = await self.client()
        await client.call("retry", job_id=job_id, client_id=self._client_id)
        self.attach(job_id, on_event)

    async def endpoints(self) -> Sequence[EndpointInfo]:
        """List the engine's endpoints; an engine that does not run is not started."""
        try:
            client = self._client or await connect(self.settings, self._client_id, start=False)
        except EngineError:
            return []
        try:
            answer = await client.call("endpoints")
        finally:
            if client is not self._client:
                client.close()
        return [_endpoint_info(each) for each in answer]

    async def offers(self) -> Offers:
        """Return the shipped prices: here nothing costs anything."""
        return shipped_offers("simulated on this machine: nothing is paid", is_simulated=True)

    async def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint of the engine; its unfinished jobs are cancelled."""
        client = await self.client()
        await client.call("delete", endpoint_id=endpoint_id)

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
                self._client = await connect(self.settings, self._client_id, instances=[*self._instances])
                self._client.on_no_endpoint = self._endpoint_is_gone
                self._spawn(self._watch(self._client))
            return self._client

    def submit(self, endpoint_id: str, request: JobRequest, on_event: OnEvent) -> None:
        """Send a job now, or when the engine is back."""
        header: Header = {
            "type": "submit",
            "job": request.job_id,
            "endpoint": endpoint_id,
            "needs": {
                "python": request.python or self.settings.python,
                "requirements": list(request.requirements),
                "system": list(request.system),
                "instance": request.instance,
            },
        }
        for name, value in (("timeout", request.timeout_s), ("ttl", request.ttl_s)):
            if value is not None:
                header[name] = value
        if request.allow_apt or self.settings.allow_apt:
            header["allow_apt"] = list(request.system)
        if request.durable:
            header["sync"] = True
        if not request.accelerate_downloads:
            header["accelerate"] = False
        content = request.request
        if request.webhook is not None:
            header["webhook"] = request.webhook
            content = {**content, "in_band": True}
        client = self._client
        assert client is not None  # `ensure` made this endpoint
        payload = [json.dumps(content).encode(), *request.buffers]
        header, buffers = frames.spill(header, payload, client.spill_folders)
        self._open_jobs[request.job_id] = _OpenJob(header, buffers, on_event, is_kept=request.durable)
        if request.instance is not None:
            self._instances.add(request.instance)
        if client.closed.done():
            self._resume()
        else:
            self._send_job(client, request.job_id)

    def cancel(self, job_id: str) -> None:
        """Cancel a job, now or when the engine is back."""
        job = self._open_jobs.get(job_id)
        if job is not None:
            job.is_cancelled = True
        self._tell({"type": "cancel", "job": job_id})

    def release(self, instance: str) -> None:
        """Forget a remote object."""
        self._instances.discard(instance)
        self._tell({"type": "release", "instance": instance})

    async def make_again(self, endpoint_id: str) -> str:
        """Make an endpoint again that was deleted; return a line for people unless another job did.

        Raises:
            BackendError: It cannot be had.
        """
        spec = self._specs[endpoint_id]
        client = await self.client()
        answer = await client.call("ensure", spec=_wire(spec))
        if not answer["created"]:
            return ""
        return f"flash_nb: the endpoint {spec.name!r} had been deleted; it was made again.\n"

    def _endpoint_is_gone(self, job_id: str) -> None:
        self._spawn(self._submit_again(job_id))

    async def _submit_again(self, job_id: str) -> None:
        job = self._open_jobs[job_id]
        try:
            note = await self.make_again(job.header["endpoint"])
            client = await self.client()
        except FlashError as error:
            if job_id in self._open_jobs:
                self._fail_open_job(job_id, f"its endpoint was deleted and cannot be made again: {error}")
            return
        if job_id not in self._open_jobs:  # the engine died meanwhile, and was given up
            return
        if note:
            job.on_event(StreamEvent("stderr", note))  # a phase is not shown where a function was called
        self._send_job(client, job_id)

    def _tell(self, header: Header) -> None:
        if self._client is not None:
            self._client.send(header)

    def _send_job(self, client: EngineClient, job_id: str) -> None:
        job = self._open_jobs[job_id]

        def relay(event: JobEvent, number: int | None) -> None:
            if isinstance(event, FinishedEvent):
                self._open_jobs.pop(job_id, None)
                if not job.is_kept:
                    client.received(job_id)
            elif number is not None:
                if number < job.seen:  # a worker that comes back repeats its last items
                    return
                job.seen = number + 1
            job.on_event(event)

        client.follow(job_id, relay)
        client.write(frames.encode(job.header, job.buffers))
        if job.is_cancelled:
            client.send({"type": "cancel", "job": job_id})

    async def _watch(self, client: EngineClient) -> None:
        """Have the engine back at once if it died, and when somebody starts it if it was stopped."""
        await client.closed
        while client.stopped and self._is_needed() and self._client is client:
            for job in self._open_jobs.values():
                job.on_event(PhaseEvent("the engine was stopped: waiting for it to be started again"))
            await asyncio.sleep(STOPPED_POLL_S)
            if read_state(self.settings) is not None:
                break
        if self._is_needed() and self._client is client:
            self._resume()

    def _is_needed(self) -> bool:
        return bool(self._open_jobs or self._instances) and not self._closing

    def _resume(self) -> None:
        if self._resuming is None or self._resuming.done():
            self._resuming = self._spawn(self._reconnect())

    async def _reconnect(self) -> None:
        """Start the engine if need be, and submit again what is unfinished."""
        reason: object = f"it died {MAX_RESTARTS} times"
        while self._may_restart():
            try:
                client = await self.client()
                for spec in self._specs.values():
                    await client.call("ensure", spec=_wire(spec))
            except FlashError as error:
                reason = error
                continue
            for job_id, job in list(self._open_jobs.items()):
                job.header = {**job.header, "seen": job.seen}
                self._send_job(client, job_id)
            return
        log = self.settings.log_file
        self._fail_open_jobs(f"the engine cannot be started again: {reason}; its log says why: {log}")

    def _may_restart(self) -> bool:
        """Count a restart; False if there were too many of late."""
        now = time.monotonic()
        if len(self._restarts) == MAX_RESTARTS and now - self._restarts[0] < RESTARTS_WINDOW_S:
            return False
        self._restarts.append(now)
        return True

    def _fail_open_jobs(self, error: str) -> None:
        for job_id in list(self._open_jobs):
            self._fail_open_job(job_id, error)

    def _fail_open_job(self, job_id: str, error: str) -> None:
        job = self._open_jobs.pop(job_id)
        info = JobInfo(job_id, job.header.get("endpoint", ""), JobStatus.FAILED, 0.0, error=error)
        job.on_event(FinishedEvent(info, None, ()))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def connect(
    settings: Settings, client_id: str, *, start: bool = True, instances: Sequence[str] = ()
) -> EngineClient:
    """Open a stream to the engine, which is started if it does not run.

    Raises:
        EngineError: It does not run and `start` is false, or it does not come up.
    """
    client = await _try_connect(settings, client_id, instances)
    if client is not None:
        return client
    if not start:
        raise EngineError("The engine is not running.", hint="Start it: flash engine start")
    process = start_engine(settings)
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_at:
        client = await _try_connect(settings, client_id, instances)
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


async def _try_connect(settings: Settings, client_id: str, instances: Sequence[str]) -> EngineClient | None:
    state = read_state(settings)
    if state is None:
        return None
    with contextlib.suppress(OSError, EngineError):
        return await EngineClient.open(state, client_id, instances)
    return None


def _both(first: OnEvent, second: OnEvent) -> OnEvent:
    def tell(event: JobEvent) -> None:
        first(event)
        second(event)

    return tell


_SCALING = (
    "workers_min",
    "workers_max",
    "idle_timeout_s",
    "timeout_s",
    "queue_delay_s",
    "requests_per_worker",
)


def _wire(spec: EndpointSpec) -> dict[str, Any]:
    wire = asdict(replace(spec, wire={}))
    scaling = {name: wire.pop(name) for name in _SCALING}
    del wire["allow_apt"], wire["wire"]
    sequences = {"requirements": sorted(spec.requirements), "system": sorted(spec.system)}
    return {**wire, **sequences, "env": dict(spec.env), "scaling": scaling}


def _endpoint_info(described: dict[str, Any]) -> EndpointInfo:
    workers = dict(described["counts"])
    jobs = {"inQueue": workers.pop("inQueue")}
    return EndpointInfo(
        id=described["id"],
        name=described["name"],
        note=described["hardware"],
        workers_min=described["scaling"]["workers_min"],
        workers_max=described["scaling"]["workers_max"],
        workers=workers,
        jobs=jobs,
        is_ours=True,
    )


def _info(snapshot: dict[str, Any]) -> JobInfo:
    return JobInfo(**{**snapshot, "status": JobStatus(snapshot["status"])})


def _event(event: dict[str, Any]) -> JobEvent:
    match event["type"]:
        case "stored":
            return StoredEvent()
        case "status":
            return StatusEvent(_info(event["snapshot"]))
    return worker_event(event)


def _rebuild(error: dict[str, Any]) -> FlashError:
    kind = getattr(errors, error["type"], BackendError)
    rebuilt: FlashError = kind(error["message"], hint=error["hint"])
    return rebuilt
