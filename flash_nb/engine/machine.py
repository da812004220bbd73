"""The engine's logic: one pure machine, ``handle(event, now) -> actions``.

Nothing here touches a clock, a socket, a process or a disk. The server feeds events in, performs
the actions that come out, and feeds what happens back in. Times are POSIX seconds.

Two designs were sketched. *One task per job and per worker*, each awaiting queues and conditions,
reads naturally but hides its state in suspended frames: it cannot be stored, and every race is a
new interleaving to find. *One state, one function* makes each race an order of events that a test
can write down, and makes restarting after a crash the same code as starting.

What a job waits for::

    IN_QUEUE ── environment absent ──> BuildEnvironment ── ready ──┐
        │                                                          v
        ├── an idle worker covers its needs ───────────────> SendJob, IN_PROGRESS
        ├── fewer workers than workersMax ──> StartWorker ── connected ──> SendJob
        └── all workers busy, or idle in another environment (StopWorker) ──> waits

A worker::

    STARTING ─> IDLE <─> BUSY ─> RELEASING (its job became final without it: cancel, time-out)
                 │        │          └── let go in time ─> IDLE, else KillWorker
                 └────────┴─> STOPPING ─> gone (WorkerLost at any point: its job is queued again)

A job that ended without completing may be retried: it waits again, under the id of a new run
(`Job.next_run_id`), so that what a worker still says of the former one is about no job here.

Jobs with the same needs (`Job.needs`) wait in one line, so that scheduling looks at the head of
each line and not at every job.

A worker whose runs are short is sent some jobs *ahead*, which it runs without asking: a round trip
costs more than a short run. They stay IN_QUEUE until the run before them ends. If that one turns out
long, they are recalled, and what the worker gives back waits in line again.

An external worker is none of these (`flash_nb.engine.external`): it takes any job of its endpoint when it
asks, whatever the job needs, after our idle workers and before any is started.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from flash_nb.engine.balance import Balancer, Request
from flash_nb.engine.events import (
    Action,
    BuildEnvironment,
    CancelRequested,
    ClientCame,
    ClientLeft,
    DropInstance,
    EndpointDeleted,
    EndpointSaved,
    EnvironmentFailed,
    EnvironmentReady,
    Event,
    InstanceReleased,
    JobChanged,
    JobFinished,
    JobRetried,
    JobsAsked,
    JobsHeld,
    JobsReturned,
    JobSubmitted,
    KillWorker,
    PhaseChanged,
    PollsChanged,
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
from flash_nb.engine.external import ExternalWorker, ExternalWorkers
from flash_nb.engine.state import (
    OURS,
    Endpoint,
    Instance,
    Job,
    Needs,
    Worker,
    WorkerStatus,
    is_ours,
)
from flash_nb.jobs import RETRYABLE, TRANSITIONS, JobStatus

MAX_ATTEMPTS = 3
MAX_START_FAILURES = 3
START_GRACE_S = 60.0
RELEASE_GRACE_S = 2.0
RECONNECT_GRACE_S = 15.0
ORPHAN_GRACE_S = 30.0
LEASE_S = 600.0
TICK_S = 0.25
MAX_AHEAD = 8
ALL_HELD = (
    "waiting: every worker of this resource holds a remote object, and none has the packages of this job; "
    "close an object, or raise workersMax"
)
DIED = "its worker died {attempts} times; the last one was {reason}"
GAVE_UP = (
    "it was given to a worker {attempts} times, and no result came: the worker asks for other jobs. "
    "Its result may be nothing that JSON can hold; the worker's log says more"
)
NO_OWN_WORKERS = "waiting for an external worker: flash engine worker-env {endpoint} says how to start one"
SHORT_RUN_S = 0.02
RECALL_AFTER_S = 0.1


class Machine:
    """The state of one engine.

    Attributes:
        endpoints, jobs, workers: What exists, by id. Final jobs leave `jobs`: the store has them.
        external: The workers that others started.
    """

    def __init__(self, *, seed: str = "") -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.jobs: dict[str, Job] = {}
        self.workers: dict[str, Worker] = {}
        self.external = ExternalWorkers()
        self.instances: dict[str, Instance] = {}
        self._owners: dict[str, str] = {}
        self._ready: set[Needs] = set()
        self._building: set[Needs] = set()
        self._seed = seed
        self._started = 0
        self._actions: list[Action] = []
        self._changed: dict[str, Job] = {}
        self._now = 0.0

    def restore(self, jobs: Iterable[Job], now: float) -> None:
        """Take over unfinished jobs of an engine that died; endpoints must have been saved before.

        A running job is left with its worker for `RECONNECT_GRACE_S`: workers outlive the engine.
        The first `Tick` looks after the queued ones; until then idle workers may come back.
        """
        for job in jobs:
            self.jobs[job.id] = job
            endpoint = self.endpoints[job.endpoint_id]
            if job.status is JobStatus.IN_QUEUE:
                job.worker_id = ""
                self._line(endpoint, job).append(job.id)
                continue
            if not is_ours(job.worker_id):
                self.external.restore(job.worker_id, endpoint.id, job.id, now, RECONNECT_GRACE_S)
                continue
            worker = Worker(
                job.worker_id,
                endpoint.id,
                job.needs.environment,
                WorkerStatus.BUSY,
                job.id,
                deadline=now + RECONNECT_GRACE_S,
            )
            self._add_worker(endpoint, worker)

    def suspend(self) -> list[Job]:
        """Put every running job back at the head of its line: the engine ends, and its workers with it.

        Returns those jobs, to be stored. Nothing may be handled after this.
        """
        running = [job for job in self.jobs.values() if job.status is JobStatus.IN_PROGRESS]
        for job in running:
            self._unassign(job)
        return running

    def handle(self, event: Event, now: float) -> list[Action]:
        """Apply one event; return what is to be done, in order; each changed job comes once, first."""
        self._actions = []
        self._changed = {}
        self._now = now
        match event:
            case JobSubmitted(job):
                self._submit(job)
            case JobRetried(job):
                self._retry(job)
            case JobFinished():
                self._finish(event)
            case RequestArrived() | RequestEnded():
                self._take_request(event)
            case JobsReturned(worker_id, job_ids):
                self._take_returned(worker_id, job_ids)
            case CancelRequested(job_id):
                self._end_early(job_id, JobStatus.CANCELLED, "cancelled")
            case WorkerConnected():
                self._connect(event)
            case WorkerLost(worker_id, reason):
                self._lose(worker_id, reason)
            case JobsAsked() | PollsChanged() | JobsHeld():
                self._hear(event)
            case EnvironmentReady(environment):
                self._building.discard(environment)
                self._ready.add(environment)
                self._schedule_all()
            case EnvironmentFailed(environment, error):
                self._building.discard(environment)
                self._fail_waiting(environment, error, "WorkerEnvironmentError")
            case EndpointSaved():
                self._save_endpoint(event)
            case EndpointDeleted(endpoint_id):
                self._delete_endpoint(endpoint_id)
            case InstanceReleased(instance_id):
                self._release(instance_id)
            case ClientCame(client_id, instances):
                self._claim(client_id, instances)
            case ClientLeft(client_id):
                self._release_all_of(client_id)
            case Tick():
                self._tick()
        return [*map(JobChanged, self._changed.values()), *self._actions]

    def waiting_for(self, environment: Needs) -> Iterator[str]:
        """Yield the ids of the jobs that wait for an environment."""
        for endpoint in self.endpoints.values():
            for needs, line in endpoint.lines.items():
                if needs.environment == environment:
                    yield from line

    @property
    def is_idle(self) -> bool:
        """True if nothing is unfinished and no worker is up."""
        waiting = any(e.balancer and e.balancer.requests for e in self.endpoints.values())
        return not self.jobs and not self.workers and not self.external.workers and not waiting

    # --- jobs ---------------------------------------------------------------------------------

    def _submit(self, job: Job) -> None:
        if job.id in self.jobs:
            return
        endpoint = self.endpoints[job.endpoint_id]
        job.timeout_s = job.timeout_s or endpoint.scaling.timeout_s
        self.jobs[job.id] = job
        self._changed[job.id] = job
        instance = self._instance_of(job)
        if instance is not None and instance.lost:
            self._fail_for_lost(job, instance)
            return
        self._line(endpoint, job).append(job.id)
        self._schedule(endpoint)

    def _retry(self, job: Job) -> None:
        """Let a job wait again as if it were new: its attempts and its time to live begin anew."""
        if job.status not in RETRYABLE:
            raise AssertionError(f"job {job.id} is {job.status.value} and cannot be retried")
        job.expires_at += self._now - job.submitted_at
        job.submitted_at, job.started_at, job.ended_at = self._now, None, None
        job.id, job.former_attempts = job.next_run_id, job.former_attempts + max(1, job.attempts)
        job.attempts = 0
        job.status, job.worker_id, job.cold_s = JobStatus.IN_QUEUE, "", 0.0
        job.error = job.error_type = job.phase = ""
        self._submit(job)

    def _instance_of(self, job: Job) -> Instance | None:
        return self.instances.get(job.needs.instance) if job.needs.instance else None

    def _finish(self, event: JobFinished) -> None:
        worker = self.workers.get(event.worker_id)
        job = self.jobs.get(event.job_id)
        if job is not None and job.worker_id == event.worker_id:
            if event.error is None:
                self._end(job, JobStatus.COMPLETED)
            else:
                self._end(job, JobStatus.FAILED, event.error)
        self.external.let_go(event.worker_id, event.job_id)
        if worker is not None and worker.job_id == event.job_id:
            if job is not None and job.started_at is not None:
                worker.last_run_s = self._now - job.started_at
            self._go_on(worker)
            self._schedule(self.endpoints[worker.endpoint_id])

    def _end_early(self, job_id: str, status: JobStatus, error: str) -> None:
        job = self.jobs.get(job_id)
        if job is None:
            return
        worker = self.workers.get(job.worker_id)
        if worker is None or job.status is JobStatus.IN_PROGRESS:
            self._leave_line(job)
        else:
            worker.ahead.remove(job.id)
            self._actions.append(SendCancel(worker.id, job.id))
        if job.worker_id in self.external.workers:
            self._actions.append(SendCancel(job.worker_id, job.id))
        if worker is not None and worker.job_id == job.id:
            worker.status = WorkerStatus.RELEASING
            worker.deadline = self._now + RELEASE_GRACE_S
            self._actions.append(SendCancel(worker.id, job.id))
            self._recall(worker)
        self._end(job, status, error)

    def _leave_line(self, job: Job) -> None:
        if job.status is JobStatus.IN_QUEUE:
            self._line(self.endpoints[job.endpoint_id], job).remove(job.id)

    def _end(self, job: Job, status: JobStatus, error: str = "", error_type: str = "") -> None:
        self._move(job, status)
        job.ended_at = self._now
        job.error = error
        job.error_type = error_type
        del self.jobs[job.id]
        self._changed[job.id] = job

    @staticmethod
    def _move(job: Job, status: JobStatus) -> None:
        if status not in TRANSITIONS[job.status]:
            raise AssertionError(f"job {job.id} cannot go from {job.status.value} to {status.value}")
        job.status = status

    def _requeue(self, endpoint: Endpoint, job: Job, reason: str, error: str = DIED) -> None:
        instance = self._instance_of(job)
        if instance is not None and instance.lost:
            self._fail_for_lost(job, instance)
        elif job.attempts >= MAX_ATTEMPTS:
            error = error.format(attempts=job.attempts, reason=reason)
            self._end(job, JobStatus.FAILED, error, "WorkerLostError")
        else:
            self._unassign(job)
            self._line(endpoint, job).appendleft(job.id)
            self._changed[job.id] = job

    def _not_begun(self, job: Job) -> None:
        """Let a job wait again as if it had never been given to its worker."""
        job.attempts -= 1
        self._unassign(job)
        self._line(self.endpoints[job.endpoint_id], job).appendleft(job.id)
        self._changed[job.id] = job

    def _unassign(self, job: Job) -> None:
        self._move(job, JobStatus.IN_QUEUE)
        job.worker_id, job.started_at = "", None

    # --- scheduling ---------------------------------------------------------------------------

    @staticmethod
    def _line(endpoint: Endpoint, job: Job) -> deque[str]:
        return endpoint.lines.setdefault(job.needs, deque())

    def _schedule_all(self) -> None:
        for endpoint in self.endpoints.values():
            self._schedule(endpoint)

    def _schedule(self, endpoint: Endpoint) -> None:
        if endpoint.balancer is not None:
            self._balance(endpoint, endpoint.balancer)
        for needs in [needs for needs, line in endpoint.lines.items() if not line]:
            del endpoint.lines[needs]
        for needs in sorted(endpoint.lines, key=lambda n: self.jobs[endpoint.lines[n][0]].submitted_at):
            self._serve(endpoint, needs)
        self._keep_warm(endpoint)

    def _serve(self, endpoint: Endpoint, needs: Needs) -> None:
        """Give idle workers to a line, then start workers for what is left of it."""
        line = endpoint.lines[needs]
        instance = self.instances.get(needs.instance) if needs.instance else None
        while line and (worker := self._idle_worker(endpoint, needs, instance)):
            self._assign(worker, self.jobs[line.popleft()])
            instance = self.instances.get(needs.instance) if needs.instance else None
        if self.external.workers:
            instance = self._give_out(endpoint, needs, line)
        if not line or instance is not None:
            return
        if not endpoint.scaling.workers_max:
            self._tell_phase(line[0], NO_OWN_WORKERS.format(endpoint=endpoint.id))
            return
        wanted = 1 if needs.instance else len(line)
        self._start_workers(endpoint, needs.environment, wanted, line[0])
        if needs.instance is None:
            self._send_ahead(endpoint, needs, line)

    def _send_ahead(self, endpoint: Endpoint, needs: Needs, line: deque[str]) -> None:
        for worker in endpoint.workers.values():
            if (
                worker.status is not WorkerStatus.BUSY
                or worker.last_run_s > SHORT_RUN_S
                or worker.revision != endpoint.revision
                or not needs.covered_by(worker.environment)
            ):
                continue
            while line and len(worker.ahead) < MAX_AHEAD:
                job = self.jobs[line.popleft()]
                job.worker_id = worker.id
                worker.ahead.append(job.id)
                self._actions.append(SendJob(worker.id, job.id))

    def _idle_worker(self, endpoint: Endpoint, needs: Needs, instance: Instance | None) -> Worker | None:
        if instance is not None:
            worker = self.workers.get(instance.worker_id)
            return worker if worker is not None and worker.status is WorkerStatus.IDLE else None
        fitting = (
            w
            for w in endpoint.workers.values()
            if w.status is WorkerStatus.IDLE and needs.covered_by(w.environment)
        )
        return min(fitting, key=lambda w: (len(w.instances), len(w.environment.requirements)), default=None)

    def _assign(self, worker: Worker, job: Job) -> None:
        self._bind(worker, job)
        self._actions.append(SendJob(worker.id, job.id))

    def _bind(self, worker: Worker, job: Job) -> None:
        worker.status, worker.job_id = WorkerStatus.BUSY, job.id
        self.endpoints[worker.endpoint_id].warm = worker.environment
        self._begin(job, worker.id, worker.instances, worker.ready_at)

    def _begin(self, job: Job, worker_id: str, instances: set[str], ready_at: float) -> None:
        self._move(job, JobStatus.IN_PROGRESS)
        job.worker_id = worker_id
        job.started_at = self._now
        job.attempts += 1
        job.cold_s = max(0.0, ready_at - job.submitted_at)
        instance_id = job.needs.instance
        if instance_id and instance_id not in self.instances:
            self.instances[instance_id] = Instance(instance_id, job.client_id, worker_id)
            instances.add(instance_id)
        if instance_id and not job.client_id:
            self.instances[instance_id].leased = True
            self.instances[instance_id].unclaimed_until = self._now + LEASE_S
        self._changed[job.id] = job

    def _start_workers(self, endpoint: Endpoint, environment: Needs, wanted: int, first: str) -> None:
        if environment not in self._ready:
            self._build(environment)
            return
        starting = sum(
            w.status is WorkerStatus.STARTING and environment.covered_by(w.environment)
            for w in endpoint.workers.values()
        )
        room = endpoint.scaling.workers_max - len(endpoint.workers)
        wanted = min(wanted - starting, self._growth(endpoint, environment, first))
        for _ in range(min(wanted, room)):
            self._start_worker(endpoint, environment)
            self._tell_phase(first, "starting worker")
        if room <= 0 and not starting and not self._make_room(endpoint, environment):
            self._tell_phase(first, ALL_HELD)

    def _growth(self, endpoint: Endpoint, environment: Needs, first: str) -> int:
        """Return how many workers the endpoint's scaler lets us add for a line; one is always given."""
        workers = [w for w in endpoint.current_workers if environment.covered_by(w.environment)]
        scaling, job = endpoint.scaling, self.jobs[first]
        if not workers and scaling.requests_per_worker is None and scaling.queue_delay_s is not None:
            return 1
        if scaling.queue_delay_s is not None:
            is_starting = any(w.status is WorkerStatus.STARTING for w in workers)
            return int(not is_starting and self._now - job.submitted_at >= scaling.queue_delay_s)
        if scaling.requests_per_worker is not None:
            jobs = sum(job.endpoint_id == endpoint.id for job in self.jobs.values())
            return math.ceil(jobs / scaling.requests_per_worker) - len(workers)
        return endpoint.scaling.workers_max

    def _tell_phase(self, job_id: str, phase: str) -> None:
        job = self.jobs[job_id]
        if job.phase != phase:
            job.phase = phase
            self._actions.append(PhaseChanged(job_id, phase))

    def _build(self, environment: Needs) -> None:
        if environment not in self._building:
            self._building.add(environment)
            self._actions.append(BuildEnvironment(environment))

    def _start_worker(self, endpoint: Endpoint, environment: Needs) -> None:
        self._started += 1
        worker = Worker(
            f"{OURS}{self._seed}{self._started}",
            endpoint.id,
            environment,
            deadline=self._now + START_GRACE_S,
            revision=endpoint.revision,
        )
        self._add_worker(endpoint, worker)
        self._actions.append(StartWorker(worker.id, endpoint.id, environment))

    def _add_worker(self, endpoint: Endpoint, worker: Worker) -> None:
        self.workers[worker.id] = endpoint.workers[worker.id] = worker

    def _make_room(self, endpoint: Endpoint, environment: Needs) -> bool:
        """Stop one idle worker of another environment; its place is filled when it is gone.

        False if no worker of the endpoint will ever make room: each holds a remote object.
        """
        workers = endpoint.workers.values()
        if any(w.status is WorkerStatus.STOPPING for w in workers):
            return True
        for worker in workers:
            fits = environment.covered_by(worker.environment)
            if worker.status is WorkerStatus.IDLE and not self._is_held(worker) and not fits:
                self._stop(worker)
                return True
        return not all(self._is_held(w) and not environment.covered_by(w.environment) for w in workers)

    def _is_held(self, worker: Worker) -> bool:
        """Say if a worker cannot be given up: an object lives there that would be lost."""
        return any(not self.instances[instance_id].leased for instance_id in worker.instances)

    def _keep_warm(self, endpoint: Endpoint) -> None:
        missing = endpoint.scaling.workers_min - len(endpoint.workers)
        if missing <= 0 or endpoint.warm is None or endpoint.start_failures >= MAX_START_FAILURES:
            return
        if endpoint.warm not in self._ready:
            self._build(endpoint.warm)
            return
        for _ in range(missing):
            self._start_worker(endpoint, endpoint.warm)

    # --- workers ------------------------------------------------------------------------------

    def _connect(self, event: WorkerConnected) -> None:
        endpoint = self.endpoints.get(event.endpoint_id)
        if endpoint is None:
            self._actions.append(KillWorker(event.worker_id))
            return
        worker = self.workers.get(event.worker_id)
        if worker is None:
            worker = Worker(event.worker_id, event.endpoint_id, event.environment, revision=endpoint.revision)
            self._add_worker(endpoint, worker)
        worker.environment = event.environment
        self._wait_again(worker.ahead)  # a worker that comes back has dropped what it had not begun
        worker.ahead.clear()
        worker.ready_at = worker.ready_at or self._now
        worker.deadline = None
        endpoint.start_failures = 0
        endpoint.warm = endpoint.environment or endpoint.warm
        self._ready.add(event.environment)
        self._adopt_instances(worker, event.instances)
        for job_id in event.finished:
            self._unqueue(endpoint, worker, job_id)
        if worker.job_id not in event.finished and worker.job_id != event.job_id:
            self._take_back(endpoint, worker)
        if event.job_id is None:
            self._set_idle(worker)
        else:
            self._return_with(endpoint, worker, event.job_id)
        self._schedule(endpoint)

    def _return_with(self, endpoint: Endpoint, worker: Worker, job_id: str) -> None:
        """Let a worker that comes back go on with its job, unless it ended or moved meanwhile."""
        self._unqueue(endpoint, worker, job_id)
        job = self.jobs.get(job_id)
        if job is None or job.worker_id != worker.id:
            self._refuse_job(worker, job_id)
        else:
            worker.status, worker.job_id = WorkerStatus.BUSY, job_id

    def _unqueue(self, endpoint: Endpoint, worker: Worker, job_id: str) -> None:
        """Take a job out of its line: a worker that comes back has it already."""
        job = self.jobs.get(job_id)
        if job is not None and job.status is JobStatus.IN_QUEUE and not job.worker_id:
            self._line(endpoint, job).remove(job_id)
            self._bind(worker, job)

    def _adopt_instances(self, worker: Worker, instance_ids: Iterable[str]) -> None:
        for instance_id in instance_ids:
            worker.instances.add(instance_id)
            owner = self._owners.get(instance_id, "")
            until = None if owner else self._now + ORPHAN_GRACE_S
            found = Instance(instance_id, owner, worker.id, unclaimed_until=until)
            self.instances.setdefault(instance_id, found)

    def _claim(self, client_id: str, instance_ids: Iterable[str]) -> None:
        for instance_id in instance_ids:
            self._owners[instance_id] = client_id
            instance = self.instances.get(instance_id)
            if instance is not None:
                instance.client_id, instance.unclaimed_until = client_id, None

    def _take_back(self, endpoint: Endpoint, worker: Worker) -> None:
        """Queue the job that we believed this worker to run: it holds none."""
        job = self.jobs.get(worker.job_id or "")
        if job is not None:
            self._requeue(endpoint, job, "restarted")

    def _take_returned(self, worker_id: str, job_ids: Iterable[str]) -> None:
        if worker_id in self.external.workers:
            self._take_undelivered(self.external.workers[worker_id], job_ids)
        worker = self.workers.get(worker_id)
        if worker is None:
            return
        returned = [job_id for job_id in worker.ahead if job_id in set(job_ids)]
        worker.ahead = deque(job_id for job_id in worker.ahead if job_id not in returned)
        self._wait_again(returned)
        if worker.job_id in set(job_ids):
            # The end of its last job came just before: we believed that it had gone on with this one.
            job = self.jobs.get(worker.job_id)
            if job is not None and job.worker_id == worker_id:
                self._not_begun(job)
            self._go_on(worker)
        self._schedule(self.endpoints[worker.endpoint_id])

    def _wait_again(self, job_ids: Iterable[str]) -> None:
        """Put jobs that were sent ahead back at the head of their lines, in their order."""
        for job_id in reversed([*job_ids]):
            job = self.jobs[job_id]
            job.worker_id = ""
            self._line(self.endpoints[job.endpoint_id], job).appendleft(job_id)

    def _recall(self, worker: Worker) -> None:
        if worker.ahead:
            self._actions.append(RecallJobs(worker.id))

    def _refuse_job(self, worker: Worker, job_id: str) -> None:
        """Make a returning worker drop a job that ended or moved while it was away."""
        worker.job_id = job_id
        worker.status = WorkerStatus.RELEASING
        worker.deadline = self._now + RELEASE_GRACE_S
        self._actions.append(SendCancel(worker.id, job_id))

    def _go_on(self, worker: Worker) -> None:
        """Take note of what a worker does after a job: the next one it was sent ahead, or nothing."""
        if not worker.ahead:
            self._set_idle(worker)
            return
        worker.deadline = None
        self._bind(worker, self.jobs[worker.ahead.popleft()])

    def _set_idle(self, worker: Worker) -> None:
        worker.status, worker.job_id = WorkerStatus.IDLE, None
        worker.idle_since, worker.deadline = self._now, None
        if worker.revision != self.endpoints[worker.endpoint_id].revision:
            self._stop(worker)

    def _stop(self, worker: Worker) -> None:
        worker.status = WorkerStatus.STOPPING
        worker.deadline = self._now + RELEASE_GRACE_S
        self._actions.append(StopWorker(worker.id))

    def _lose(self, worker_id: str, reason: str) -> None:
        external = self.external.workers.pop(worker_id, None)
        if external is not None:
            self._lose_external(external, reason)
        worker = self.workers.pop(worker_id, None)
        if worker is None:
            return
        endpoint = self.endpoints[worker.endpoint_id]
        del endpoint.workers[worker_id]
        self._lose_instances(endpoint, worker.instances)
        if worker.status is WorkerStatus.STARTING:
            self._count_start_failure(endpoint, worker, reason)
        self._wait_again(worker.ahead)
        for job in [job for job in self.jobs.values() if job.worker_id == worker_id]:
            self._requeue(endpoint, job, reason)
        self._refuse_requests(endpoint, worker_id, 502, f"its worker died ({reason}); it is not sent again")
        self._schedule(endpoint)

    def _lose_instances(self, endpoint: Endpoint, instance_ids: Iterable[str]) -> None:
        for instance_id in instance_ids:
            instance = self.instances[instance_id]
            if instance.leased:
                del self.instances[instance_id]
                continue
            instance.lost = True
            for needs in [needs for needs in endpoint.lines if needs.instance == instance_id]:
                for job_id in endpoint.lines.pop(needs):
                    self._fail_for_lost(self.jobs[job_id], instance)

    def _fail_for_lost(self, job: Job, instance: Instance) -> None:
        error = (
            f"the worker that held the remote object {instance.id} died, and its state with it; "
            "make a new object"
        )
        self._end(job, JobStatus.FAILED, error, "WorkerLostError")

    def _count_start_failure(self, endpoint: Endpoint, worker: Worker, reason: str) -> None:
        endpoint.start_failures += 1
        if endpoint.start_failures >= MAX_START_FAILURES:
            self._ready.discard(worker.environment)
            error = f"a worker could not be started {MAX_START_FAILURES} times: {reason}"
            self._fail_waiting(worker.environment, error, "WorkerLostError")

    def _fail_waiting(self, environment: Needs, error: str, error_type: str) -> None:
        for job_id in list(self.waiting_for(environment)):
            job = self.jobs[job_id]
            endpoint = self.endpoints[job.endpoint_id]
            self._line(endpoint, job).remove(job_id)
            endpoint.start_failures = 0
            self._end(job, JobStatus.FAILED, error, error_type)
        for endpoint in self.endpoints.values():
            if endpoint.warm == environment:
                endpoint.warm = None
            if endpoint.environment == environment:
                endpoint.start_failures = 0
                self._refuse_requests(endpoint, "", 503, error)

    # --- external workers ---------------------------------------------------------------------

    def _hear(self, event: JobsAsked | PollsChanged | JobsHeld) -> None:
        if isinstance(event, JobsHeld):
            worker = self.external.workers.get(event.worker_id)
            if worker is not None:
                self._requeue_lost(worker, self.external.ping(worker, event.job_ids, self._now))
                self._schedule(self.endpoints[worker.endpoint_id])
            return
        endpoint = self.endpoints.get(event.endpoint_id)
        if endpoint is None:
            return
        worker = self.external.see(event.worker_id, endpoint.id, self._now)
        if isinstance(event, PollsChanged):
            self.external.open_polls(
                worker, event.polls, self._now, can_stop=event.can_stop, broke=event.broke
            )
        else:
            lost = self.external.ask(worker, event.count, holds_none=event.holds_none)
            self._requeue_lost(worker, lost)
        if worker.is_waiting:
            self._schedule(endpoint)

    def _give_out(self, endpoint: Endpoint, needs: Needs, line: deque[str]) -> Instance | None:
        """Give a line to the external workers that ask; return the remote object that it is for."""
        while True:
            instance = self.instances.get(needs.instance) if needs.instance else None
            worker = self.external.waiting(endpoint.id, instance.worker_id if instance else None)
            if not line or worker is None:
                return instance
            job = self.jobs[line.popleft()]
            self._begin(job, worker.id, worker.instances, worker.since)
            self.external.give(worker, job.id, self._now)
            self._actions.append(SendJob(worker.id, job.id))

    def unwanted(self, worker_id: str) -> list[str]:
        """Return the jobs that an external worker holds and should let go."""
        worker = self.external.workers.get(worker_id)
        held = worker.held if worker is not None else ()
        return [i for i in held if i not in self.jobs or self.jobs[i].worker_id != worker_id]

    def _requeue_lost(self, worker: ExternalWorker, job_ids: Iterable[str]) -> None:
        endpoint = self.endpoints[worker.endpoint_id]
        for job_id in job_ids:
            job = self.jobs.get(job_id)
            if job is not None and job.worker_id == worker.id:
                self._requeue(endpoint, job, "", GAVE_UP)

    def _take_undelivered(self, worker: ExternalWorker, job_ids: Iterable[str]) -> None:
        """Let jobs wait again as if they had never been given to a worker that was gone by then."""
        for job_id in job_ids:
            self.external.let_go(worker.id, job_id)
            job = self.jobs.get(job_id)
            if job is None or job.worker_id != worker.id:
                continue
            self._not_begun(job)
        self._schedule(self.endpoints[worker.endpoint_id])

    def _lose_external(self, worker: ExternalWorker, reason: str) -> None:
        endpoint = self.endpoints[worker.endpoint_id]
        self._lose_instances(endpoint, worker.instances)
        for job in [self.jobs[job_id] for job_id in worker.held if job_id in self.jobs]:
            if job.worker_id == worker.id:
                self._requeue(endpoint, job, reason)
        self._schedule(endpoint)

    # --- requests -----------------------------------------------------------------------------

    def _take_request(self, event: RequestArrived | RequestEnded) -> None:
        if isinstance(event, RequestEnded):
            self._end_request(event.endpoint_id, event.request_id)
            return
        request = event.request
        endpoint = self.endpoints[request.endpoint_id]
        assert endpoint.balancer is not None
        endpoint.balancer.add(request)
        self._schedule(endpoint)

    def _end_request(self, endpoint_id: str, request_id: str) -> None:
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is None or endpoint.balancer is None:
            return
        request = endpoint.balancer.remove(request_id)
        if request is not None:
            self._unload(endpoint.balancer, request.worker_id)
            self._schedule(endpoint)

    def _unload(self, balancer: Balancer, worker_id: str) -> None:
        """Take note that a worker has one request less."""
        worker = self.workers.get(worker_id)
        if worker is not None and not balancer.load[worker_id]:
            self._set_idle(worker)

    def _balance(self, endpoint: Endpoint, balancer: Balancer) -> None:
        """Give requests to workers, and start as many workers as the requests want."""
        workers = endpoint.current_workers
        up = [worker.id for worker in workers if worker.status in (WorkerStatus.IDLE, WorkerStatus.BUSY)]
        for request in balancer.assign(up):
            self.workers[request.worker_id].status = WorkerStatus.BUSY
            self._actions.append(SendRequest(request.worker_id, request.id))
        wanted = balancer.wanted(endpoint.scaling.requests_per_worker or 1)
        missing = min(wanted, endpoint.scaling.workers_max) - len(workers)
        if missing <= 0 or endpoint.environment is None:
            return
        if endpoint.environment not in self._ready:
            self._build(endpoint.environment)
            return
        for _ in range(missing):
            self._start_worker(endpoint, endpoint.environment)

    def _refuse_requests(self, endpoint: Endpoint, worker_id: str, status: int, reason: str) -> None:
        """Refuse all requests of a worker; of no worker: all that wait."""
        for request in endpoint.balancer.of_worker(worker_id) if endpoint.balancer else []:
            self._refuse(endpoint, request, status, reason)

    def _refuse(self, endpoint: Endpoint, request: Request, status: int, reason: str) -> None:
        assert endpoint.balancer is not None
        endpoint.balancer.remove(request.id)
        self._actions.append(RefuseRequest(request.id, request.worker_id, status, reason))
        self._unload(endpoint.balancer, request.worker_id)

    def _refuse_late(self, endpoint: Endpoint) -> None:
        for request in [*endpoint.balancer.requests.values()] if endpoint.balancer else []:
            if request.deadline is not None and request.deadline <= self._now:
                self._refuse(endpoint, request, 504, "it took longer than its execution time-out")

    # --- endpoints and instances --------------------------------------------------------------

    def _save_endpoint(self, event: EndpointSaved) -> None:
        endpoint = self.endpoints.setdefault(event.endpoint_id, Endpoint(event.endpoint_id, event.scaling))
        endpoint.scaling = event.scaling
        if event.balanced:
            endpoint.balancer = endpoint.balancer or Balancer()
            endpoint.environment = endpoint.warm = event.environment
        if endpoint.warm is None:
            endpoint.warm = event.environment
        if event.replace_workers:
            endpoint.revision += 1
            for worker in endpoint.workers.values():
                if worker.status is WorkerStatus.IDLE:
                    self._stop(worker)
        self._schedule(endpoint)

    def _delete_endpoint(self, endpoint_id: str) -> None:
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is None:
            return
        for job in [j for j in self.jobs.values() if j.endpoint_id == endpoint_id]:
            self._end_early(job.id, JobStatus.CANCELLED, "its endpoint was deleted")
        for request in [*endpoint.balancer.requests.values()] if endpoint.balancer else []:
            self._refuse(endpoint, request, 404, "its endpoint was deleted")
        for worker in endpoint.workers.values():
            del self.workers[worker.id]
            self._actions.append(KillWorker(worker.id))
        for external in self.external.of(endpoint_id):
            del self.external.workers[external.id]
            for instance_id in external.instances:
                del self.instances[instance_id]
        gone = [i.id for i in self.instances.values() if i.worker_id in endpoint.workers]
        for instance_id in gone:
            del self.instances[instance_id]
        del self.endpoints[endpoint_id]

    def _release_all_of(self, client_id: str) -> None:
        for instance in [i for i in self.instances.values() if i.client_id == client_id]:
            self._release(instance.id)

    def _release_unless_used(self, instance: Instance) -> None:
        if any(job.needs.instance == instance.id for job in self.jobs.values()):
            instance.unclaimed_until = self._now + ORPHAN_GRACE_S
        else:
            self._release(instance.id)

    def _release(self, instance_id: str) -> None:
        instance = self.instances.pop(instance_id, None)
        self._owners.pop(instance_id, None)
        external = self.external.workers.get(instance.worker_id) if instance else None
        if external is not None:
            external.instances.discard(instance_id)
            self._actions.append(DropInstance(external.id, instance_id))
        worker = self.workers.get(instance.worker_id) if instance else None
        if worker is not None:
            worker.instances.discard(instance_id)
            self._actions.append(DropInstance(worker.id, instance_id))
            self._schedule(self.endpoints[worker.endpoint_id])

    # --- time ---------------------------------------------------------------------------------

    def _tick(self) -> None:
        for job in [j for j in self.jobs.values() if self._is_over(j)]:
            self._end_early(job.id, JobStatus.TIMED_OUT, self._why_over(job))
        for worker in list(self.workers.values()):
            if worker.deadline is not None and worker.deadline <= self._now:
                self._actions.append(KillWorker(worker.id))
                self._lose(worker.id, "not answering")
            elif self._is_idle_too_long(worker):
                self._stop(worker)
            elif self._keeps_others_waiting(worker):
                self._recall(worker)
        for worker_id in self.external.overdue(self._now):
            self._lose(worker_id, "not heard any more")
        for instance in list(self.instances.values()):
            if instance.unclaimed_until is not None and instance.unclaimed_until <= self._now:
                self._release_unless_used(instance)
        for endpoint in self.endpoints.values():
            self._refuse_late(endpoint)
        self._schedule_all()

    def _is_over(self, job: Job) -> bool:
        end = _ends_at(job)
        return end is not None and end <= self._now

    def _why_over(self, job: Job) -> str:
        if job.expires_at <= self._now:
            return f"its TTL of {job.expires_at - job.submitted_at:g} s passed"
        return f"it ran longer than its execution time-out of {job.timeout_s:g} s"

    def _keeps_others_waiting(self, worker: Worker) -> bool:
        job = self.jobs.get(worker.job_id or "")
        if job is None or job.started_at is None or not worker.ahead:
            return False
        return self._now - job.started_at > RECALL_AFTER_S

    def _is_idle_too_long(self, worker: Worker) -> bool:
        end = self._idle_until(worker)
        return end is not None and end <= self._now

    def _idle_until(self, worker: Worker) -> float | None:
        endpoint = self.endpoints[worker.endpoint_id]
        if worker.status is not WorkerStatus.IDLE or worker.instances:
            return None
        staying = sum(w.status is not WorkerStatus.STOPPING for w in endpoint.workers.values())
        if staying <= endpoint.scaling.workers_min:
            return None
        return worker.idle_since + endpoint.scaling.idle_timeout_s


def _ends_at(job: Job) -> float | None:
    if job.started_at is None or job.timeout_s is None:
        return job.expires_at
    return min(job.expires_at, job.started_at + job.timeout_s)


def counters(machine: Machine, endpoint_id: str) -> Mapping[str, int]:
    """Return how many workers and unfinished jobs an endpoint has, by status."""
    endpoint = machine.endpoints[endpoint_id]
    counts = {status.value: 0 for status in WorkerStatus}
    for worker in endpoint.workers.values():
        counts[worker.status.value] += 1
    for external in machine.external.of(endpoint_id):
        counts["busy" if external.held else "idle"] += 1
    counts["inQueue"] = sum(len(line) for line in endpoint.lines.values())
    return counts
