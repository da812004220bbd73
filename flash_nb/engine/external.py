"""External workers: whoever takes jobs over HTTP, such as a process of Runpod's own ``runpod`` package.

Pure, like the machine that owns the one `ExternalWorkers`. The engine did not start such a worker, so it
cannot end it, and knows of it only what it hears:

* It *asks* for jobs and may hold its question open. It gets one job, unless it asks for more.
* It says that it holds none: what it was given before is lost, whatever became of it.
* Its pings name what it holds. They come from a process of their own, which may outlive the worker,
  so a ping is a proof of life only where nothing else can be heard, and for `PINGS_ALONE_S` at most.
* It keeps a *stop channel* open, even while a job keeps its event loop from answering: as long as that
  is open the process lives. So a worker that has one is given jobs only while it is open, unless
  it stays closed for `SILENT_GRACE_S`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

SILENT_GRACE_S = 10.0
BROKEN_GRACE_S = 3.0
PINGS_ALONE_S = 600.0
PING_LAG_S = 2.0


@dataclass(slots=True)
class ExternalWorker:
    """A worker that we did not start; times are POSIX seconds.

    Attributes:
        wanted: How many jobs it asks for right now.
        held: The jobs that it was given and has not let go, with the times when.
        instances: Remote objects that live there.
        polls: How many of its questions are open.
        has_stop_channel: It was seen to have one; `can_stop`: it is open; `stop_closed_at`: since when not.
        heard_at: When its own process was last heard.
        deadline: It is lost then, if nothing is heard until then.
        missed: Jobs that its last ping did not name.
    """

    id: str
    endpoint_id: str
    since: float
    heard_at: float
    deadline: float | None
    wanted: int = 0
    held: dict[str, float] = field(default_factory=dict)
    instances: set[str] = field(default_factory=set)
    polls: int = 0
    has_stop_channel: bool = False
    can_stop: bool = False
    stop_closed_at: float = 0.0
    missed: frozenset[str] = frozenset()

    @property
    def is_waiting(self) -> bool:
        """True if it takes a job now."""
        return self.wanted > 0 and (self.can_stop or not self.has_stop_channel)


class ExternalWorkers:
    """All external workers of an engine.

    Attributes:
        workers: By id.
    """

    def __init__(self) -> None:
        self.workers: dict[str, ExternalWorker] = {}

    def of(self, endpoint_id: str) -> list[ExternalWorker]:
        """Return the workers of an endpoint."""
        return [worker for worker in self.workers.values() if worker.endpoint_id == endpoint_id]

    def waiting(self, endpoint_id: str, worker_id: str | None) -> ExternalWorker | None:
        """Return a worker that takes a job of an endpoint now; with an id, only this one."""
        fitting = (w for w in self.of(endpoint_id) if w.is_waiting and worker_id in {None, w.id})
        return min(fitting, key=lambda w: (len(w.instances), len(w.held)), default=None)

    def see(self, worker_id: str, endpoint_id: str, now: float) -> ExternalWorker:
        """Take note that a worker's own process was heard."""
        worker = self.workers.get(worker_id)
        if worker is None:
            worker = ExternalWorker(worker_id, endpoint_id, now, now, now + SILENT_GRACE_S)
            self.workers[worker_id] = worker
        worker.heard_at = now
        worker.deadline = None if worker.polls else now + SILENT_GRACE_S
        return worker

    def restore(self, worker_id: str, endpoint_id: str, job_id: str, now: float, patience_s: float) -> None:
        """Take note of a job that a worker ran for an engine that went before."""
        worker = self.see(worker_id, endpoint_id, now)
        worker.held[job_id] = now
        worker.deadline = now + patience_s

    def ask(self, worker: ExternalWorker, count: int, *, holds_none: bool) -> list[str]:
        """Take note of a question for so many jobs, 0: of its end; return the jobs that are lost."""
        worker.wanted = count
        lost = [*worker.held] if holds_none else []
        for job_id in lost:
            del worker.held[job_id]
        return lost

    def give(self, worker: ExternalWorker, job_id: str, now: float) -> None:
        """Take note that a worker is given a job."""
        worker.wanted -= 1
        worker.held[job_id] = now

    def let_go(self, worker_id: str, job_id: str) -> None:
        """Take note that a worker is done with a job."""
        worker = self.workers.get(worker_id)
        if worker is not None:
            worker.held.pop(job_id, None)

    def open_polls(
        self, worker: ExternalWorker, polls: int, now: float, *, can_stop: bool, broke: bool
    ) -> None:
        """Take note of how many questions are open; `broke`: one was just cut off."""
        if worker.can_stop and not can_stop:
            worker.stop_closed_at = now
        worker.polls, worker.can_stop = polls, can_stop
        worker.has_stop_channel |= can_stop
        if polls:
            worker.deadline = None
        else:
            worker.deadline = now + (BROKEN_GRACE_S if broke else SILENT_GRACE_S)

    def ping(self, worker: ExternalWorker, job_ids: Iterable[str], now: float) -> list[str]:
        """Take note of what a worker says it holds; return the jobs that are lost.

        A job is lost that two pings in a row do not name: it may be on its way when the first is sent.
        """
        named = frozenset(job_ids)
        missed = frozenset(j for j, at in worker.held.items() if j not in named and at + PING_LAG_S <= now)
        lost = [job_id for job_id in worker.held if job_id in missed & worker.missed]
        for job_id in lost:
            del worker.held[job_id]
        worker.missed = missed
        if not worker.has_stop_channel and worker.deadline is not None:
            worker.deadline = min(now + SILENT_GRACE_S, worker.heard_at + PINGS_ALONE_S)
        return lost

    def overdue(self, now: float) -> list[str]:
        """Return the ids of the workers that are lost; no longer expect a stop channel that stays closed."""
        for worker in self.workers.values():
            if not worker.can_stop and worker.stop_closed_at + SILENT_GRACE_S <= now:
                worker.has_stop_channel = False
        return [w.id for w in self.workers.values() if w.deadline is not None and w.deadline <= now]
