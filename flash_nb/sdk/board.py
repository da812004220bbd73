"""The board: the jobs of this process that are not over, and the newest that are, for people.

Whoever submits a job posts it here; a table of jobs reads `Board.rows`, and commands find a job by what
its row says. Of a job that completed only its row is kept, not its result.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from flash_nb.errors import JobNotFoundError
from flash_nb.jobs import JobInfo, JobStatus
from flash_nb.resources.prices import Rate
from flash_nb.sdk.job import Job
from flash_nb.sdk.money import amount, billed_s, usd
from flash_nb.sdk.tail import Tail

MOST_ENDED = 500


@dataclass(frozen=True)
class Origin:
    """The cell that a job came from; what is not known is empty.

    Attributes:
        notebook: The notebook's path.
        cell: The cell's id in the notebook.
        number: The cell's number, as in ``In [7]``.
        source: The hash of its text.
    """

    notebook: str = ""
    cell: str = ""
    number: int = 0
    source: str = ""


@dataclass(frozen=True)
class About:
    """What is known of a job before it runs.

    Attributes:
        label: What runs, for people.
        resource: The name of the resource it runs on.
        hardware: The resource's one-line description.
        backend: Who runs it.
        origin: The cell it came from.
        rate: What its worker costs; None where no price is known.
    """

    label: str
    resource: str = ""
    hardware: str = ""
    backend: str = ""
    origin: Origin = Origin()
    rate: Rate | None = None


@dataclass(frozen=True)
class Row:
    """A job as it stands now.

    Attributes:
        number: Its short name in this process, from 1.
        about: What is known of it.
        info: What its backend said last.
        last_line: The last line that it printed.
        phase: What it waits for, while it is queued.
    """

    number: int
    about: About
    info: JobInfo
    last_line: str = ""
    phase: str = ""

    def cost(self, now: float) -> str:
        """Return what it has cost until now at most, for people; empty if that is not known.

        Args:
            now: In POSIX seconds.
        """
        seconds = billed_s(self.info, now)
        if self.about.rate is None or not seconds:
            return ""
        cost = amount(self.about.rate, seconds)
        return usd(cost.high) if cost.low == cost.high else f"≤ {usd(cost.high)}"

    @property
    def is_live(self) -> bool:
        """True if it is not over."""
        return not self.info.status.is_final


@dataclass
class Post:
    """A job on the board.

    Attributes:
        number: Its short name in this process, from 1.
        about: What is known of it.
        id: Its id.
        log: The end of what it printed.
        job: Its handle; None once it has completed.
    """

    number: int
    about: About
    id: str
    log: Tail
    job: Job | None
    posted_at: float = field(default_factory=time.time)
    _ended: JobInfo | None = None

    def row(self) -> Row:
        """Return how it stands now."""
        info = self._ended or (self.job.info if self.job else None)
        phase = self.job.phase if self.job else ""
        return Row(self.number, self.about, info or self._unheard(), self.log.last_line, phase)

    def end(self, job: Job) -> None:
        """Take note of its end."""
        failure = job.failure
        if failure is None:
            self._ended = job.info
        else:
            self._ended = replace(
                self._unheard(), status=JobStatus.FAILED, ended_at=time.time(), error=str(failure)
            )
        if self._ended is not None and self._ended.status is JobStatus.COMPLETED:
            self.job = None

    def _unheard(self) -> JobInfo:
        return JobInfo(self.id, "", JobStatus.IN_QUEUE, self.posted_at)


class Board:
    """Posts of jobs, the newest last. All methods may be called in any thread.

    Args:
        on_end: Called when a job is over, in the thread that heard of it: it must be quick.
    """

    def __init__(self, on_end: Callable[[About, JobInfo], None]) -> None:
        self._on_end = on_end
        self._posts: dict[str, Post] = {}
        self._over: deque[Post] = deque()
        self._numbers = itertools.count(1)
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def add(self, job: Job, about: About) -> None:
        """Post a job. Another run of a job that is here already takes its place and its number."""
        with self._lock:
            before = self._posts.pop(job.id, None)
            number = next(self._numbers) if before is None else before.number
            post = self._posts[job.id] = Post(number, about, job.id, job.log, job)
        job.on_change = self._changed
        job.when_done(lambda job: self._end(post, job))
        self._changed()

    def posts(self) -> list[Post]:
        """Return all jobs, the newest first."""
        with self._lock:
            return [*reversed(self._posts.values())]

    def rows(self) -> list[Row]:
        """Return how all jobs stand, the newest first."""
        return [post.row() for post in self.posts()]

    def find(self, word: str) -> Post:
        """Return a job by its number or its id.

        Raises:
            JobNotFoundError: There is no such job here.
        """
        number = word.lstrip("#")
        with self._lock:
            for post in self._posts.values():
                if post.id == word or str(post.number) == number:
                    return post
        raise JobNotFoundError(
            f"This notebook has no job {word!r}.",
            hint="Give the number in the first column of %flash jobs, or the job's id.",
        )

    def listen(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have `call` made whenever something changed, in any thread: it must be quick.

        Returns:
            What ends that.
        """
        self._listeners.append(call)

        def stop() -> None:
            if call in self._listeners:
                self._listeners.remove(call)

        return stop

    def _changed(self) -> None:
        for call in [*self._listeners]:
            call()

    def _end(self, post: Post, job: Job) -> None:
        post.end(job)
        self._on_end(post.about, post.row().info)
        with self._lock:
            self._over.append(post)
            if len(self._over) > MOST_ENDED:
                oldest = self._over.popleft()
                if self._posts.get(oldest.id) is oldest:  # else it runs again
                    del self._posts[oldest.id]
        self._changed()
