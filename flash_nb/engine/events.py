"""What happens to the engine (events), and what it does about it (actions)."""

from __future__ import annotations

from dataclasses import dataclass

from flash_nb.engine.balance import Request
from flash_nb.engine.state import Job, Needs, Scaling

# --- events -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EndpointSaved:
    """An endpoint was created or changed; with `replace_workers` they end after their job."""

    endpoint_id: str
    scaling: Scaling
    environment: Needs
    replace_workers: bool = False
    balanced: bool = False


@dataclass(frozen=True, slots=True)
class EndpointDeleted:
    """An endpoint is to go, with its workers; its jobs are cancelled."""

    endpoint_id: str


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """A new job; a job whose id is known already is ignored."""

    job: Job


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """An HTTP request for a load-balanced endpoint."""

    request: Request


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A request is answered, or its client is gone."""

    endpoint_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class JobRetried:
    """A job that ended without completing is to run again, from the start."""

    job: Job


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants the job to end."""

    job_id: str


@dataclass(frozen=True, slots=True)
class JobFinished:
    """A worker says that it is done with a job."""

    worker_id: str
    job_id: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class JobsReturned:
    """A worker gives back jobs that it did not begin: it was sent them ahead, or they did not reach it."""

    worker_id: str
    job_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EnvironmentReady:
    """Workers can be started in the environment."""

    environment: Needs


@dataclass(frozen=True, slots=True)
class EnvironmentFailed:
    """The environment cannot be built."""

    environment: Needs
    error: str


@dataclass(frozen=True, slots=True)
class WorkerConnected:
    """A worker reached the engine: newly started, or found again after the engine restarted.

    The outcomes of the jobs in `finished` follow: the engine before may have lost them.
    """

    worker_id: str
    endpoint_id: str
    environment: Needs
    job_id: str | None = None
    instances: tuple[str, ...] = ()
    finished: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker is gone; `reason` is a phrase such as "killed by signal 9"."""

    worker_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class JobsAsked:
    """An external worker asks for so many jobs, 0: no more; see `flash_nb.engine.external`.

    If it `holds_none`, the jobs that it was given before are lost.
    """

    worker_id: str
    endpoint_id: str
    count: int
    holds_none: bool = False


@dataclass(frozen=True, slots=True)
class PollsChanged:
    """An external worker has so many questions open; `can_stop`: one of them is its stop channel."""

    worker_id: str
    endpoint_id: str
    polls: int
    can_stop: bool = False
    broke: bool = False


@dataclass(frozen=True, slots=True)
class JobsHeld:
    """A ping: which jobs an external worker says that it holds."""

    worker_id: str
    job_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InstanceReleased:
    """A remote object is not used any more."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class ClientCame:
    """A kernel connected, and says which remote objects are its own."""

    client_id: str
    instances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """A kernel ended: its remote objects are released."""

    client_id: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; the server sends one every `TICK_S` while anything is up."""


Event = (
    EndpointSaved
    | EndpointDeleted
    | JobSubmitted
    | JobRetried
    | RequestArrived
    | RequestEnded
    | CancelRequested
    | JobFinished
    | JobsReturned
    | EnvironmentReady
    | EnvironmentFailed
    | WorkerConnected
    | WorkerLost
    | JobsAsked
    | PollsChanged
    | JobsHeld
    | InstanceReleased
    | ClientCame
    | ClientLeft
    | Tick
)

# --- actions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobChanged:
    """Store the job and tell those who watch it."""

    job: Job


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """Tell those who watch the job what it waits for."""

    job_id: str
    phase: str


@dataclass(frozen=True, slots=True)
class SendJob:
    """Give the job to the worker."""

    worker_id: str
    job_id: str


@dataclass(frozen=True, slots=True)
class SendRequest:
    """Give the HTTP request to the worker."""

    worker_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class RefuseRequest:
    """Answer the request with an HTTP status and a reason; its worker, if it has one, may stop."""

    request_id: str
    worker_id: str
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class SendCancel:
    """Ask the worker to stop this job."""

    worker_id: str
    job_id: str


@dataclass(frozen=True, slots=True)
class RecallJobs:
    """Ask the worker for the jobs that it did not begin; `JobsReturned` answers."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker process."""

    worker_id: str
    endpoint_id: str
    environment: Needs


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Let the worker end by itself: it is idle."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class KillWorker:
    """End the worker's process group now."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class DropInstance:
    """Tell the worker to forget a remote object."""

    worker_id: str
    instance_id: str


@dataclass(frozen=True, slots=True)
class BuildEnvironment:
    """Build the environment, then report `EnvironmentReady` or `EnvironmentFailed`."""

    environment: Needs


Action = (
    JobChanged
    | PhaseChanged
    | SendJob
    | SendRequest
    | RefuseRequest
    | SendCancel
    | RecallJobs
    | StartWorker
    | StopWorker
    | KillWorker
    | DropInstance
    | BuildEnvironment
)
