"""Load balancing: which worker takes which HTTP request, and how many workers the requests want.

Pure, like the machine that owns one `Balancer` for each load-balanced endpoint. A request is not a
job: it is not stored, it is not tried again, and a worker runs many at the same time. It waits only
while no worker is up.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Request:
    """One HTTP request on its way. `deadline` is when its time is over, as POSIX seconds."""

    id: str
    endpoint_id: str
    deadline: float | None = None
    worker_id: str = ""


class Balancer:
    """The requests of one endpoint.

    Attributes:
        requests: All that are not answered yet, by id.
        load: How many of them each worker has.
    """

    def __init__(self) -> None:
        self.requests: dict[str, Request] = {}
        self.load: Counter[str] = Counter()
        self._waiting: deque[str] = deque()

    def add(self, request: Request) -> None:
        """Let a request wait for a worker."""
        self.requests[request.id] = request
        self._waiting.append(request.id)

    def remove(self, request_id: str) -> Request | None:
        """Forget a request; None if it is forgotten already."""
        request = self.requests.pop(request_id, None)
        if request is not None and request.worker_id:
            self.load[request.worker_id] -= 1
        elif request is not None:
            self._waiting.remove(request_id)
        return request

    def assign(self, workers: Sequence[str]) -> list[Request]:
        """Give every waiting request to the worker with the fewest; return those requests."""
        assigned: list[Request] = []
        while self._waiting and workers:
            request = self.requests[self._waiting.popleft()]
            request.worker_id = min(workers, key=self.load.__getitem__)
            self.load[request.worker_id] += 1
            assigned.append(request)
        return assigned

    def of_worker(self, worker_id: str) -> list[Request]:
        """Return the requests of a worker; those that wait have the worker ``""``."""
        return [request for request in self.requests.values() if request.worker_id == worker_id]

    def wanted(self, requests_per_worker: int) -> int:
        """Return how many workers would give each at most `requests_per_worker` requests."""
        return math.ceil(len(self.requests) / requests_per_worker)
