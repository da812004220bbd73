"""The seam between the SDK and whoever runs endpoints.

All methods are called on the session's background loop. Events are pushed to a callback on that
loop and not pulled from an async iterator: measured here, an iterator with its queue cost 35 µs a
job more, a tenth of a whole local call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from flash_nb.jobs import JobEvent
from flash_nb.resources.offers import Offers
from flash_nb.settings import Settings
from flash_nb.worker.frames import Buffer

OnEvent = Callable[[JobEvent], None]


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """An endpoint as a backend is asked for it.

    Attributes:
        name: Unique among endpoints of the same kind.
        kind: The resource's class name.
        hash: Changes when any setting changes.
        hardware: For people.
        gpu_count: 0 for CPU.
        env: The workers' environment variables; may hold secrets, so it is never shown.
        workers_min, workers_max: Bounds of scaling.
        idle_timeout_s: Seconds after which an idle worker ends.
        timeout_s: Longest run of a job in seconds; None: no limit.
        queue_delay_s: Seconds that a job waits before another worker is started; None: as the
            backend likes.
        requests_per_worker: How many jobs or requests are enough for one worker; None: as the
            backend likes.
        volume: Names the folder that all workers with this volume share; None: none.
        balanced: HTTP requests go straight to workers; there is no queue.
        app: What its workers serve, if jobs do not bring their code: see `flash_nb.protocol.app`.
        requirements: Python packages that `app` needs, as PEP 508 strings.
        system: Operating system packages that `app` needs.
        allow_apt: Missing ones of these may be installed.
        wire: The input of Runpod's `saveEndpoint`; under ``networkVolume`` what creates a volume that
            is given by name.
    """

    name: str
    kind: str
    hash: str
    hardware: str
    gpu_count: int
    env: Mapping[str, str]
    workers_min: int
    workers_max: int
    idle_timeout_s: float
    timeout_s: float | None
    queue_delay_s: float | None = None
    requests_per_worker: int | None = None
    volume: str | None = None
    balanced: bool = False
    app: Mapping[str, Any] | None = None
    requirements: Sequence[str] = ()
    system: Sequence[str] = ()
    allow_apt: bool = False
    wire: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"EndpointSpec({self.name!r}, {self.kind}, {self.hardware})"


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One run, ready to travel.

    Attributes:
        job_id: Made by the client: submitting twice is one job.
        request: A `flash_nb.protocol.channel.Request`.
        buffers: Its values.
        requirements: Python packages that the worker must have, as PEP 508 strings.
        system: Operating system packages that the worker must have.
        python: The worker's interpreter: a path, or a version such as "3.12".
        instance: The remote object that the job is for.
        timeout_s: Overrides the endpoint's.
        ttl_s: Longest life of the job, waiting included; None: a day.
        allow_apt: Missing system packages may be installed.
        accelerate_downloads: Python packages may be downloaded at the same time.
        webhook: Where the end of the job is posted to, in Runpod's words; None: nowhere.
        durable: Send a `StoredEvent` once the job is safe.
    """

    job_id: str
    request: Mapping[str, Any]
    buffers: Sequence[Buffer]
    requirements: Sequence[str] = ()
    system: Sequence[str] = ()
    python: str = ""
    instance: str | None = None
    timeout_s: float | None = None
    ttl_s: float | None = None
    allow_apt: bool = False
    accelerate_downloads: bool = True
    webhook: str | None = None
    durable: bool = False


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to a load-balanced endpoint; `path` begins with a slash, `query` is encoded."""

    method: str
    path: str
    query: str = ""
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What a worker answered; the names of `headers` are in lower case.

    `note` is what the caller should hear of how the answer was had; usually nothing.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    note: str = ""


class Endpoint(Protocol):
    """Where work goes: a queue that workers take jobs from, or HTTP requests straight to workers.

    Attributes:
        id: Its id in the backend.
        url: Where others reach it over HTTP, without a slash at the end; empty if they cannot.
        simulated: Its GPUs do not exist.
    """

    @property
    def id(self) -> str: ...  # noqa: D102 - described above

    @property
    def url(self) -> str: ...  # noqa: D102

    @property
    def simulated(self) -> bool: ...  # noqa: D102

    def run(self, request: JobRequest, on_event: OnEvent) -> None:
        """Submit a job; its events follow, the last one a `FinishedEvent`. Does not wait."""

    def cancel(self, job_id: str) -> None:
        """Ask for the end of a job; its `FinishedEvent` tells the outcome."""

    def release(self, instance: str) -> None:
        """Forget a remote object."""

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Send a request to a load-balanced endpoint once, and return its answer whatever its status.

        Raises:
            BackendError: There was no answer; nobody knows if a worker took the request.
        """


@dataclass(frozen=True, slots=True)
class EndpointInfo:
    """An endpoint that exists.

    Attributes:
        id: Its id in the backend.
        name: Its name.
        note: What it is, for people: its hardware, or what is known of it.
        workers_min, workers_max: Bounds of scaling.
        workers: How many workers there are, by their state.
        jobs: How many jobs there are, by their state.
        is_ours: A session of this user and machine created it.
    """

    id: str
    name: str
    note: str
    workers_min: int
    workers_max: int
    workers: Mapping[str, int]
    jobs: Mapping[str, int]
    is_ours: bool

    @property
    def billing(self) -> int:
        """How many workers are up now: on Runpod each of them is paid for."""
        return sum(self.workers.get(state, 0) for state in BILLED)


BILLED = ("running", "idle", "initializing")


class Backend(Protocol):
    """Who runs endpoints.

    Attributes:
        name: Its name among the settings, and for people where a job runs.
        runs_images: Workers run the container image of their resource. So nothing stands in for it,
            and a live route brings its code in each call.
        settings: What holds. Its session replaces them when one of `CHANGEABLE` changes.
        created: The ids of the endpoints that it created; some may be deleted since.
    """

    name: str
    runs_images: bool
    settings: Settings

    @property
    def created(self) -> Collection[str]: ...  # noqa: D102 - described above

    async def ensure(self, spec: EndpointSpec) -> Endpoint:
        """Return the endpoint of this spec, created or updated if need be.

        Raises:
            BackendError: It cannot be had.
        """

    def attach(self, job_id: str, on_event: OnEvent) -> None:
        """Replay the events of a job of any kernel, then follow it."""

    def cancel(self, job_id: str) -> None:
        """Ask for the end of a job that is followed here; harmless if it is over."""

    def received(self, job_id: str) -> None:
        """Take note that the result of a job that was `durable` or attached need not be kept any more."""

    async def retry(self, job_id: str, on_event: OnEvent) -> None:
        """Run a job of any kernel again under its id, and follow it; its former events are forgotten.

        Raises:
            BackendError: It is not over, it completed, or what it needs is not kept any more.
        """

    async def endpoints(self) -> Sequence[EndpointInfo]:
        """List the endpoints that exist; nothing is created.

        Raises:
            BackendError: They cannot be listed.
        """

    async def offers(self) -> Offers:
        """Return what GPUs cost and how many there are, within seconds.

        Where nobody can say, these are the prices that come with this release; `Offers.note` tells why.
        """

    async def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint with its workers.

        Raises:
            EndpointNotFoundError: There is none.
            BackendError: It cannot be deleted, or nobody knows if it was.
        """

    async def aclose(self) -> None:
        """Close connections; jobs go on."""
