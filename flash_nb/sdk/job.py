"""Job: the handle of one run.

Its events arrive on the session's background loop. Whoever waits (a coroutine in any loop, or a
plain thread) is woken there and then, and the result is decoded in the waiting thread, so that the
user's modules are imported where the user's code runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

from flash_nb.errors import BackendError
from flash_nb.jobs import (
    Carried,
    FinishedEvent,
    ItemEvent,
    JobEvent,
    JobInfo,
    JobOutput,
    JobStatus,
    PhaseEvent,
    StatusEvent,
    StreamEvent,
    utc,
)
from flash_nb.loop import Mailbox, settled, wait
from flash_nb.sdk import failures
from flash_nb.sdk.stream import Stream
from flash_nb.sdk.tail import Tail

Decode = Callable[[FinishedEvent], Any]
Resolve = Callable[[str], Any]


class Job:
    """One run; await it, or call `result`, for its `JobOutput`.

    Attributes:
        id: The job's id.
        label: What runs, for people.
        items: What its generator yielded until now, pickled, by its place; see `stream`.
        resolve: Finds classes of ``__main__``.
        carried: What it took along of the notebook.
        printed: The end of what it printed to standard output.
        log: The end of all that it printed.
        phase: What it waits for, while it is queued.
        on_change: Called after each event, on the background loop: it must be quick.
    """

    def __init__(
        self,
        job_id: str,
        *,
        label: str,
        mailbox: Mailbox,
        decode: Decode,
        resolve: Resolve,
        on_event: Callable[[JobEvent], None],
        retry: Callable[[Job], Job],
    ) -> None:
        self.id = job_id
        self.label = label
        self._mailbox = mailbox
        self._decode = decode
        self.items: dict[int, bytes] = {}
        self.resolve = resolve
        self.carried = Carried()
        self.printed = Tail()
        self.log = Tail()
        self.phase = ""
        self.on_change: Callable[[], None] = _ignore
        self._on_event = on_event
        self._retry = retry
        self._cancel_there: Callable[[str], None] | None = None
        self._info: JobInfo | None = None
        self._finished: Future[FinishedEvent] = Future()
        self._output: JobOutput | None = None
        self._lock = threading.Lock()
        self._news_lock = threading.Lock()  # not the other one: it is held while a result is decoded
        self._news: Future[None] | None = None
        self._cancelled_early = False

    @property
    def status(self) -> str:
        """The last status heard of."""
        return JobStatus.IN_QUEUE.value if self._info is None else self._info.status.value

    @property
    def info(self) -> JobInfo | None:
        """What the backend last said; None before its first word."""
        return self._info

    def done(self) -> bool:
        """True if the job has its final status."""
        return self._finished.done()

    def cancel(self) -> None:
        """Ask for the end of the job: its process stops computing. Harmless when it is over."""
        if not self.done():
            self._mailbox.post(self._cancel)

    def retry(self) -> Job:
        """Run a job again that failed, timed out or was cancelled; return a new handle of the same id.

        Raises:
            BackendError: It is not over, it completed, or its arguments are not kept any more.
        """
        if self._cancelled_early:
            raise BackendError(
                f"The job {self.id} cannot be retried: it was cancelled before it was sent.",
                hint="Call the function again.",
            )
        return self._retry(self)

    def result(self, timeout: float | None = None) -> JobOutput:
        """Wait for the end of the job, from a thread without an event loop or a busy cell.

        Raises:
            TimeoutError: It did not end within `timeout` seconds; it goes on.
            KeyboardInterrupt: You interrupted; the job is cancelled.
        """
        try:
            if timeout is None:
                wait(self._finished)
            else:
                self._finished.result(timeout)
        except KeyboardInterrupt:
            self.cancel()
            raise
        return self.output()

    def stream(self) -> Stream:
        """Return what the job yields, one item after the other, for ``async for`` or ``for``.

        Every stream begins with the first item, whenever it is made. The job goes on if one is left.
        """
        return Stream(self, owned=False)

    def output(self) -> JobOutput:
        """Return the output of a job that is done."""
        with self._lock:
            if self._output is None:
                self._output = self._make_output(self._finished.result(timeout=0))
            return self._output

    def when_done(self, call: Callable[[Job], object]) -> None:
        """Have `call` made with this job once it is done, on the background loop: it must be quick."""
        self._finished.add_done_callback(lambda _: call(self))

    @property
    def failure(self) -> BaseException | None:
        """Why it could not be submitted; None if it was, or is about to be."""
        return self._finished.exception(timeout=0) if self.done() else None

    def finished(self) -> FinishedEvent:
        """Return the last event of a job that is done."""
        return self._finished.result(timeout=0)

    def __await__(self) -> Generator[Any, None, JobOutput]:
        return self._wait().__await__()

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self.label}: {self.status}>"

    def again(self, on_event: Callable[[JobEvent], None]) -> Job:
        """Return a handle for the next run of this job."""
        job = Job(
            self.id,
            label=self.label,
            mailbox=self._mailbox,
            decode=self._decode,
            resolve=self.resolve,
            on_event=on_event,
            retry=self._retry,
        )
        job.carried = self.carried
        job._cancel_there = self._cancel_there
        return job

    # --- for the session ----------------------------------------------------------------------

    def started(self, cancel: Callable[[str], None]) -> bool:
        """Take note of how to cancel it; False if it was cancelled before it got there."""
        self._cancel_there = cancel
        return not self._cancelled_early

    def receive(self, event: JobEvent) -> None:
        """Take an event; called on the background loop."""
        if isinstance(event, StatusEvent):
            self._info, self.phase = event.info, ""
        elif isinstance(event, PhaseEvent):
            self.phase = event.phase
        elif isinstance(event, ItemEvent):
            self.items.setdefault(event.index, event.value)
            self._wake()
        elif isinstance(event, StreamEvent):
            self.log.add(event.text)
            if event.name == "stdout":
                self.printed.add(event.text)
        elif isinstance(event, FinishedEvent):
            self._info, self.phase = event.info, ""
            self._on_event(event)
            self._finished.set_result(event)
            self._wake()
            return
        self._on_event(event)
        self.on_change()

    def fail(self, error: BaseException) -> None:
        """End a job that could not be submitted."""
        if not self._finished.done():
            self._finished.set_exception(error)
            self._wake()

    # --- for streams --------------------------------------------------------------------------

    def news(self, position: int) -> Future[None] | None:
        """Return what is done when something came; None if this item is there, or none will come."""
        with self._news_lock:
            if position in self.items or self.done():
                return None
            if self._news is None:
                self._news = Future()
            return self._news

    def _wake(self) -> None:
        with self._news_lock:
            news, self._news = self._news, None
        if news is not None:
            news.set_result(None)

    # --- inside -------------------------------------------------------------------------------

    def _cancel(self) -> None:
        if self._cancel_there is None:
            self._cancelled_early = True
        elif not self.done():
            self._cancel_there(self.id)

    async def _wait(self) -> JobOutput:
        try:
            await settled(self._finished)
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self.output()

    def _make_output(self, event: FinishedEvent) -> JobOutput:
        info, result = event.info, event.result
        output, exception = None, None
        if result is not None and result["ok"]:
            output = self._decode(event)
        elif result is not None and result["error"] is not None:
            pickles = event.buffers[result["counts"][0] :]
            exception = failures.rebuild(
                result["error"], pickles, self.resolve, stdout=str(self.printed), job_id=self.id
            )
        else:
            exception = failures.without_result(info, stdout=str(self.printed))
        return JobOutput(
            id=self.id,
            status=info.status.value,
            output=output,
            error="" if exception is None else _describe(exception, result),
            started_at=utc(info.started_at),
            ended_at=utc(info.ended_at),
            workerId=info.worker,
            delayTime=round((info.queued_s + info.cold_s) * 1000),
            executionTime=round(info.run_s * 1000),
            exception=exception,
            stdout=str(self.printed),
            carried=self.carried,
        )


def _ignore() -> None:
    """Do nothing."""


def _describe(exception: BaseException, result: dict[str, Any] | None) -> str:
    if result is not None and result["error"] is not None:
        error = result["error"]
        return f"{error['type']}: {error['message']}\n{error['text']}"
    return f"{type(exception).__name__}: {exception}"
