"""The items of a map, and where each of them stands."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from typing import Any

from flash_nb.sdk.progress import ItemFailure, describe_failure

Args = tuple[Any, ...]


class Items:
    """Where each item stands: not taken yet, running, done, failed, or to run again.

    Items are taken by one thread at a time, without the lock: `next` of an iterable may take long.
    Everything else is called with the lock of the run.

    Attributes:
        total: How many there are; None while nobody knows.
        values: The outputs of those that are done, by index.
        order: Their indices, in the order in which they were done.
        failures: What the others failed with, by index.
        running: The items whose jobs are submitted and unfinished.
    """

    def __init__(self, iterables: tuple[Iterable[Any], ...]) -> None:
        lengths = [len(xs) if isinstance(xs, Sized) else None for xs in iterables]
        known = [length for length in lengths if length is not None]
        self.total = min(known) if len(known) == len(lengths) else None
        self.values: dict[int, Any] = {}
        self.order: list[int] = []
        self.failures: dict[int, BaseException] = {}
        self.running: dict[int, Args] = {}
        self._source: Iterator[Args] = zip(*iterables)  # noqa: B905 - as the builtin map
        self._taken = 0
        self._failed: dict[int, Args] = {}
        self._again: deque[tuple[int, Args]] = deque()
        self._broken: BaseException | None = None

    def take(self) -> tuple[int, Args] | None:
        """Take the next one; None if there is no more.

        Raises:
            BaseException: What the iterable raised, now or before.
        """
        if self._again:
            return self._again.popleft()
        if self._broken is not None:  # a generator that raised would say that it has ended
            raise self._broken
        try:
            args = next(self._source, None)
        except BaseException as error:
            self._broken = error
            raise
        if args is None:
            self.total = self._taken
            return None
        self._taken += 1
        return self._taken - 1, args

    def start(self, index: int, args: Args) -> None:
        """An item runs."""
        self.running[index] = args

    def finish(self, index: int, value: Any) -> None:
        """An item is done."""
        del self.running[index]
        self.values[index] = value
        self.order.append(index)

    def fail(self, index: int, error: BaseException) -> None:
        """An item failed."""
        self._failed[index] = self.running.pop(index)
        self.failures[index] = error

    def give_back(self, index: int, args: Args) -> None:
        """An item did not run to its end, for no fault of its own."""
        self.running.pop(index, None)
        self._again.append((index, args))

    def again(self) -> None:
        """Have the failed ones taken again, before all others."""
        waiting = [*self._failed.items(), *self._again]
        self._again = deque(sorted(waiting, key=lambda item: item[0]))
        self._failed.clear()
        self.failures.clear()

    @property
    def is_complete(self) -> bool:
        """True if all are done."""
        return self.total == len(self.values)

    def results(self) -> list[Any]:
        """Return the outputs in the order of the items that were taken, None where there is none."""
        return [self.values.get(index) for index in range(self._taken)]

    def described(self, count: int) -> tuple[ItemFailure, ...]:
        """Return the first failures for people."""
        first = heapq.nsmallest(count, self._failed)
        return tuple(describe_failure(index, self._failed[index], self.failures[index]) for index in first)
