"""Spending: what this process's jobs have cost, by backend and resource, and its way into the ledger."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flash_nb.jobs import JobInfo
from flash_nb.sdk.board import About
from flash_nb.sdk.money import Amount, amount, billed_s


@dataclass(frozen=True)
class Account:
    """Where money goes."""

    backend: str
    resource: str


@dataclass(frozen=True)
class Spent:
    """What some jobs took.

    Attributes:
        jobs: How many.
        seconds: Seconds of workers, cold starts included.
        cost: What the priced ones among them cost.
        unpriced: How many have no known price, as on CPU.
    """

    jobs: int = 0
    seconds: float = 0.0
    cost: Amount = Amount.NOTHING
    unpriced: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.jobs + other.jobs,
            self.seconds + other.seconds,
            self.cost + other.cost,
            self.unpriced + other.unpriced,
        )


Totals = Mapping[Account, Spent]


class Spending:
    """The sums of this process.

    Args:
        store: Adds sums to those of the month; called now and then, and by `flush`.
        every_s: How often at most.
    """

    def __init__(self, store: Callable[[Totals], None], every_s: float = 1.0) -> None:
        self._store = store
        self._every_s = every_s
        self._totals: dict[Account, Spent] = {}
        self._unstored: dict[Account, Spent] = {}
        self._stored_at = time.monotonic()
        self._lock = threading.Lock()

    @property
    def totals(self) -> Totals:
        """What was spent since this process began."""
        with self._lock:
            return dict(self._totals)

    def add(self, about: About, info: JobInfo) -> None:
        """Add a job that is over."""
        seconds = billed_s(info, time.time())
        cost = Amount.NOTHING if about.rate is None else amount(about.rate, seconds)
        spent = Spent(1, seconds, cost, unpriced=about.rate is None)
        account = Account(about.backend, about.resource)
        with self._lock:
            for sums in (self._totals, self._unstored):
                sums[account] = sums.get(account, Spent()) + spent
            is_due = time.monotonic() - self._stored_at > self._every_s
        if is_due:
            self.flush()

    def flush(self) -> None:
        """Store what is not stored yet."""
        with self._lock:
            unstored, self._unstored = self._unstored, {}
            self._stored_at = time.monotonic()
        if unstored:
            self._store(unstored)
