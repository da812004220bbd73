"""Money: what work costs, and how that reads. Pure.

A worker is paid for from its start until it ends. So a job costs its cold start and its run; what its
worker idles afterwards is nobody's job, and is told apart. Where a resource has several GPU groups, nobody
says which one a worker got: amounts are ranges then, and limits reckon with the dearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flash_nb.jobs import JobInfo, JobStatus
from flash_nb.resources.prices import Rate
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk.look import human_time

HOUR_S = 3600.0

SIMULATED = frozenset({"local"})
"""Backends that take no money: their amounts are what the same work would cost at Runpod."""


@dataclass(frozen=True)
class Amount:
    """An amount of money in USD, or the bounds of one."""

    low: float = 0.0
    high: float = 0.0

    NOTHING: ClassVar[Amount]

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.low + other.low, self.high + other.high)

    def __str__(self) -> str:
        low, high = usd(self.low), usd(self.high)
        return low if low == high else f"{low}–{high.removeprefix('$')}"

    def told(self, backend: str) -> str:
        """Return it for people, marked if a backend is one that takes no money."""
        return f"{self} simulated" if backend in SIMULATED else str(self)


Amount.NOTHING = Amount()


def amount(rate: Rate, seconds: float) -> Amount:
    """Return what a number of seconds of one worker costs."""
    return Amount(rate.low * seconds, rate.high * seconds)


def billed_s(info: JobInfo, now: float) -> float:
    """Return for how many seconds a job has had a worker paid for until now.

    Args:
        info: How it stands.
        now: In POSIX seconds.
    """
    if info.status.is_final:
        return info.cold_s + info.run_s
    if info.status is JobStatus.IN_PROGRESS and info.started_at is not None:
        return info.cold_s + max(0.0, now - info.started_at)
    return 0.0


def usd(value: float) -> str:
    """Return an amount for people, with two digits that count: ``$0.00014``, ``$0.35``, ``$12.40``."""
    if value <= 0:
        return "$0"
    if value >= 0.0995:  # noqa: PLR2004 - from here on, cents
        return f"${value:,.2f}"
    places = 2
    while value * 10**places < 9.95:  # noqa: PLR2004 - two digits
        places += 1
    return f"${value:.{places}f}"


def quote(rate: Rate, last_run_s: float | None, backend: str) -> str:
    """Return what a job will cost, for people: by its last run, else by the hour.

    Args:
        rate: Its worker's.
        last_run_s: How many seconds the same cell ran last time, if it ever did.
        backend: Who runs it.
    """
    if last_run_s is None:
        return f"{amount(rate, HOUR_S).told(backend)} an hour"
    return f"about {amount(rate, last_run_s).told(backend)}"


def idling(rate: Rate, resource: ServerlessResource, backend: str) -> str:
    """Return what a worker costs after its last job, for people, and how to stop that."""
    stop = f"stop it: %flash down {resource.name}"
    if resource.workersMin:
        hourly = amount(rate, HOUR_S * resource.workersMin).told(backend)
        return f"{hourly} an hour until it is deleted (workersMin={resource.workersMin}) · {stop}"
    most = amount(rate, resource.idleTimeout).told(backend)
    return f"up to {most} in {human_time(resource.idleTimeout)} · {stop}"
