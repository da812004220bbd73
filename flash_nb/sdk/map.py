"""`map`: a remote function over many items, a bounded number of them at once.

Each round of a run has two threads of its own. One takes items and submits them: an iterable is the
user's code and may be slow, or wait for this run's own results. The other decodes what comes back,
frees the places, and draws the progress. Neither the background loop nor the user's loop waits for
either. An item is kept from when it is taken until it is done; of a done item only its value is.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol

from flash_nb.errors import (
    BackendError,
    FlashRuntimeError,
    JobCancelledError,
    MapError,
    ResourceError,
)
from flash_nb.jobs import JobOutput, JobStatus
from flash_nb.loop import settled, wait
from flash_nb.sdk import progress
from flash_nb.sdk.items import Args, Items
from flash_nb.sdk.job import Job
from flash_nb.sdk.money import amount, billed_s
from flash_nb.sdk.objects import RemoteClass, RemoteMethod, RemoteObject
from flash_nb.sdk.options import RemoteOptions
from flash_nb.sdk.progress import MapStatus, Progress
from flash_nb.sdk.route import RemoteRoute
from flash_nb.sdk.session import current_session

JOBS_PER_WORKER = 8
DRAW_EVERY_S = 0.25
MOST_TOLD = 5

HINT = (
    "run.retry() runs only what is not done; run.results has the rest.\n"
    "run is what flash_nb.map returned; sys.last_value.run is the same."
)

Ended = Job | JobOutput | BaseException


class Mappable(Protocol):
    """What runs for each item: a remote function, a method of a remote object, or a cell.

    It may have a `flash_title`, what it is for people, a `flash_note`, what they must know of it, and a
    `flash_backend`, who runs it if that is not the chosen one.
    """

    @property
    def how(self) -> RemoteOptions:
        """How it runs; with ``local=True`` it is called, and gives a coroutine for a `JobOutput`."""

    def submit(self, *args: Any) -> Job:
        """Start it."""


def map(  # noqa: A001 - it is the builtin's counterpart, and an attribute of the package only
    function: Any, *iterables: Iterable[Any], max_parallel: int | None = None
) -> MapRun:
    """Run a remote function on every item; return at once.

    ``await`` the run, or call its `MapRun.result`, for the outputs in the order of the items. Items
    are taken from the iterables as places become free, so these may be lazy and endless. With several
    iterables the function takes one item of each, and the shortest ends the run, as in the builtin.
    What the function reads of the notebook is sent as it is when an item is submitted. A function
    with ``local=True`` runs here, one item after another.

    Args:
        function: A remote function, a method of a remote object, or a remote object.
        *iterables: The items.
        max_parallel: How many jobs are submitted and unfinished at once. Default: eight for each of
            the resource's ``workersMax``, so that a worker always finds the next one waiting.

    Raises:
        ResourceError: The function is not remote, or `max_parallel` is less than 1.
        TypeError: There is no iterable.
    """
    target = _target(function)
    if not iterables:
        raise TypeError("flash_nb.map needs something to iterate over: flash_nb.map(f, items)")
    if max_parallel is None:
        max_parallel = max(1, target.how.resource.workersMax) * JOBS_PER_WORKER
    if max_parallel < 1:
        raise ResourceError(
            f"max_parallel={max_parallel} lets nothing run.", hint="Give 1 or more, or leave it out."
        )
    return MapRun(target, Items(iterables), max_parallel)


class MapRun:
    """A function over many items; await it, or call `result`, for the outputs in their order."""

    _hint = HINT

    def __init__(self, function: Mappable, items: Items, max_parallel: int) -> None:
        self._items = items
        self._max_parallel = max_parallel
        self._lock = threading.Lock()
        self._round = _Round(function, items, max_parallel, self._lock)

    @property
    def results(self) -> list[Any]:
        """The outputs up to now, in the order of the items that were taken; None where there is none."""
        with self._lock:
            return self._items.results()

    @property
    def failures(self) -> dict[int, BaseException]:
        """What items failed with up to now, by their index."""
        with self._lock:
            return dict(sorted(self._items.failures.items()))

    @property
    def progress(self) -> Progress:
        """How it stands."""
        return self._round.progress()

    def done(self) -> bool:
        """True if nothing runs any more."""
        return self._round.finished.done()

    def cancel(self) -> None:
        """Cancel what is unfinished and take no more items; what is done is kept."""
        self._round.cancel()

    def result(self, timeout: float | None = None) -> list[Any]:
        """Wait for the outputs, in a thread without an event loop or a busy cell.

        Raises:
            MapError: Items failed, after all others were done; or it was cancelled.
            TimeoutError: It did not end within `timeout` seconds; it goes on.
            KeyboardInterrupt: You interrupted; what was unfinished is cancelled.
        """
        self._block(self._round.finished, timeout)
        return self._outcome()

    def retry(self, function: Any = None) -> MapRun:
        """Run what is not done: the items that failed or were cancelled, and those not taken yet.

        Args:
            function: A corrected function to run them with. Default: the same.

        Returns:
            This run; its result is complete, with all that was done before.

        Raises:
            FlashRuntimeError: It is still running.
        """
        target = self._round.function if function is None else _target(function)
        if not self._round.is_stopping and not self.done():
            raise FlashRuntimeError(
                f"{self!r} still runs.", hint="Await it first, or end it with run.cancel()."
            )
        self._block(self._round.finished)  # cancelled jobs need a moment to end
        with self._lock:
            self._items.again()
        self._round = _Round(target, self._items, self._max_parallel, self._lock, after=self._round.feeder)
        return self

    def completed(self) -> Completed:
        """Return an iterator over ``(index, value)`` in order of completion, for ``async for`` and ``for``.

        After `retry` it gives what was done since. When all have ended it raises what `result` would.
        """
        return Completed(self)

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._wait().__await__()

    def __repr__(self) -> str:
        return f"<MapRun {progress.render_line(self.progress, bar=False)}>"

    async def _wait(self) -> list[Any]:
        await self._unless_cancelled(self._round.finished)
        return self._outcome()

    async def _unless_cancelled(self, future: Future[None]) -> None:
        try:
            await settled(future)
        except asyncio.CancelledError:
            self.cancel()
            raise

    def _block(self, future: Future[None], timeout: float | None = None) -> None:
        try:
            if timeout is None:
                wait(future)
            else:
                future.result(timeout)
        except KeyboardInterrupt:
            self.cancel()
            raise

    def _outcome(self) -> list[Any]:
        ended = self._round
        if ended.stopped_by is not None:
            raise ended.stopped_by
        if self._items.is_complete:
            return self.results
        failures = self.failures
        error = MapError(_sentence(self.progress, self._items.described(MOST_TOLD)), hint=self._hint)
        error.run, error.results, error.failures = self, self.results, failures
        raise error from next(iter(failures.values()), None)


def _sentence(state: Progress, told: tuple[progress.ItemFailure, ...]) -> str:
    total = "" if state.total is None else f" of {state.total:,}"
    if state.status is MapStatus.CANCELLED:
        failed = f", {state.failed:,} failed" if state.failed else ""
        said = f"{state.title} was cancelled: {state.done:,}{total} items are done{failed}."
    else:
        said = f"{state.failed:,}{total} items of {state.title} failed."
    more = [f"  and {state.failed - len(told):,} more"] if state.failed > len(told) else []
    return "\n".join([said, *(f"  {failure}" for failure in told), *more])


class Completed:
    """What a run completes, as it does; see `MapRun.completed`."""

    def __init__(self, run: MapRun) -> None:
        self._run = run
        self._round = run._round
        self._position = self._round.kept

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        while True:
            yield from self._new()
            news = self._round.news(self._position)
            if news is None:
                break
            self._run._block(news)
        self._run._outcome()

    async def __aiter__(self) -> AsyncIterator[tuple[int, Any]]:
        while True:
            for pair in self._new():
                yield pair
            news = self._round.news(self._position)
            if news is None:
                break
            await self._run._unless_cancelled(news)
        self._run._outcome()

    def _new(self) -> Iterator[tuple[int, Any]]:
        items = self._run._items
        while self._position < len(items.order):
            index = items.order[self._position]
            self._position += 1
            yield index, items.values[index]


class _Round:
    """One pass over the items that are not done.

    Attributes:
        finished: Set when nothing runs any more.
        kept: How many were done before.
        is_stopping: No more items are taken.
        stopped_by: Why, if it was not `cancel`.
        feeder: The thread that takes items. It may outlast a cancelled round, in the user's iterable.
    """

    def __init__(
        self,
        function: Mappable,
        items: Items,
        max_parallel: int,
        lock: threading.Lock,
        *,
        after: threading.Thread | None = None,
    ) -> None:
        self.function = function
        self.finished: Future[None] = Future()
        self._lock = lock
        self._after = after
        self.kept = len(items.order)
        self.is_stopping = False
        self.stopped_by: BaseException | None = None
        self._items = items
        self._jobs: dict[int, Job] = {}
        self._places = threading.Semaphore(max_parallel)
        self._ended: queue.SimpleQueue[tuple[int, Ended] | None] = queue.SimpleQueue()
        self._started = 0
        self._billed_s = 0.0
        self._news: Future[None] | None = None
        self._begun_at = time.monotonic()
        self._working_since: float | None = None
        self._ended_at: float | None = None
        self._show = progress.place()
        self._show(self.progress())
        self.feeder = _start_thread(self._feed)
        _start_thread(self._collect)

    def cancel(self) -> None:
        """Take no more items and cancel those that run."""
        if not self.finished.done():
            self._stop(None)
            with self._lock:
                jobs = [*self._jobs.values()]
            for job in jobs:
                job.cancel()

    def news(self, position: int) -> Future[None] | None:
        """Return what is set when more than `position` are done or all have ended; None if they have."""
        with self._lock:
            if len(self._items.order) > position:
                news: Future[None] = Future()
                news.set_result(None)
                return news
            if self.finished.done():
                return None
            if self._news is None:
                self._news = Future()
            return self._news

    def progress(self) -> Progress:
        """Return how it stands."""
        with self._lock:
            items = self._items
            now = self._ended_at or time.monotonic()
            running = sum(job.status == JobStatus.IN_PROGRESS.value for job in self._jobs.values())
            return Progress(
                title=_title(self.function),
                resource=self.function.how.resource.name,
                note=getattr(self.function, "flash_note", ""),
                cost=self._cost(),
                status=self._status(),
                done=len(items.values),
                failed=len(items.failures),
                total=items.total,
                kept=self.kept,
                running=running,
                queued=len(items.running) - running,
                elapsed_s=now - self._begun_at,
                working_s=0.0 if self._working_since is None else now - self._working_since,
                failures=items.described(progress.MOST_FAILURES),
                reason=""
                if self.stopped_by is None
                else f"{type(self.stopped_by).__name__}: {self.stopped_by}",
            )

    def _cost(self) -> str:
        """Return what its jobs have cost until now, for people; empty if nobody can say."""
        now = time.time()
        live = [job.info for job in self._jobs.values() if job.info is not None]
        seconds = self._billed_s + sum(billed_s(info, now) for info in live)
        if not seconds:
            return ""
        session = current_session()
        rate = session.rate(self.function.how.resource)
        backend = getattr(self.function, "flash_backend", "") or session.backend.name
        return amount(rate, seconds).told(backend) if rate is not None else ""

    def _status(self) -> MapStatus:
        if self._ended_at is None:
            cancelling = self.is_stopping and self.stopped_by is None
            return MapStatus.CANCELLING if cancelling else MapStatus.RUNNING
        if self.stopped_by is not None:
            return MapStatus.STOPPED
        if self._items.is_complete:
            return MapStatus.COMPLETED
        return MapStatus.CANCELLED if self.is_stopping else MapStatus.FAILED

    # --- the thread that takes items ----------------------------------------------------------

    def _feed(self) -> None:
        run = self._run_here if self.function.how.local else self._submit
        if self._after is not None:
            self._after.join()  # two threads cannot be in one generator
        try:
            while self._places.acquire() and not self.is_stopping:
                item = self._items.take()  # the user's code; it may take long
                if item is None:
                    break
                self._start(*item, run)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the run raises it
            self._stop(error)
        finally:
            self._ended.put(None)

    def _start(self, index: int, args: Args, run: Callable[[int, Args], None]) -> None:
        with self._lock:
            if self.is_stopping:
                self._items.give_back(index, args)
                return
            self._items.start(index, args)
            self._started += 1
        try:
            run(index, args)
        except Exception as error:  # noqa: BLE001 - this item cannot be sent; others may
            self._ended.put((index, error))

    def _submit(self, index: int, args: Args) -> None:
        job = self.function.submit(*args)
        with self._lock:
            self._jobs[index] = job
            stopping = self.is_stopping
        if stopping:
            job.cancel()
        job.when_done(lambda job: self._ended.put((index, job)))

    def _run_here(self, index: int, args: Args) -> None:
        function: Any = self.function
        self._ended.put((index, asyncio.run(function(*args))))

    def _stop(self, reason: BaseException | None) -> None:
        """Take no more items."""
        with self._lock:
            if not self.is_stopping:
                self.is_stopping, self.stopped_by = True, reason
        self._places.release()
        self._ended.put(None)

    # --- the thread that takes what comes back ------------------------------------------------

    def _collect(self) -> None:
        draw_at = self._begun_at + DRAW_EVERY_S
        fed, count = False, 0
        while not fed or count < self._started:
            left = draw_at - time.monotonic()
            if left <= 0:
                self._draw()
                draw_at = time.monotonic() + DRAW_EVERY_S
                continue
            try:
                ended = self._ended.get(timeout=left)
            except queue.Empty:
                continue
            if ended is None:
                fed = True
            else:
                count += 1
                self._settle(*ended)
        self._finish()

    def _settle(self, index: int, ended: Ended) -> None:
        value, error = _outcome(ended)
        is_down = isinstance(error, BackendError)  # it would be the same with all others
        with self._lock:
            self._jobs.pop(index, None)
            if isinstance(ended, Job) and ended.info is not None:
                self._billed_s += billed_s(ended.info, time.time())
            if self._working_since is None:  # the first to end: not the time that workers took to start
                self._working_since = max(self._begun_at, time.monotonic() - _run_s(ended))
            if error is None:
                self._items.finish(index, value)
            elif is_down or (self.is_stopping and isinstance(error, JobCancelledError)):
                self._items.give_back(index, self._items.running[index])
            else:
                self._items.fail(index, error)
            news, self._news = self._news, None
        if error is not None and is_down:
            self._stop(error)
        self._places.release()
        if news is not None:
            news.set_result(None)

    def _finish(self) -> None:
        self._ended_at = time.monotonic()
        self._draw()
        with self._lock:
            self.finished.set_result(None)
            news, self._news = self._news, None
        if news is not None:
            news.set_result(None)

    def _draw(self) -> None:
        with contextlib.suppress(Exception):  # a picture does not end the run
            self._show(self.progress())


def _target(function: Any) -> Mappable:
    """Return what runs for each item.

    Raises:
        ResourceError: It is not remote.
    """
    name = getattr(function, "__name__", repr(function))
    if isinstance(function, RemoteObject):
        return RemoteMethod(function, "__call__")
    if isinstance(function, RemoteClass):
        raise ResourceError(
            f"{name} is a remote class: its objects have methods to map.",
            hint=f"For example: flash_nb.map({name}().method, items)",
        )
    if isinstance(function, RemoteRoute):
        raise ResourceError(
            f"{name} is a route: requests have no jobs that could be retried.",
            hint=f"Send them at once: await asyncio.gather(*({name}(item) for item in items))",
        )
    if not (hasattr(function, "submit") and isinstance(getattr(function, "how", None), RemoteOptions)):
        raise ResourceError(
            f"{name} is not a remote function: flash_nb.map would not know where to run it.",
            hint=f"Put @remote(resource_config=…) above its def; to run it here: [*map({name}, items)]"
            if builtins.callable(function)
            else "Give the remote function first, then the items: flash_nb.map(f, items)",
        )
    return function  # type: ignore[no-any-return]  # checked above


def _title(function: Mappable) -> str:
    title: str | None = getattr(function, "flash_title", None)
    return title or f"{getattr(function, '__name__', 'function')}()"


def _outcome(ended: Ended) -> tuple[Any, BaseException | None]:
    """Return the value of what ended, or what it failed with."""
    if isinstance(ended, BaseException):
        return None, ended
    try:
        output = ended.output() if isinstance(ended, Job) else ended
    except Exception as error:  # noqa: BLE001 - the result cannot be read, or the job could not be sent
        return None, error
    return output.output, output.exception


def _run_s(ended: Ended) -> float:
    if isinstance(ended, Job):
        return 0.0 if ended.info is None else ended.info.run_s
    return ended.executionTime / 1000 if isinstance(ended, JobOutput) else 0.0


def _start_thread(target: Callable[[], None]) -> threading.Thread:
    """Run it in a daemon thread, with the caller's context: its output belongs to the caller's cell."""
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(target,), name="flash_nb map", daemon=True)
    thread.start()
    return thread
