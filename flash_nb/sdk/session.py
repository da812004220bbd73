"""The session: settings, background loop and backend of this process.

There is one, made when first needed; nothing is imported or started before.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import shlex
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from flash_nb.backends.base import (
    Backend,
    Endpoint,
    EndpointInfo,
    EndpointSpec,
    HttpRequest,
    HttpResponse,
    JobRequest,
)
from flash_nb.backends.choice import choose, make
from flash_nb.errors import SettingsError
from flash_nb.jobs import FinishedEvent, JobEvent, JobInfo, JobStatus, StreamEvent, new_job_id
from flash_nb.loop import LoopThread, Mailbox, settled
from flash_nb.resources.env import parse_env
from flash_nb.resources.offers import Offers
from flash_nb.resources.prices import PriceTable, Rate, shipped, usd_per_s
from flash_nb.resources.serverless import ScalerType, ServerlessResource
from flash_nb.sdk import outputs
from flash_nb.sdk.app import ServedApp
from flash_nb.sdk.board import About, Board, Origin
from flash_nb.sdk.job import Decode, Job, Resolve
from flash_nb.sdk.ledger import Ledger
from flash_nb.sdk.spending import Spending, Totals
from flash_nb.settings import CHANGEABLE, TYPED, Settings, load, variable

CLOSE_TIMEOUT_S = 2.0
DOWN_TIMEOUT_S = 30.0


class Session:
    """Submits jobs.

    Args:
        settings: Default: those that hold here and now.
        backend: Who runs endpoints. Default: whoever the settings say.
    """

    def __init__(self, settings: Settings | None = None, backend: Backend | None = None) -> None:
        self.settings = settings or load()
        self._backends: dict[str, Backend] = {}
        self._chosen = ""
        if backend is not None:
            self._chosen = backend.name
            self._backends[backend.name] = backend
        self._thread = LoopThread()
        self._mailbox = Mailbox(self._thread.loop)
        self.spending = Spending(self._spend)
        self.board = Board(self.spending.add)
        self._prices: PriceTable | None = None
        # By identity: hashing a resource by value took a tenth of a warm call. The resource is kept, so
        # that its id is not used again.
        self._facts: dict[int, tuple[ServerlessResource, str, Rate | None]] = {}
        self._endpoints: dict[tuple[int, str], tuple[ServerlessResource, ServedApp | None, Endpoint]] = {}

    @property
    def backend(self) -> Backend:
        """Who runs endpoints; found when first needed.

        Raises:
            FlashError: It cannot be found: no key where one is needed, or a file that makes no sense.
        """
        return self.backend_named("")

    @cached_property
    def ledger(self) -> Ledger:
        """The cells' jobs of all kernels of this home; opened when first needed."""
        return Ledger(self.settings.home)

    def backend_named(self, name: str) -> Backend:
        """Return a backend by its name; the chosen one for an empty name.

        Raises:
            FlashError: As for `backend`.
        """
        if not name:
            self._chosen = self._chosen or choose(self.settings)
            name = self._chosen
        if name not in self._backends:
            self._backends[name] = make(name, self.settings)
        return self._backends[name]

    def use(self, name: str) -> Backend:
        """Have everything from now on run by the backend of this name; ``"auto"`` chooses again.

        Raises:
            FlashError: As for `backend`; then nothing has changed.
        """
        chosen = choose(replace(self.settings, backend=name))
        backend = self.backend_named(chosen)
        self._chosen = chosen
        self._hold(self.settings.changed("backend", name, origin=TYPED))
        return backend

    def change(self, name: str, value: str) -> None:
        """Change a setting for this process, from now on.

        Raises:
            SettingsError: There is no such setting, its value cannot be used, or it holds from the start.
            FlashError: As for `backend`.
        """
        changed = self.settings.changed(name, value, origin=TYPED)
        if name not in CHANGEABLE:
            raise SettingsError(
                f"{name} holds from the start of the kernel on.",
                hint=f"Set it before: {variable(name)}={shlex.quote(value)} in the environment or in .env; "
                f"or {name} below [tool.flash_nb] in pyproject.toml. Then restart the kernel.",
            )
        if name == "backend":
            self.use(value)
        else:
            self._hold(changed)

    def _hold(self, settings: Settings) -> None:
        self.settings = settings
        for backend in self._backends.values():
            backend.settings = settings

    def endpoint(
        self, resource: ServerlessResource, app: ServedApp | None = None, *, backend: str = ""
    ) -> Endpoint:
        """Return the endpoint of a resource, created or updated if need be; waits for it.

        Args:
            resource: What its workers run on.
            app: What they serve, if jobs do not bring their code.
            backend: Who runs it. Default: the chosen one.

        Raises:
            BackendError: It cannot be had.
        """
        chosen = self.backend_named(backend)
        return self._known(chosen, resource, app) or self._thread.run(self._ensure(chosen, resource, app))

    def offers(self) -> Offers:
        """Return what GPUs cost and how many there are where jobs run; waits for it, for seconds.

        Raises:
            FlashError: As for `backend`.
        """
        offers = self._thread.run(self.backend.offers())
        self._prices = offers.table
        self._facts = {
            key: (resource, hardware, usd_per_s(resource, offers.table))
            for key, (resource, hardware, _) in [*self._facts.items()]
        }
        return offers

    def endpoints(self) -> Sequence[EndpointInfo]:
        """List the endpoints that exist; nothing is created.

        Raises:
            FlashError: They cannot be listed.
        """
        return self._thread.run(self.backend.endpoints())

    def rates(self) -> dict[str, Rate]:
        """Return what a worker costs of each resource that was used, by its name; as far as it is known."""
        return {resource.name: rate for resource, _, rate in self._facts.values() if rate is not None}

    def rate(self, resource: ServerlessResource) -> Rate | None:
        """Return what a worker of a resource costs: by the newest prices that were asked for.

        Until `offers` was called, these are the shipped ones. None: no price is known, as on CPU.
        """
        return self._facts_of(resource)[1]

    async def request(
        self, resource: ServerlessResource, app: ServedApp | None, request: HttpRequest
    ) -> HttpResponse:
        """Send a request to the endpoint of a resource once; called from any loop.

        Raises:
            BackendError: There was no answer.
        """
        answer = self._thread.submit(self._request(self.backend, resource, app, request))
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
        backend: str = "",
        origin: Origin = Origin(),  # noqa: B008 - it is frozen
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
            backend: Who runs it. Default: the chosen one.
            origin: The cell it comes from.
            **options: Further fields of `JobRequest`.
        """
        chosen = self.backend_named(backend)
        job = Job(
            new_job_id(),
            label=label,
            mailbox=self._mailbox,
            decode=decode,
            resolve=resolve,
            on_event=on_event or _show_in_context(),
            retry=lambda job: self._retry(chosen, job),
        )
        self.board.add(job, self._about(label, resource, chosen.name, origin))
        wire = JobRequest(job.id, request, **options)
        endpoint = self._known(chosen, resource, app)
        if endpoint is not None:
            self._mailbox.post(lambda: _run(endpoint, wire, job))
        else:
            self._thread.submit(self._ensure_and_run(chosen, resource, app, wire, job))
        return job

    def _about(self, label: str, resource: ServerlessResource, backend: str, origin: Origin) -> About:
        hardware, rate = self._facts_of(resource)
        return About(label, resource.name, hardware, backend, origin, rate)

    def _facts_of(self, resource: ServerlessResource) -> tuple[str, Rate | None]:
        """Return what a resource is and costs; worked out once for each: it takes 80 µs."""
        known = self._facts.get(id(resource))
        if known is None:
            rate = usd_per_s(resource, self._prices or shipped())
            known = self._facts[id(resource)] = (resource, resource.describe(), rate)
        return known[1:]

    def _spend(self, totals: Totals) -> None:
        self.ledger.spend(totals)

    def attach(
        self, job_id: str, about: About, *, resolve: Resolve, on_event: Callable[[JobEvent], None]
    ) -> Job:
        """Follow a job of any kernel from its beginning, without waiting for anything.

        Args:
            job_id: Its id.
            about: What is known of it.
            resolve: Finds classes of ``__main__`` for exceptions.
            on_event: Called on the background loop.
        """
        backend, job = self._taken_up(job_id, about, resolve, on_event)
        self.board.add(job, about)
        self._mailbox.post(lambda: backend.attach(job_id, job.receive))
        return job

    def retry(
        self, job_id: str, about: About, *, resolve: Resolve, on_event: Callable[[JobEvent], None]
    ) -> Job:
        """Run a job of any kernel again, and follow it; arguments as for `attach`.

        Raises:
            BackendError: It is not over, it completed, or what it needs is not kept any more.
        """
        backend, job = self._taken_up(job_id, about, resolve, on_event)
        self._thread.run(backend.retry(job_id, job.receive))
        self.board.add(job, about)
        return job

    def _taken_up(
        self, job_id: str, about: About, resolve: Resolve, on_event: Callable[[JobEvent], None]
    ) -> tuple[Backend, Job]:
        backend = self.backend_named(about.backend)
        job = Job(
            job_id,
            label=about.label,
            mailbox=self._mailbox,
            decode=lambda _: None,
            resolve=resolve,
            on_event=on_event,
            retry=lambda job: self._retry(backend, job),
        )
        job.started(backend.cancel)
        return backend, job

    def received(self, job_id: str, backend: str) -> None:
        """Have the backend of this name keep the result of a durable or attached job no longer."""
        chosen = self.backend_named(backend)
        self._mailbox.post(lambda: chosen.received(job_id))

    def _retry(self, backend: Backend, job: Job) -> Job:
        again = job.again(_show_in_context())
        self._thread.run(backend.retry(job.id, again.receive))
        self.board.add(again, self.board.find(job.id).about)
        return again

    def release(self, resource: ServerlessResource, instance: str) -> None:
        """Forget a remote object."""
        for backend in list(self._backends.values()):
            self._release(self._known(backend, resource), instance)

    def _release(self, endpoint: Endpoint | None, instance: str) -> None:
        if endpoint is not None:
            self._mailbox.post(lambda: endpoint.release(instance))

    def post(self, call: Callable[[], object]) -> None:
        """Have `call` made soon on the background loop: it must be quick."""
        self._mailbox.post(call)

    def close(self) -> None:
        """Close the connections; jobs go on in the backends."""
        timeout_s = DOWN_TIMEOUT_S if self.settings.down_on_exit else CLOSE_TIMEOUT_S
        closing = [self._thread.submit(backend.aclose()) for backend in self._backends.values()]
        for each in closing:
            each.result(timeout=timeout_s)
        self.spending.flush()

    async def _request(
        self,
        backend: Backend,
        resource: ServerlessResource,
        app: ServedApp | None,
        request: HttpRequest,
    ) -> HttpResponse:
        endpoint = await self._ensure(backend, resource, app)
        return await endpoint.request(request)

    async def _ensure(
        self, backend: Backend, resource: ServerlessResource, app: ServedApp | None = None
    ) -> Endpoint:
        endpoint = self._known(backend, resource, app)
        if endpoint is None:
            endpoint = await backend.ensure(endpoint_spec(resource, app))
            self._endpoints[id(resource), backend.name] = (resource, app, endpoint)
        return endpoint

    def _known(
        self, backend: Backend, resource: ServerlessResource, app: ServedApp | None = None
    ) -> Endpoint | None:
        found = self._endpoints.get((id(resource), backend.name))
        return found[2] if found and (app is None or app == found[1]) else None

    async def _ensure_and_run(
        self,
        backend: Backend,
        resource: ServerlessResource,
        app: ServedApp | None,
        wire: JobRequest,
        job: Job,
    ) -> None:
        try:
            endpoint = await self._ensure(backend, resource, app)
        except Exception as error:  # noqa: BLE001 - whoever waits for the job raises it
            job.fail(error)
            return
        _run(endpoint, wire, job)


def _run(endpoint: Endpoint, wire: JobRequest, job: Job) -> None:
    if job.started(endpoint.cancel):
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


def session_if_any() -> Session | None:
    """Return this process's session, if it has been made."""
    return _current


def set_session(session: Session | None) -> None:
    """Replace this process's session; tests and embedders use it."""
    global _current  # noqa: PLW0603 - one per process is the point
    with _lock:
        _current = session
