"""What the engine knows: endpoints, jobs, workers, remote objects. Values only; `machine` moves them.

Times are POSIX seconds.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from flash_nb.engine.balance import Balancer
from flash_nb.jobs import JobStatus


class Needs(NamedTuple):
    """What a job asks of its worker: an environment that covers it, and whose instance it is.

    `requirements` are Python packages, `system` packages of the operating system.
    """

    python: str
    requirements: frozenset[str] = frozenset()
    system: frozenset[str] = frozenset()
    instance: str | None = None

    @property
    def environment(self) -> Needs:
        """The same needs for any instance: what an environment is built for."""
        return self._replace(instance=None)

    def covered_by(self, environment: Needs) -> bool:
        """True if a worker of `environment` has all that these needs name."""
        return (
            self.python == environment.python
            and self.requirements <= environment.requirements
            and self.system <= environment.system
        )


@dataclass(slots=True)
class Job:
    """One job. `timeout_s` counts from its start, `expires_at` is its TTL as a time.

    `error_type` names the class of `flash_nb.errors` that fits, if its own code did not raise.
    `phase` is what its watchers were told last about what it waits for. `webhook` is where its end is
    posted to, if anywhere.

    A retried job is told apart from its former runs, of which a worker may still speak: its `id` is
    `run_id` of its `public_id`, which clients know, and of the attempts that there were before.
    """

    id: str
    endpoint_id: str
    needs: Needs
    submitted_at: float
    expires_at: float
    timeout_s: float | None = None
    client_id: str = ""
    status: JobStatus = JobStatus.IN_QUEUE
    attempts: int = 0
    worker_id: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    cold_s: float = 0.0
    error: str = ""
    error_type: str = ""
    phase: str = ""
    former_attempts: int = 0
    webhook: str = ""

    @property
    def public_id(self) -> str:
        """Its id as clients know it."""
        return public_id(self.id)

    @property
    def next_run_id(self) -> str:
        """The id that it will have when it is retried."""
        return run_id(self.public_id, self.former_attempts + max(1, self.attempts))

    @property
    def queued_s(self) -> float:
        """Seconds spent waiting for a worker that was there already."""
        if self.started_at is None:
            return 0.0
        return max(0.0, self.started_at - self.submitted_at - self.cold_s)

    @property
    def run_s(self) -> float:
        """Seconds on the worker."""
        if self.started_at is None or self.ended_at is None:
            return 0.0
        return max(0.0, self.ended_at - self.started_at)


def run_id(job_id: str, former_attempts: int) -> str:
    """Return the id of a job in the machine and on workers, after so many attempts of former runs."""
    return f"{job_id}#{former_attempts}" if former_attempts else job_id


def public_id(job_id: str) -> str:
    """Return the id of the job that this is a run of."""
    return job_id.partition("#")[0]


OURS = "w-"  # how the ids of the engine's own workers begin


def is_ours(worker_id: str) -> bool:
    """Say if the engine started a worker of this id."""
    return worker_id.startswith(OURS)


class WorkerStatus(Enum):
    """Where a worker stands; see the drawing above."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    RELEASING = "releasing"
    STOPPING = "stopping"


@dataclass(slots=True)
class Worker:
    """One worker. `deadline` is when patience ends in the states that have one."""

    id: str
    endpoint_id: str
    environment: Needs
    status: WorkerStatus = WorkerStatus.STARTING
    job_id: str | None = None
    ahead: deque[str] = field(default_factory=deque)
    last_run_s: float = math.inf
    ready_at: float = 0.0
    idle_since: float = 0.0
    deadline: float | None = None
    revision: int = 0
    instances: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Scaling:
    """How an endpoint scales; times in seconds.

    Attributes:
        queue_delay_s: A job waits as long before another worker is started; None: not at all, for a
            worker of this machine costs nothing.
        requests_per_worker: How many jobs or requests are enough for one worker; None: one job.
    """

    workers_min: int = 0
    workers_max: int = 3
    idle_timeout_s: float = 5.0
    timeout_s: float | None = None
    queue_delay_s: float | None = None
    requests_per_worker: int | None = None


@dataclass(slots=True)
class Endpoint:
    """An endpoint with its waiting lines and its workers.

    A worker of an older `revision` takes no further job: the endpoint's settings have changed.
    A load-balanced endpoint has a `balancer` in place of lines, and one `environment`.
    """

    id: str
    scaling: Scaling
    revision: int = 0
    lines: dict[Needs, deque[str]] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    warm: Needs | None = None
    start_failures: int = 0
    balancer: Balancer | None = None
    environment: Needs | None = None

    @property
    def current_workers(self) -> list[Worker]:
        """The workers that are to take work, now or when they are up."""
        return [
            worker
            for worker in self.workers.values()
            if worker.revision == self.revision and worker.status is not WorkerStatus.STOPPING
        ]


@dataclass(slots=True)
class Instance:
    """A remote object: it lives on one worker, and its client decides how long.

    A worker that outlived its engine brings its objects back without their clients; one that nobody
    claims until `unclaimed_until` is released.

    An object of a client without a stream (of Runpod's own) is `leased`: nobody says when it is not needed
    any more. It is released when it was not used for a while, it keeps no worker that has to make room, and
    where its worker goes it is only forgotten: each of its calls can make it anew, as official workers do.
    """

    id: str
    client_id: str
    worker_id: str
    lost: bool = False
    leased: bool = False
    unclaimed_until: float | None = None
