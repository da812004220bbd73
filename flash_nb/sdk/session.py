"""The session: settings, background loop and backend of this process.

There is one, made when first needed; nothing is imported or started before.
"""

from __future__ import annotations

import atexit
import contextvars
import threading
from collections.abc import Callable
from typing import Any

from flash_nb.backends.base import Backend, Endpoint, EndpointSpec, JobRequest
from flash_nb.jobs import FinishedEvent, JobEvent, JobInfo, JobStatus, new_job_id
from flash_nb.loop import LoopThread, Mailbox
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk import outputs
from flash_nb.sdk.job import Decode, Job, Resolve
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
        self._endpoints: dict[int, tuple[ServerlessResource, Endpoint]] = {}

    @property
    def backend(self) -> Backend:
        """Who runs endpoints."""
        if self._backend is None:
            from flash_nb.backends.local import LocalBackend

            self._backend = LocalBackend(self.settings)
        return self._backend

    def endpoint(self, resource: ServerlessResource) -> Endpoint:
        """Return the endpoint of a resource, created if need be; waits for it.

        Raises:
            BackendError: It cannot be had.
        """
        return self._known(resource) or self._thread.run(self._ensure(resource))

    def submit(
        self,
        resource: ServerlessResource,
        *,
        label: str,
        request: dict[str, Any],
        decode: Decode,
        resolve: Resolve,
        on_event: Callable[[JobEvent], None] | None = None,
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
            **options: Further fields of `JobRequest`.
        """
        job = Job(
            new_job_id(),
            label=label,
            mailbox=self._mailbox,
            decode=decode,
            resolve=resolve,
            on_event=on_event or _show_in_context(),
        )
        wire = JobRequest(job.id, request, **options)
        endpoint = self._known(resource)
        if endpoint is not None:
            self._mailbox.post(lambda: _run(endpoint, wire, job))
        else:
            self._thread.submit(self._ensure_and_run(resource, wire, job))
        return job

    def release(self, resource: ServerlessResource, instance: str) -> None:
        """Forget a remote object."""
        endpoint = self._known(resource)
        if endpoint is not None:
            self._mailbox.post(lambda: endpoint.release(instance))

    def close(self) -> None:
        """Close the connection; jobs go on in the backend."""
        if self._backend is not None:
            self._thread.submit(self._backend.aclose()).result(timeout=CLOSE_TIMEOUT_S)

    async def _ensure(self, resource: ServerlessResource) -> Endpoint:
        endpoint = self._known(resource)
        if endpoint is None:
            endpoint = await self.backend.ensure(endpoint_spec(resource))
            self._endpoints[id(resource)] = (resource, endpoint)
        return endpoint

    def _known(self, resource: ServerlessResource) -> Endpoint | None:
        found = self._endpoints.get(id(resource))
        return found[1] if found else None

    async def _ensure_and_run(self, resource: ServerlessResource, wire: JobRequest, job: Job) -> None:
        try:
            endpoint = await self._ensure(resource)
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


def endpoint_spec(resource: ServerlessResource) -> EndpointSpec:
    """Return what a backend needs to know of a resource."""
    return EndpointSpec(
        name=resource.name,
        kind=type(resource).__name__,
        hash=resource.config_hash,
        hardware=resource.describe(),
        gpu_count=0 if resource.is_cpu else resource.gpuCount,
        env=dict(resource.env),
        workers_min=resource.workersMin,
        workers_max=resource.workersMax,
        idle_timeout_s=float(resource.idleTimeout),
        timeout_s=resource.executionTimeoutMs / 1000 or None,
    )


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
