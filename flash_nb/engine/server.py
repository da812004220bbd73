"""The server: performs the machine's actions and feeds it what happens.

Everything runs on one event loop. Slow work (uv, the disk) is awaited in tasks; their outcomes come
back as events.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flash_nb.engine import answer, hardware
from flash_nb.engine.apps import Apps
from flash_nb.engine.artifacts import Artifacts
from flash_nb.engine.balance import Request
from flash_nb.engine.channel import Peer, listen, private_folder
from flash_nb.engine.control import Control
from flash_nb.engine.deployments import Deployments
from flash_nb.engine.environments import (
    Environments,
    EnvironmentSpec,
    install_system_packages,
    missing_system_packages,
)
from flash_nb.engine.events import (
    Action,
    BuildEnvironment,
    CancelRequested,
    ClientCame,
    ClientLeft,
    DropInstance,
    EnvironmentFailed,
    EnvironmentReady,
    Event,
    InstanceReleased,
    JobChanged,
    JobFinished,
    JobRetried,
    JobsReturned,
    JobSubmitted,
    KillWorker,
    PhaseChanged,
    RecallJobs,
    RefuseRequest,
    RequestArrived,
    RequestEnded,
    SendCancel,
    SendJob,
    SendRequest,
    StartWorker,
    StopWorker,
    Tick,
    WorkerConnected,
    WorkerLost,
)
from flash_nb.engine.machine import (
    TICK_S,
    Machine,
)
from flash_nb.engine.processes import Processes, WorkerStart, inherited
from flash_nb.engine.state import (
    Job,
    Needs,
    is_ours,
    public_id,
)
from flash_nb.engine.store import MAX_EVENTS_PER_JOB, Store, spill_path
from flash_nb.errors import BackendError, FlashError
from flash_nb.jobs import RETRYABLE, JobStatus
from flash_nb.settings import Settings
from flash_nb.version import __version__
from flash_nb.worker import frames
from flash_nb.worker.frames import Buffer, FrameReader, Header

if TYPE_CHECKING:
    from flash_nb.engine.http import HttpDoor

STATUS_DELAY_S = 0.01
CLIENT_GRACE_S = 10.0
DEFAULT_TTL_S = 24 * 3600.0
RETENTION_S = 24 * 3600.0
PRUNE_EVERY_S = 600.0
SLOW_BYTES = 100_000  # from here on JSON is made in a thread
EVENTS_PER_ATTEMPT = 1_000_000_000
KEPT_BYTES = 500_000_000


@dataclass(slots=True)
class _OpenRequest:
    """A request that is not answered yet: its frame for the worker, and who takes the answer."""

    endpoint_id: str
    frame: bytes
    answer: Callable[[Header, Sequence[Buffer]], None]
    is_answering: bool = False


class Announcement(Protocol):
    """How others learn where the engine is."""

    def publish(self, url: str) -> None:
        """Say that the engine can be reached."""

    def keep(self) -> bool:
        """Say it again where it was lost; False if the engine's place is taken."""

    def withdraw(self) -> None:
        """Take it back: the engine ends."""


class Server:
    """One engine.

    Args:
        settings: Its home, its cache, when it ends by itself.
        token: What every peer must know.
        url: Where it listens.
        on_text: Told the id of an endpoint, and what its jobs print and how its workers end.
    """

    def __init__(
        self,
        settings: Settings,
        token: str,
        url: str,
        on_text: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        home = settings.home
        self.settings = settings
        self.token = token
        self.url = url
        self.started_at = time.time()
        self.machine = Machine(seed=secrets.token_hex(3))
        self.store = Store(home / "engine.sqlite")
        self.control = Control(self)
        self.apps = Apps(self.store, lambda: self.control.endpoints)
        self.artifacts = Artifacts(self)
        self.deployments = Deployments(self)
        self.environments = Environments(settings.cache / "environments")
        self.gpus = hardware.gpus()
        self._processes = Processes(settings.cache / "worker")
        self.spill_folders = _spill_folders(home)
        self.port_file = home / "http.port"
        self.progress: dict[str, Any] = {}  # what running jobs last said of themselves, by public id
        self._http: HttpDoor | None = None
        self._on_text = on_text
        self._open_requests: dict[str, _OpenRequest] = {}
        self._clients: dict[str, Peer] = {}
        self._workers: dict[str, Peer] = {}
        self._gpus_in_use: dict[str, frozenset[int]] = {}
        self._watchers: dict[str, set[Peer]] = {}
        self._requests: dict[str, bytes] = {}
        self._runs: dict[str, str] = {}  # of retried jobs: see `Job`
        self._results: dict[str, tuple[Header, Sequence[Buffer]]] = {}
        self._event_counts: dict[str, int] = {}
        self._endings: dict[str, asyncio.Event] = {}
        self._changed: dict[str, Job] = {}
        self._apt_allowed: set[str] = set()
        self._kept = _KeptFiles()
        self._webhooks = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._idle_since = time.time()

    # --- life ---------------------------------------------------------------------------------

    async def run(self, announcement: Announcement) -> None:
        """Serve until `stop`, or until nobody has needed the engine for `engine_idle_s`.

        Args:
            announcement: Told the URL once the engine can be reached, and when it no longer can.
        """
        door, self.url = await listen(self.url, lambda: Peer(self.token, self._accept))
        self._restore()
        self.spawn(self.store.run())
        announcement.publish(self.url)
        self.spawn(self._prune())
        self.spawn(self._keep_time(announcement))
        await self._stopping.wait()
        ours = announcement.keep()
        announcement.withdraw()
        door.close()
        if ours and self.url.startswith("unix:"):
            Path(self.url.removeprefix("unix:")).unlink(missing_ok=True)
        for client in self._clients.values():
            client.send({"type": "stopping"})
        for over in self._endings.values():
            over.set()
        for request in [*self._open_requests.values()]:
            request.answer({"more": False, "broken": "the engine ends"}, ())
        if self._http is not None:
            self._http.takers.close()
            await self._http.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker_id in self._processes:
            self._processes.kill(worker_id)
        await self._processes.gone()
        for job in self.machine.suspend():
            self.store.save_job(job, self._requests.get(job.id), None)
        self.store.close()
        for folder in self.spill_folders:
            with contextlib.suppress(OSError):  # results wait in it to be taken
                Path(folder).rmdir()

    def stay_awake(self) -> None:
        """Take note that somebody needs the engine who holds no stream to it."""
        self._idle_since = time.time()

    def stop(self) -> None:
        """End the engine and its workers; unfinished jobs stay stored and go on in the next one."""
        self._stopping.set()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine; what it raises ends the engine with a traceback in its log."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    @property
    def http(self) -> HttpDoor:
        """The HTTP door; it is opened when somebody first asks."""
        if self._http is None:
            from flash_nb.engine.http import HttpDoor  # a tenth of a second that most do not need

            self._http = HttpDoor(self, self.port_file)
            self.spawn(self._http.serve())
        return self._http

    def http_url(self) -> str:
        """Return where the HTTP door is; it is opened when somebody first asks."""
        return self.http.url

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a task of the engine failed", "exception": error, "task": task}
            )
            self.stop()

    def _restore(self) -> None:
        self.apps.restore()
        self.control.restore()
        self.deployments.restore()
        self._event_counts = self.store.event_counts()
        for job, frame in self.store.webhooks_due():
            self.spawn(self._tell_webhook(job, frame))
        known = []
        for job, request in self.store.unfinished():
            self._requests[job.id] = request
            self._runs[job.public_id] = job.id
            if job.endpoint_id in self.machine.endpoints:
                known.append(job)
            else:
                self._fail(job, f"its endpoint {job.endpoint_id} does not exist any more")
        self.machine.restore(known, time.time())
        for worker_id in list(self.machine.workers):
            if self._processes.has_ended(self._log(worker_id)):
                self.post(WorkerLost(worker_id, "gone with the engine before"))

    async def _keep_time(self, announcement: Announcement) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self._stopping.is_set():  # it is withdrawn: not to be said again
                return
            if not announcement.keep():
                print("another engine has this home now, or the home is gone: ending", flush=True)
                self.stop()
            if not self.machine.is_idle or self._clients or self._webhooks:
                self._idle_since = time.time()
            elif time.time() - self._idle_since > self.settings.engine_idle_s:
                self.stop()
            self.post(Tick())

    async def _prune(self) -> None:
        while True:
            await self.store.flushed()
            self.store.prune(time.time() - RETENTION_S)
            self._remove_old_files(time.time() - RETENTION_S)
            await self.deployments.remove_unused(time.time() - RETENTION_S)
            await asyncio.sleep(PRUNE_EVERY_S)

    def _remove_old_files(self, before: float) -> None:
        needed = {spill_path(request) for request in self._requests.values()}
        for folder in (*map(Path, self.spill_folders), self.settings.home / "workers"):
            for path in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):  # whoever owns it was faster
                    if path.stat().st_mtime < before and str(path) not in needed:
                        path.unlink()

    # --- the machine --------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Feed an event to the machine and perform what it answers."""
        for action in self.machine.handle(event, time.time()):
            self._perform(action)

    def _perform(self, action: Action) -> None:
        match action:
            case JobChanged(job):
                self._job_changed(job)
            case SendJob(worker_id, job_id):
                self._send_job(worker_id, job_id)
            case SendRequest(worker_id, request_id):
                self._send_request(worker_id, request_id)
            case RefuseRequest():
                self._refuse_request(action)
            case SendCancel(worker_id, job_id):
                self._send_cancel(worker_id, job_id)
            case RecallJobs(worker_id):
                self._tell(worker_id, {"type": "recall"})
            case StopWorker(worker_id):
                self._tell(worker_id, {"type": "stop"})
            case DropInstance(worker_id, instance_id):
                if self._http is not None and not is_ours(worker_id):
                    self._http.takers.drop(worker_id, instance_id)
                self._tell(worker_id, {"type": "drop", "instance": instance_id})
            case KillWorker(worker_id):
                self._processes.kill(worker_id)
            case PhaseChanged(job_id, phase):
                self._tell_phase(job_id, phase)
            case BuildEnvironment(environment):
                self.spawn(self._build(environment))
            case StartWorker():
                self.spawn(self._start_worker(action))

    def _send_job(self, worker_id: str, job_id: str) -> None:
        if self._http is not None and not is_ours(worker_id):
            self._http.takers.give(worker_id, job_id)
        peer = self._workers.get(worker_id)
        if peer is not None:  # else its loss is being reported, and the job will wait again
            peer.write(self._requests[job_id])

    def _send_cancel(self, worker_id: str, job_id: str) -> None:
        if self._http is not None and not is_ours(worker_id):
            self._http.takers.stop(worker_id)
        self._tell(worker_id, {"type": "cancel", "job": job_id})

    def _tell(self, worker_id: str, header: Header) -> None:
        peer = self._workers.get(worker_id)
        if peer is not None:
            peer.send(header)

    # --- requests -----------------------------------------------------------------------------

    def why_not_balanced(self, endpoint_id: str) -> str:
        """Return why an endpoint takes no HTTP requests; empty if it does."""
        spec = self.control.endpoints.get(endpoint_id)
        if spec is None:
            return f"There is no endpoint {endpoint_id!r}; flash endpoints lists them."
        if not spec["balanced"]:
            return f"The endpoint {spec['name']!r} has a queue and no routes."
        if reason := self.deployments.why_not_served(spec):
            return reason
        if not spec["app"]:
            return f"The endpoint {spec['name']!r} has no routes yet: nobody said what it serves."
        return ""

    def begin_request(
        self,
        request_id: str,
        endpoint_id: str,
        header: Header,
        buffers: Sequence[Buffer],
        answer: Callable[[Header, Sequence[Buffer]], None],
    ) -> None:
        """Send a request to a worker of a load-balanced endpoint; `answer` gets what it says.

        The last header that `answer` gets has a false ``more``; with ``broken``, a reason, the
        answer is not whole.
        """
        frame = frames.encode({**header, "type": "request", "request": request_id}, buffers)
        self._open_requests[request_id] = _OpenRequest(endpoint_id, frame, answer)
        timeout_s = self.control.endpoints[endpoint_id]["scaling"]["timeout_s"]
        deadline = time.time() + timeout_s if timeout_s else None
        self.post(RequestArrived(Request(request_id, endpoint_id, deadline)))

    def end_request(self, request_id: str) -> None:
        """Take note that nobody waits for an answer any more."""
        request = self._open_requests.pop(request_id, None)
        if request is not None:
            for worker in self._workers.values():
                worker.send({"type": "abort", "request": request_id})
            self.post(RequestEnded(request.endpoint_id, request_id))

    def _send_request(self, worker_id: str, request_id: str) -> None:
        peer = self._workers.get(worker_id)
        if peer is not None:  # else its loss is being reported, and the request will be refused
            peer.write(self._open_requests[request_id].frame)

    def _refuse_request(self, action: RefuseRequest) -> None:
        self._tell(action.worker_id, {"type": "abort", "request": action.request_id})
        request = self._open_requests.pop(action.request_id)
        if request.is_answering:
            request.answer({"more": False, "broken": action.reason}, ())
            return
        headers = [("content-type", "application/json")]
        body = json.dumps({"detail": action.reason}).encode()
        request.answer({"status": action.status, "headers": headers, "more": False}, [body])

    def _take_response(self, header: Header, buffers: Sequence[Buffer]) -> None:
        request = self._open_requests.get(header["request"])
        if request is None:
            if path := header.get("spill", {}).get("path"):
                Path(path).unlink(missing_ok=True)
            return
        request.is_answering = True
        if not header["more"]:
            del self._open_requests[header["request"]]
            self.post(RequestEnded(request.endpoint_id, header["request"]))
        request.answer(header, buffers)

    # --- jobs ---------------------------------------------------------------------------------

    def _job_changed(self, job: Job) -> None:
        if job.status.is_final:
            self._changed.pop(job.id, None)
            self._deliver(job)
            return
        self.store.save_job(job, self._requests.get(job.id), None)
        if not self._changed:
            asyncio.get_running_loop().call_later(STATUS_DELAY_S, self._tell_changes)
        self._changed[job.id] = job

    def _tell_changes(self) -> None:
        """Tell statuses a little late: a job that is over by then needs no word but its result.

        That a new job is queued is no news to who submitted it.
        """
        changed, self._changed = self._changed, {}
        for job in changed.values():
            if job.attempts:
                self._tell_watchers(job.public_id, {"type": "status", "snapshot": snapshot(job)})

    def _deliver(self, job: Job) -> None:
        result, buffers = self._results.pop(job.id, ({}, ()))
        header = {**result, "type": "done", "job": job.public_id, "snapshot": snapshot(job)}
        frame = frames.encode(header, buffers)
        for peer in self._watchers.pop(job.public_id, ()):
            peer.write(frame)
        self._event_counts.pop(job.public_id, None)
        self.progress.pop(job.public_id, None)
        self._runs.pop(job.public_id, None)
        if over := self._endings.pop(job.public_id, None):
            over.set()
        if self._http is not None:
            self._http.takers.forget(job.id)
        request = self._requests.pop(job.id, None)
        if job.status in RETRYABLE:
            self._kept.add(spill_path(request))
        else:
            _forget(request)
            request = None
        self.store.save_job(job, request, frame)
        if job.webhook:
            self.spawn(self._tell_webhook(replace(job), frame))

    async def _tell_webhook(self, job: Job, frame: bytes) -> None:
        """Post the end of a job to who wanted to know; if the engine dies first, the next one does."""
        from flash_nb.engine import webhook

        self._webhooks += 1
        body = await self.answer(job, frame)
        if reason := await webhook.post(job.webhook, body):
            print(f"the webhook of job {job.public_id} was given up: {reason}", flush=True)
        self.store.webhook_done(job.public_id)
        self._webhooks -= 1

    async def answer(self, job: Job, frame: bytes | None) -> bytes:
        """Return what Runpod's ``/status`` says of a job; see `flash_nb.engine.answer`."""
        text = ""
        if frame is not None:
            await self.store.flushed()
            text = self.store.text(job.public_id)
        spec = self.control.endpoints.get(job.endpoint_id, {})
        brings_code = not spec.get("app")

        def make() -> bytes:
            status = answer.status_of(job, frame, text, is_live=brings_code)
            if job.public_id in self.progress and not job.status.is_final:
                status["output"] = self.progress[job.public_id]
            return json.dumps(status).encode()

        return await asyncio.to_thread(make) if len(frame or b"") > SLOW_BYTES else make()

    async def ended(self, job_id: str, timeout_s: float) -> None:
        """Wait until a job is over, or the engine ends; for so many seconds at most."""
        if self._run_of(job_id) in self.machine.jobs and not self._stopping.is_set():
            over = self._endings.setdefault(job_id, asyncio.Event())
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(over.wait(), timeout_s)

    async def retry(self, job_id: str, client_id: str) -> None:
        """Run a job again that ended without completing; what it printed and yielded before is forgotten.

        Raises:
            BackendError: It cannot be run again.
        """
        await self.store.flushed()
        found, request = self.store.job(job_id), self.store.request(job_id)
        if found is None:
            raise BackendError(
                f"The engine has no job {job_id}.",
                hint=f"It forgets them {RETENTION_S / 3600:g} h after their end.",
            )
        job, result = found
        if why := self._why_not_retried(job, request):
            raise BackendError(f"The job {job_id} cannot be retried: {why}.")
        assert request is not None
        _forget(result)
        self._kept.discard(spill_path(request))
        self.store.forget_events(job_id)
        job.client_id = client_id
        run = self._runs[job_id] = job.next_run_id
        self._requests[run] = frames.encode({**frames.header_of(request), "job": run}, _buffers(request))
        self.post(JobRetried(job))

    def _run_of(self, job_id: str) -> str:
        """Return the machine's id for the job that clients know by this one."""
        return self._runs.get(job_id, job_id)

    def _why_not_retried(self, job: Job, request: bytes | None) -> str:
        if job.status not in RETRYABLE:
            return f"it is {job.status.value}"
        if job.endpoint_id not in self.machine.endpoints:
            return "its endpoint does not exist any more"
        path = spill_path(request)
        if request is None or (path is not None and not Path(path).exists()):
            return "its arguments are not kept any more"
        return ""

    async def forget_requests(self, endpoint_id: str) -> None:
        """Delete what was kept to retry the jobs of an endpoint that is gone."""
        await self.store.flushed()
        for request in self.store.forget_requests(endpoint_id):
            self._kept.discard(spill_path(request))
            _forget(request)

    def _tell_phase(self, job_id: str, phase: str) -> None:
        self._tell_watchers(public_id(job_id), {"type": "phase", "phase": phase})

    def _tell_watchers(self, job_id: str, event: dict[str, Any], number: int | None = None) -> None:
        watchers = self._watchers.get(job_id)
        if watchers:
            frame = frames.encode({"type": "event", "job": job_id, "event": event, "number": number})
            for peer in watchers:
                peer.write(frame)

    # --- environments and workers -------------------------------------------------------------

    async def _build(self, environment: Needs) -> None:
        def progress(text: str) -> None:
            for job_id in self.machine.waiting_for(environment):
                self._tell_phase(job_id, text)

        try:
            await self._provide_system(environment, progress)
            await self.environments.build(
                _spec(environment), progress, parallel=self._may_download_in_parallel(environment)
            )
        except (FlashError, OSError) as error:
            self.post(EnvironmentFailed(environment, str(error)))
        else:
            self.post(EnvironmentReady(environment))

    def _may_download_in_parallel(self, environment: Needs) -> bool:
        """Tell if anybody who waits for an environment wants it fast; nobody who waits says no."""
        requests = [self._requests[job_id] for job_id in self.machine.waiting_for(environment)]
        return not requests or any(frames.header_of(r).get("accelerate", True) for r in requests)

    async def _provide_system(self, environment: Needs, progress: Callable[[str], None]) -> None:
        if not environment.system:
            return
        missing = await missing_system_packages(sorted(environment.system))
        if not missing:
            return
        if not self._apt_allowed.issuperset(missing):
            raise FlashError(
                f"System packages are missing on this machine: {', '.join(missing)}.",
                hint="Install them, or let flash_nb do it: --allow-apt (needs the right to run apt-get).",
            )
        await install_system_packages(missing, progress)

    async def _start_worker(self, action: StartWorker) -> None:
        worker_id, environment = action.worker_id, action.environment
        spec = self.control.endpoints[action.endpoint_id]
        log = self._log(worker_id)
        try:
            built = await self.environments.build(_spec(environment), lambda _: None)
            await self._processes.start(
                WorkerStart(
                    worker_id=worker_id,
                    endpoint_id=action.endpoint_id,
                    python=built.python,
                    folder=self.settings.home / "endpoints" / action.endpoint_id,
                    variables=self._variables(action, built.variables(inherited(os.environ))),
                    settings={
                        "app": spec["app"],
                        "url": self.url,
                        "token": self.token,
                        "worker": worker_id,
                        "endpoint": action.endpoint_id,
                        "python": environment.python,
                        "requirements": sorted(environment.requirements),
                        "system": sorted(environment.system),
                        "spill_folders": self.spill_folders,
                    },
                    log=log,
                )
            )
        except (OSError, FlashError) as error:
            self._worker_gone(worker_id, f"not started: {error}")
            return
        reason = await self._processes.wait(worker_id)
        self._worker_gone(worker_id, reason + _tail(log))

    def _log(self, worker_id: str) -> Path:
        return self.settings.home / "workers" / f"{worker_id}.log"

    def _variables(self, action: StartWorker, environment: dict[str, str]) -> dict[str, str]:
        spec = self.control.endpoints[action.endpoint_id]
        variables = {**environment, **self.deployments.variables(spec), **spec["env"]}
        if spec["volume"]:
            folder = self.settings.home / "volumes" / spec["volume"]
            folder.mkdir(parents=True, exist_ok=True)
            variables["RUNPOD_VOLUME_PATH"] = str(folder)
        if spec["gpu_count"] and self.gpus:
            chosen = hardware.assign(self._gpus_in_use, spec["gpu_count"], [gpu.index for gpu in self.gpus])
            variables["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order in which nvidia-smi counts them
            self._gpus_in_use[action.worker_id] = frozenset(chosen)
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, chosen))
        else:
            variables["CUDA_VISIBLE_DEVICES"] = ""
        return variables

    def _worker_gone(self, worker_id: str, reason: str) -> None:
        self._gpus_in_use.pop(worker_id, None)
        self._workers.pop(worker_id, None)
        if worker := self.machine.workers.get(worker_id):
            self._on_text(worker.endpoint_id, f"worker {worker_id}: {reason.splitlines()[0]}\n")
        self.post(WorkerLost(worker_id, reason))

    # --- the channel --------------------------------------------------------------------------

    def _accept(self, peer: Peer, hello: Header) -> Callable[[Header, Sequence[Buffer]], None] | None:
        if hello["type"] == "client":
            return self._accept_client(peer, hello)
        if hello["type"] == "worker":
            return self._accept_worker(peer, hello)
        return None

    def _accept_client(self, peer: Peer, hello: Header) -> Callable[[Header, Sequence[Buffer]], None]:
        client_id: str = hello["client"]
        self._clients[client_id] = peer
        self.post(ClientCame(client_id, tuple(hello["instances"])))
        peer.on_close = lambda: self._client_closed(peer, client_id)
        peer.send(
            {
                "type": "welcome",
                "version": __version__,
                "pid": os.getpid(),
                "spill_folders": self.spill_folders,
            }
        )
        return lambda header, buffers: self._from_client(peer, client_id, header, buffers)

    def _client_closed(self, peer: Peer, client_id: str) -> None:
        for watchers in self._watchers.values():
            watchers.discard(peer)
        if self._clients.get(client_id) is peer:
            del self._clients[client_id]
            loop = asyncio.get_running_loop()
            loop.call_later(CLIENT_GRACE_S, self._forget_client, client_id)

    def _forget_client(self, client_id: str) -> None:
        if client_id not in self._clients:
            self.post(ClientLeft(client_id))

    def _from_client(self, peer: Peer, client_id: str, header: Header, buffers: Sequence[Buffer]) -> None:
        match header["type"]:
            case "submit":
                self._submit(peer, client_id, header, buffers)
            case "cancel":
                self.post(CancelRequested(self._run_of(header["job"])))
            case "release":
                self.post(InstanceReleased(header["instance"]))
            case "received":
                self._forget_result(header["job"])
            case "request":
                self._request_of(peer, header, buffers)
            case "abort":
                self.end_request(header["request"])
            case "watch":
                self.spawn(self._watch(peer, header["job"], header["seen"]))
            case "call":
                self.spawn(self._answer(peer, header))

    def _request_of(self, peer: Peer, header: Header, buffers: Sequence[Buffer]) -> None:
        """Begin a request of a kernel; its answer goes back as it comes."""
        request_id, endpoint_id = header["request"], header["endpoint"]

        def answer(response: Header, body: Sequence[Buffer]) -> None:
            peer.send({**response, "type": "response", "request": request_id}, body)

        if reason := self.why_not_balanced(endpoint_id):
            absent = endpoint_id not in self.control.endpoints
            answer({"more": False, "broken": reason, "no_endpoint": absent}, ())
        else:
            self.begin_request(request_id, endpoint_id, header, buffers, answer)

    async def _answer(self, peer: Peer, header: Header) -> None:
        reply: dict[str, Any] = {"type": "reply", "call": header["call"]}
        try:
            reply["result"] = await self.control.call(header["method"], header["params"])
        except FlashError as error:
            reply["error"] = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        except Exception as error:  # noqa: BLE001 - a client of another version must not end the engine
            message = f"The engine (version {__version__}) cannot answer {header['method']}: {error!r}"
            reply["error"] = {"type": "BackendError", "message": message, "hint": None}
        peer.send(reply)

    def _submit(self, peer: Peer, client_id: str, header: Header, buffers: Sequence[Buffer]) -> None:
        job_id = header["job"]
        if "seen" in header and self.store.job(job_id) is not None:
            self.spawn(self._watch(peer, job_id, header["seen"]))
        elif header["endpoint"] not in self.machine.endpoints:
            peer.send({"type": "no_endpoint", "job": job_id})
            return
        elif self._run_of(job_id) not in self.machine.jobs:
            self._watchers.setdefault(job_id, set()).add(peer)
            self.submit(client_id, header, buffers)
        if header.get("sync"):
            self.spawn(self._confirm(peer, job_id))

    def submit(self, client_id: str, header: Header, buffers: Sequence[Buffer]) -> None:
        """Take a new job, as ``submit`` of the channel brings it, for an endpoint that exists."""
        job_id, needs, now = header["job"], header["needs"], time.time()
        frame = {"type": "job", "job": job_id}
        for name in ("spill", "accelerate"):
            if name in header:
                frame[name] = header[name]
        self._requests[job_id] = frames.encode(frame, buffers)
        self._apt_allowed.update(header.get("allow_apt", ()))
        job = Job(
            id=job_id,
            endpoint_id=header["endpoint"],
            needs=Needs(
                needs["python"],
                frozenset(needs["requirements"]),
                frozenset(needs["system"]),
                needs["instance"],
            ),
            submitted_at=now,
            expires_at=now + (header.get("ttl") or DEFAULT_TTL_S),
            timeout_s=header.get("timeout"),
            client_id=client_id,
            webhook=header.get("webhook", ""),
        )
        reason = self.control.why_nothing_runs(job.endpoint_id)
        if reason and not self.machine.external.of(job.endpoint_id):
            self._fail(job, reason)
        else:
            self.post(JobSubmitted(job))

    def _fail(self, job: Job, error: str) -> None:
        """End a job that the machine never had."""
        job.status, job.ended_at, job.error = JobStatus.FAILED, time.time(), error
        self._job_changed(job)

    async def _confirm(self, peer: Peer, job_id: str) -> None:
        await self.store.flushed()
        peer.send({"type": "event", "job": job_id, "event": {"type": "stored"}, "number": None})

    async def _watch(self, peer: Peer, job_id: str, seen: int) -> None:
        """Send what a job's watcher has not seen: its events from that number on, its state, its end."""
        await self.store.flushed()
        found = self.store.job(job_id)
        if found is None:
            peer.send({"type": "done", "job": job_id, "snapshot": None})
            return
        for number, event in self.store.events(job_id, seen):
            peer.send({"type": "event", "job": job_id, "event": event, "number": number})
        if self._run_of(job_id) in self.machine.jobs:
            self._watchers.setdefault(job_id, set()).add(peer)
            status = {"type": "status", "snapshot": snapshot(found[0])}
            peer.send({"type": "event", "job": job_id, "event": status, "number": None})
        elif found[1] is not None:
            peer.write(found[1])

    def _forget_result(self, job_id: str) -> None:
        """The kernel has mapped the result: its spill file can go."""
        self.spawn(self._delete_spill(job_id))

    async def _delete_spill(self, job_id: str) -> None:
        await self.store.flushed()
        found = self.store.job(job_id)
        path = spill_path(found[1]) if found else None
        if path:
            Path(path).unlink(missing_ok=True)

    def _accept_worker(self, peer: Peer, hello: Header) -> Callable[[Header, Sequence[Buffer]], None]:
        worker_id = hello["worker"]
        self._workers[worker_id] = peer
        self._processes.adopt(worker_id, hello["pid"])
        peer.on_close = lambda: self._worker_closed(peer, worker_id)
        self.post(
            WorkerConnected(
                worker_id,
                hello["endpoint"],
                Needs(hello["python"], frozenset(hello["requirements"]), frozenset(hello["system"])),
                hello["job"],
                tuple(hello["instances"]),
                frozenset(hello["finished"]),
            )
        )
        return lambda header, buffers: self._from_worker(worker_id, header, buffers)

    def _worker_closed(self, peer: Peer, worker_id: str) -> None:
        if self._workers.get(worker_id) is peer:
            del self._workers[worker_id]
            self._processes.kill(worker_id)
            if worker_id not in self._processes:
                self._worker_gone(worker_id, "gone")

    def _from_worker(self, worker_id: str, header: Header, buffers: Sequence[Buffer]) -> None:
        match header["type"]:
            case "done":
                self._done(worker_id, header, buffers)
            case "response":
                self._take_response(header, buffers)
            case "returned":
                self.post(JobsReturned(worker_id, tuple(header["jobs"])))
            case "released":
                self.post(JobFinished(worker_id, header["job"], error="released"))
            case "event":
                self._event(worker_id, header)

    def _done(self, worker_id: str, header: Header, buffers: Sequence[Buffer]) -> None:
        job_id = header["job"]
        job = self.machine.jobs.get(job_id)
        if job is not None and job.worker_id == worker_id:
            self._results[job.id] = ({"spill": header["spill"]} if "spill" in header else {}, buffers)
        elif "spill" in header and not self._is_result(job_id, header["spill"]["path"]):
            Path(header["spill"]["path"]).unlink(missing_ok=True)
        self.post(JobFinished(worker_id, job_id, header["error"]))

    def request_of(self, job_id: str) -> bytes | None:
        """Return what a job that is not over asks of its worker, as a frame."""
        return self._requests.get(job_id)

    def take_event(self, worker_id: str, job_id: str, event: dict[str, Any], number: int) -> None:
        """Take an event of a job from an external worker; numbers of an attempt begin at 0."""
        self._event(worker_id, {"job": job_id, "event": event, "number": number})

    def take_result(
        self, worker_id: str, job_id: str, result: Header, values: Sequence[Buffer], error: str | None
    ) -> None:
        """Take a result from an external worker, as `flash_nb.worker.execution` makes it.

        Args:
            worker_id: The worker.
            job_id: The job.
            result: The header of the result.
            values: Its buffers.
            error: What went wrong; None: nothing.
        """
        is_for_others = "in_band" in result or "json" in result
        limit = frames.IN_BAND_SPILL_BYTES if is_for_others else frames.SPILL_BYTES
        payload = [json.dumps(result).encode(), *values]
        self._done(
            worker_id, *frames.spill({"job": job_id, "error": error}, payload, self.spill_folders, limit)
        )

    def _is_result(self, job_id: str, path: str) -> bool:
        """Say if a job has this result already: a worker sends its last one to the engine that follows."""
        found = self.store.job(public_id(job_id))
        return found is not None and spill_path(found[1]) == path

    def _event(self, worker_id: str, header: Header) -> None:
        """Store an event and pass it on; its worker numbers it: a crash of ours shifts no numbers."""
        job = self.machine.jobs.get(header["job"])
        if job is None or job.worker_id != worker_id:
            return
        event = header["event"]
        if event["type"] == "stream":
            self._on_text(job.endpoint_id, event["text"])
        if event["type"] == "progress":
            self.progress[job.public_id] = event["value"]
            return
        number = (job.former_attempts + job.attempts) * EVENTS_PER_ATTEMPT + header["number"]
        if event["type"] == "item" or self._has_room_for_event(job.public_id):
            self.store.save_event(job.public_id, number, event)
        self._tell_watchers(job.public_id, event, number)

    def _has_room_for_event(self, job_id: str) -> bool:
        """Count an event; False beyond the limit. Items are results and do not count: none may be lost."""
        count = self._event_counts.get(job_id, 0)
        self._event_counts[job_id] = count + 1
        return count < MAX_EVENTS_PER_JOB


def snapshot(job: Job) -> dict[str, Any]:
    """Return a job as `flash_nb.protocol.channel.Snapshot`."""
    return {
        "id": job.public_id,
        "endpoint": job.endpoint_id,
        "status": job.status.value,
        "worker": job.worker_id,
        "attempts": job.attempts,
        "submitted_at": job.submitted_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "queued_s": job.queued_s,
        "cold_s": job.cold_s,
        "run_s": job.run_s,
        "error": job.error,
        "error_type": job.error_type,
    }


class _KeptFiles:
    """The spill files of jobs that could be retried: the newest of them, `KEPT_BYTES` in all.

    They may lie in memory, and who corrects a mistake in a cell with a large input makes many.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}

    def add(self, path: str | None) -> None:
        if path is None:
            return
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)  # what is old is deleted, and its time counts from the end of the job
            self._sizes[path] = Path(path).stat().st_size
        while sum(self._sizes.values()) > KEPT_BYTES:
            oldest = next(iter(self._sizes))
            Path(oldest).unlink(missing_ok=True)
            del self._sizes[oldest]

    def discard(self, path: str | None) -> None:
        self._sizes.pop(path or "", None)


def _forget(frame: bytes | None) -> None:
    """Delete the spill file of a frame that nobody needs any more."""
    if path := spill_path(frame):
        Path(path).unlink(missing_ok=True)


def _buffers(frame: bytes) -> Sequence[Buffer]:
    ((_, buffers),) = FrameReader().feed(frame)
    return buffers


def _spec(environment: Needs) -> EnvironmentSpec:
    return EnvironmentSpec.of(environment.python, sorted(environment.requirements))


def memory_folder(home: Path) -> Path:
    """Return where the engine of a home keeps large buffers in memory, on systems that have such a place."""
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    return Path("/dev/shm") / f"flash-{os.getuid()}-{digest}"  # noqa: S108 - shared memory; it is private


def _spill_folders(home: Path) -> list[str]:
    """Return where large buffers go: memory first, the disk where memory is short."""
    folders = [home / "spill"]
    memory = memory_folder(home)
    if os.access(memory.parent, os.W_OK):
        folders.insert(0, memory)
    for folder in folders:
        private_folder(folder)
    return [str(folder) for folder in folders]


def _tail(log: Path, size: int = 500) -> str:
    with contextlib.suppress(OSError):
        text = log.read_text(errors="replace")[-size:].strip()
        return f"; it last said: {text}" if text else ""
    return ""
