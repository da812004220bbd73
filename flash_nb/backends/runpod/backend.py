"""The seam: endpoints and jobs at Runpod."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Coroutine, Sequence
from datetime import datetime, timezone
from typing import Any

from flash_nb.backends.auth import ApiKey, require_key
from flash_nb.backends.base import (
    EndpointInfo,
    EndpointSpec,
    HttpRequest,
    HttpResponse,
    JobRequest,
    OnEvent,
)
from flash_nb.backends.runpod.backoff import Backoff, poll_pause
from flash_nb.backends.runpod.client import NOT_FOUND, Client
from flash_nb.backends.runpod.inventory import Inventory, JobEntry
from flash_nb.backends.runpod.job import RunpodJob
from flash_nb.backends.runpod.provision import MADE_AGAIN, Provision
from flash_nb.errors import BackendError, EndpointNotFoundError, FlashError, OutcomeUnknownError
from flash_nb.jobs import RETRYABLE, FinishedEvent, JobInfo, JobStatus, StreamEvent
from flash_nb.protocol import catalog, urls
from flash_nb.resources.offers import Offers, shipped_offers
from flash_nb.settings import Settings

PROCESSING_LIMIT_S = 330.0  # Runpod ends a load-balanced request after 5.5 minutes
READY_PATIENCE_S = 120.0
PING_TIMEOUT_S = 30.0
OFFERS_PATIENCE_S = 6.0  # somebody looks at a picker that is not there yet
STARTING = (204, 429, 502, 503, 504)  # an image without /ping answers 404, and takes requests all the same


class RunpodEndpoint:
    """An endpoint at Runpod.

    Attributes:
        id: Its id there; another one after it was deleted and made again.
        spec: As it was asked for.
    """

    simulated = False

    def __init__(self, backend: RunpodBackend, spec: EndpointSpec, endpoint_id: str, note: str) -> None:
        self.id = endpoint_id
        self.spec = spec
        self._backend = backend
        self._note = note
        self._is_ready = False

    @property
    def url(self) -> str:
        """Where others reach it, with their own API key."""
        return urls.balanced(self.id) if self.spec.balanced else urls.queue(self.id)

    def run(self, request: JobRequest, on_event: OnEvent) -> None:
        """Send a job: to ``runsync``, or to ``run`` if it is to outlive this kernel."""
        self._backend.submit(self, request, on_event)

    def cancel(self, job_id: str) -> None:
        """Cancel a job."""
        self._backend.cancel(job_id)

    def release(self, instance: str) -> None:
        """Do nothing: Runpod knows no objects, its worker forgets them when it ends."""

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Send a request to a worker once. Before the first one, wait until a worker is up."""
        await self._until_ready()
        response = await self._exchange(request)
        if response.status == NOT_FOUND and not await self._backend.provision.exists(self.id):
            await self.make_again()  # no worker has seen the request
            await self._until_ready()
            response = await self._exchange(request)
        return HttpResponse(response.status, response.headers, response.body, self.take_note())

    async def make_again(self) -> None:
        """Make it again after somebody deleted it."""
        provided = await self._backend.provision.ensure(self.spec)
        self.id, self._is_ready = provided.id, False
        if provided.created:
            self._note = f"flash_nb: {MADE_AGAIN.format(self.spec.name)}.\n"

    def take_note(self) -> str:
        """Return what is to be told of how it was had, once."""
        note, self._note = self._note, ""
        return note

    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        query = f"?{request.query}" if request.query else ""
        answer = await self._backend.client.exchange(
            request.method,
            f"{self.url}{request.path}{query}",
            list(request.headers),
            request.body,
            self.spec.timeout_s or PROCESSING_LIMIT_S,
        )
        return HttpResponse(
            answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.content
        )

    async def _until_ready(self) -> None:
        begun = time.monotonic()
        while not self._is_ready and time.monotonic() - begun < READY_PATIENCE_S:
            with contextlib.suppress(OutcomeUnknownError):
                answer = await self._backend.client.exchange(
                    "GET", f"{self.url}/ping", [], b"", PING_TIMEOUT_S
                )
                self._is_ready = answer.status_code not in STARTING
            if not self._is_ready:
                await asyncio.sleep(poll_pause(time.monotonic() - begun))


class RunpodBackend:
    """Runpod, with the key that is found here and now.

    Args:
        settings: Where the inventory lies, and whether endpoints go at the end.
        key: Default: what `flash_nb.backends.auth` finds.
        backoff: When to try again.

    Raises:
        ApiKeyError: There is no key.
    """

    name = "runpod"
    runs_images = True

    def __init__(
        self, settings: Settings, key: ApiKey | None = None, *, backoff: Backoff | None = None
    ) -> None:
        self.client = Client(key or require_key(), backoff)
        self.inventory = Inventory(settings.home)
        self.provision = Provision(self.client, self.inventory, settings.home)
        self.settings = settings
        self._jobs: dict[str, RunpodJob] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._making: dict[str, asyncio.Lock] = {}

    @property
    def created(self) -> Collection[str]:
        """The ids of the endpoints that this session created and did not delete."""
        return self.provision.created

    async def ensure(self, spec: EndpointSpec) -> RunpodEndpoint:
        """Find, create or update the endpoint at Runpod."""
        provided = await self.provision.ensure(spec)
        return RunpodEndpoint(self, spec, provided.id, provided.note)

    def submit(self, endpoint: RunpodEndpoint, request: JobRequest, on_event: OnEvent) -> None:
        """Send a job, unless it runs already."""
        if (known := self._jobs.get(request.job_id)) is not None:
            known.listen(on_event)
            return
        is_live = request.request["execution_type"] != "handler"
        job = RunpodJob(self.client, request.job_id, endpoint=endpoint.id, is_live=is_live)
        job.listen(on_event)
        if note := endpoint.take_note():
            job.say(StreamEvent("stderr", note))

        async def gone(endpoint_id: str) -> str:
            async with self._making.setdefault(endpoint.spec.name, asyncio.Lock()):
                if endpoint.id == endpoint_id:
                    if await self.provision.exists(endpoint_id):
                        await asyncio.sleep(poll_pause(1.0))  # it was made a moment ago
                        return endpoint_id
                    await endpoint.make_again()
            if note := endpoint.take_note():
                job.say(StreamEvent("stderr", note))
            return endpoint.id

        self._start(job, job.run(request, lambda: self.inventory.note(job.entry), gone))

    def cancel(self, job_id: str) -> None:
        """Cancel a job; harmless if it is over or not known."""
        job = self._jobs.get(job_id)
        if job is not None:
            self._spawn(job.cancel())

    def attach(self, job_id: str, on_event: OnEvent) -> None:
        """Follow a job of any kernel of this home, or one of its endpoints by Runpod's own id."""
        known = self._jobs.get(job_id)
        if known is not None:
            known.listen(on_event)
            return
        self._spawn(self._attach(job_id, on_event))

    def received(self, job_id: str) -> None:
        """Do nothing: Runpod keeps results for as long as it likes."""

    async def retry(self, job_id: str, on_event: OnEvent) -> None:
        """Run a job again under its id.

        Only those can be that failed or timed out outside their own code: at Runpod a function that
        raised has completed, and Runpod runs no completed job again.
        """
        entry = await self._entry(job_id)
        if entry is None:
            raise BackendError(f"The job {job_id} cannot be retried: Runpod has no such job.")
        base = urls.queue(entry.endpoint)
        try:
            answer = await self.client.get(f"{base}/status/{entry.id}", f"job {job_id}")
            if answer.get("status") not in {status.value for status in RETRYABLE}:
                raise BackendError(
                    f"The job {job_id} cannot be retried: it is {answer.get('status')} at Runpod.",
                    hint="Call the function again.",
                )
            await self.client.repeat(f"{base}/retry/{entry.id}", f"retrying {job_id}")
        except EndpointNotFoundError:
            raise BackendError(
                f"The job {job_id} cannot be retried: Runpod does not know it any more."
            ) from None
        self._follow(entry, on_event)

    async def endpoints(self) -> Sequence[EndpointInfo]:
        """List all endpoints of the account."""
        return await self.provision.endpoints()

    async def offers(self) -> Offers:
        """Ask Runpod's catalog for the prices and the stock of this moment."""
        url = f"{urls.catalog()}?{catalog.QUERY}"
        try:
            answer = await asyncio.wait_for(self.client.get(url, "the catalog of GPUs"), OFFERS_PATIENCE_S)
            return catalog.offers(answer, date=datetime.now(timezone.utc).date().isoformat())
        except asyncio.TimeoutError:
            return shipped_offers(f"Runpod's catalog did not answer within {OFFERS_PATIENCE_S:g} s")
        except BackendError as error:
            return shipped_offers(error.message.rstrip("."))

    async def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint with its workers."""
        await self.provision.delete(endpoint_id)

    async def aclose(self) -> None:
        """Close connections; jobs go on. Endpoints of this session go if `down_on_exit` says so."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.settings.down_on_exit:
            created = list(self.provision.created)
            await asyncio.gather(*map(self.provision.delete, created), return_exceptions=True)
        await self.client.aclose()

    # --- inside -------------------------------------------------------------------------------

    async def _attach(self, job_id: str, on_event: OnEvent) -> None:
        try:
            entry = await self._entry(job_id)
        except FlashError as error:
            on_event(_failed(job_id, str(error)))
            return
        if entry is None:
            on_event(_failed(job_id, "Runpod has no such job"))
        else:
            self._follow(entry, on_event)

    def _follow(self, entry: JobEntry, on_event: OnEvent) -> None:
        if (known := self._jobs.get(entry.job)) is not None:
            known.listen(on_event)
            return
        job = RunpodJob(
            self.client,
            entry.job,
            endpoint=entry.endpoint,
            is_live=entry.live,
            submitted_at=entry.submitted_at,
        )
        job.remote_id = entry.id
        job.listen(on_event)
        self._start(job, job.follow())

    async def _entry(self, job_id: str) -> JobEntry | None:
        """Find a job: in the journal, else at the endpoints of this home."""
        known = self.inventory.job(job_id)
        if known is not None:
            return known
        for entry in self.inventory.entries(urls.graphql()):
            with contextlib.suppress(EndpointNotFoundError):
                url = f"{urls.queue(entry.id)}/status/{job_id}"
                await self.client.get(url, f"job {job_id}")
                is_live = entry.kind.removeprefix("Cpu").startswith("Live")
                return JobEntry(job_id, job_id, entry.id, is_live, time.time())
        return None

    def _start(self, job: RunpodJob, following: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await following
            except Exception as error:  # noqa: BLE001 - whatever went wrong here, somebody waits for an end
                job.fail(error)

        self._jobs[job.id] = job
        task = self._spawn(guarded())
        task.add_done_callback(lambda _: self._jobs.pop(job.id, None))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _failed(job_id: str, error: str) -> FinishedEvent:
    return FinishedEvent(JobInfo(job_id, "", JobStatus.FAILED, 0.0, error=error), None, ())
