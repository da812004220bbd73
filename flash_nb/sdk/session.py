"""The session: settings, background loop and backend of this process.

There is one, made when first needed; nothing is imported or started before.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import threading
from collections.abc import Callable
from typing import Any

from flash_nb.backends.base import Backend, Endpoint, EndpointSpec, HttpRequest, HttpResponse, JobRequest
from flash_nb.jobs import FinishedEvent, JobEvent, JobInfo, JobStatus, StreamEvent, new_job_id
from flash_nb.loop import LoopThread, Mailbox
from flash_nb.resources.env import parse_env
from flash_nb.resources.serverless import ScalerType, ServerlessResource
from flash_nb.sdk import outputs
from flash_nb.sdk.app import ServedApp
from flash_nb.sdk.job import Decode, Job, Resolve, settled
from flash_nb.settings import Settings, load

CLOSE_TIMEOUT_S = 2.0


class Session:
    """Submits jobs.

    Args:
        settings: Default: those that hold here and now.
        backend: Who runs endpoints. Default: the local engine.
    """

    def __init__(self, settings: Settings | None = None, backend: Backend | None = None) -> None:
        self.settings = settings or load()
        self._backend = backend
        self._thread = LoopThread()
        self._mailbox = Mailbox(self._thread.loop)
        # By identity: hashing a resource by value took a tenth of a warm call. The resource is kept, so
        # that its id is not used again.
        self._endpoints: dict[int, tuple[ServerlessResource, ServedApp | None, Endpoint]] = {}

    @property
    def backend(self) -> Backend:
        """Who runs endpoints."""
        if self._backend is None:
            from flash_nb.backends.local import LocalBackend

            self._backend = LocalBackend(self.settings)
        return self._backend

    def endpoint(self, resource: ServerlessResource, app: ServedApp | None = None) -> Endpoint:
        """Return the endpoint of a resource, created or updated if need be; waits for it.

        Args:
            resource: What its workers run on.
            app: What they serve, if jobs do not bring their code.

        Raises:
            BackendError: It cannot be had.
        """
        return self._known(resource, app) or self._thread.run(self._ensure(resource, app))

    async def request(
        self, resource: ServerlessResource, app: ServedApp | None, request: HttpRequest
    ) -> HttpResponse:
        """Send a request to the endpoint of a resource once; called from any loop.

        Raises:
            BackendError: There was no answer.
        """
        answer = self._thread.submit(self._request(resource, app, request))
        try:
            await settled(answer)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        response = answer.result()
        if response.note:
            outputs.show(StreamEvent("stderr", response.note))
        return response

    def submit(
        self,
        resource: ServerlessResource,
        *,
        label: str,
        request: dict[str, Any],
        decode: Decode,
        resolve: Resolve,
        on_event: Callable[[JobEvent], None] | None = None,
        app: ServedApp | None = None,
        **options: Any,
    ) -> Job:
        """Send a job without waiting for anything.

        Args:
            resource: What it runs on.
            label: What runs, for people.
            request: A `flash_nb.protocol.channel.Request`.
            decode: Makes the output from the last event.
            resolve: Finds classes of ``__main__`` for exceptions.
            on_event: Called on the background loop. Default: show it where `submit` was called.
            app: What the workers serve, if the request does not bring its code.
            **options: Further fields of `JobRequest`.
        """
        job = Job(
            new_job_id(),
            label=label,
            mailbox=self._mailbox,
            decode=decode,
            resolve=resolve,
            on_event=on_event or _show_in_context(),
            retry=self._retry,
        )
        wire = JobRequest(job.id, request, **options)
        endpoint = self._known(resource, app)
        if endpoint is not None:
            self._mailbox.post(lambda: _run(endpoint, wire, job))
        else:
            self._thread.submit(self._ensure_and_run(resource, app, wire, job))
        return job

    def _retry(self, job: Job) -> Job:
        again = job.again(_show_in_context())
        self._thread.run(self.backend.retry(job.id, again.receive))
        return again

    def release(self, resource: ServerlessResource, instance: str) -> None:
        """Forget a remote object."""
        endpoint = self._known(resource)
        if endpoint is not None:
            self._mailbox.post(lambda: endpoint.release(instance))

    def close(self) -> None:
        """Close the connection; jobs go on in the backend."""
        if self._backend is not None:
            self._thread.submit(self._backend.aclose()).result(timeout=CLOSE_TIMEOUT_S)

    async def _request(
        self, resource: ServerlessResource, app: ServedApp | None, request: HttpRequest
    ) -> HttpResponse:
        endpoint = await self._ensure(resource, app)
        return await endpoint.request(request)

    async def _ensure(self, resource: ServerlessResource, app: ServedApp | None = None) -> Endpoint:
        endpoint = self._known(resource, app)
        if endpoint is None:
            endpoint = await self.backend.ensure(endpoint_spec(resource, app))
            self._endpoints[id(resource)] = (resource, app, endpoint)
        return endpoint

    def _known(self, resource: ServerlessResource, app: ServedApp | None = None) -> Endpoint | None:
        found = self._endpoints.get(id(resource))
        return found[2] if found and (app is None or app == found[1]) else None

    async def _ensure_and_run(
        self, resource: ServerlessResource, app: ServedApp | None, wire: JobRequest, job: Job
    ) -> None:
        try:
            endpoint = await self._ensure(resource, app)
        except Exception as error:  # noqa: BLE001 - whoever waits for the job raises it
            job.fail(error)
            return
        _run(endpoint, wire, job)


def _run(endpoint: Endpoint, wire: JobRequest, job: Job) -> None:
    if job.started(endpoint):
        endpoint.run(wire, job.receive)
    else:
        info = JobInfo(job.id, endpoint.id, JobStatus.CANCELLED, 0.0)
        job.receive(FinishedEvent(info, None, ()))


def endpoint_spec(resource: ServerlessResource, app: ServedApp | None = None) -> EndpointSpec:
    """Return what a backend needs to know of a resource.

    The scaler of a queue is only told where the user chose one: by default a backend may start a
    worker for each job that waits, and a worker of this machine costs nothing.
    """
    chosen = resource.model_fields_set & {"scalerType", "scalerValue"} or resource.is_load_balanced
    counts = resource.scalerType is ScalerType.REQUEST_COUNT
    return EndpointSpec(
        name=resource.name,
        kind=type(resource).__name__,
        hash=resource.config_hash,
        hardware=resource.describe(),
        gpu_count=0 if resource.is_cpu else resource.gpuCount,
        env=_env(resource),
        workers_min=resource.workersMin,
        workers_max=resource.workersMax,
        idle_timeout_s=float(resource.idleTimeout),
        timeout_s=resource.executionTimeoutMs / 1000 or None,
        queue_delay_s=float(resource.scalerValue) if chosen and not counts else None,
        requests_per_worker=resource.scalerValue if chosen and counts else None,
        volume=_volume(resource),
        balanced=resource.is_load_balanced,
        app=app.wire if app else None,
        requirements=app.requirements if app else (),
        system=app.system if app else (),
        allow_apt=app.allow_apt if app else False,
        wire=_wire(resource),
    )


def _wire(resource: ServerlessResource) -> dict[str, Any]:
    volume = resource.networkVolume
    return resource.wire() | ({"networkVolume": volume.wire()} if volume else {})


def _env(resource: ServerlessResource) -> dict[str, str]:
    """Return the variables of a resource's workers: its own win over its template's, as on Runpod."""
    template = parse_env(resource.template.env) if resource.template else {}
    return {**template, **resource.env}


def _volume(resource: ServerlessResource) -> str | None:
    """Return the name of a resource's volume: its id at Runpod, or data center and name."""
    volume = resource.networkVolume
    if volume is None:
        return resource.networkVolumeId
    return f"{volume.dataCenterId}-{volume.name}"


def _show_in_context() -> Callable[[JobEvent], None]:
    """Return a callback that shows events in the cell that is running now, whatever runs later."""
    context = contextvars.copy_context()
    return lambda event: context.run(outputs.show, event)


_current: Session | None = None
_lock = threading.Lock()


def current_session() -> Session:
    """Return this process's session, made when first needed."""
    global _current  # noqa: PLW0603 - one per process is the point
    with _lock:
        if _current is None:
            _current = Session()
            atexit.register(_current.close)
        return _current


def set_session(session: Session | None) -> None:
    """Replace this process's session; tests and embedders use it."""
    global _current  # noqa: PLW0603 - one per process is the point
    with _lock:
        _current = session
