"""The budget of a cell: ``--max-cost``."""

from __future__ import annotations

import asyncio
import time

from flash_nb.errors import SettingsError
from flash_nb.jobs import JobInfo, JobStatus
from flash_nb.resources.prices import Rate
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk import money
from flash_nb.sdk.job import Job

GRACE_S = 5.0
"""How much longer than its budget a job may run where only its backend watches it."""


class Budget:
    """What a job may cost: it is cancelled when its dearest possible worker has cost that.

    Attributes:
        is_spent: It was cancelled for that.
        seconds: How long its worker may be up.
    """

    def __init__(self, limit: float, rate: Rate) -> None:
        self._limit = limit
        self.seconds = limit / rate.high
        self.is_spent = False

    def __str__(self) -> str:
        return money.usd(self._limit)

    def watch(self, info: JobInfo, job: Job) -> None:
        """Cancel a job that runs when it has cost its budget; called on the background loop."""
        if info.status is JobStatus.IN_PROGRESS:
            left_s = self.seconds - money.billed_s(info, time.time())
            asyncio.get_running_loop().call_later(left_s, self._end, job)

    def _end(self, job: Job) -> None:
        if not job.done():
            self.is_spent = True
            job.cancel()


def budget_of(limit: float | None, rate: Rate | None, resource: ServerlessResource) -> Budget | None:
    """Return the budget of a job; None for no limit.

    Args:
        limit: In USD.
        rate: What its worker costs.
        resource: What it runs on.

    Raises:
        SettingsError: There is a limit, and no price is known.
    """
    if limit is None:
        return None
    if rate is None:
        raise SettingsError(
            f"--max-cost cannot be kept: no price is known for {resource.name} ({resource.describe()}).",
            hint="Limit its time instead: --timeout SECONDS",
        )
    return Budget(limit, rate)


def timeout_s(chosen: float | None, budget: Budget | None) -> float | None:
    """Return the time-out of a job: its backend keeps the budget too, should this kernel die."""
    limits = [chosen, None if budget is None else budget.seconds + GRACE_S]
    return min((limit for limit in limits if limit is not None), default=None)
