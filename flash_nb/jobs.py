"""A job: one run on an endpoint, from submission to its final status.

The statuses are Runpod's. A job only ever moves along `TRANSITIONS`; whatever arrives
after a final status (a late result, a late log line) is dropped::

    IN_QUEUE ──> IN_PROGRESS ──> COMPLETED
       │  ^          │    ├────> FAILED
       │  └──────────┘    ├────> CANCELLED
       │   worker died    └────> TIMED_OUT
       └──> CANCELLED, FAILED (no environment), TIMED_OUT (TTL)

Only a retry that somebody asks for starts a job anew that is in `RETRYABLE`.
"""

from __future__ import annotations

import html
import itertools
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any


class JobStatus(str, Enum):
    """Where a job stands, in Runpod's words."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def is_final(self) -> bool:
        """True if nothing can happen to the job any more."""
        return not TRANSITIONS[self]


TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.IN_QUEUE: frozenset(
        {JobStatus.IN_PROGRESS, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.TIMED_OUT}
    ),
    JobStatus.IN_PROGRESS: frozenset(
        {
            JobStatus.IN_QUEUE,
            JobStatus.COMPLETED,
            JobStatus.FAILED,
            JobStatus.CANCELLED,
            JobStatus.TIMED_OUT,
        }
    ),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
    JobStatus.TIMED_OUT: frozenset(),
}


RETRYABLE = frozenset({JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.TIMED_OUT})
"""How a job may have ended that can be run again: its id stays, all else begins anew in IN_QUEUE."""


class _JobIds:
    """Unique ids without a system call each: a random prefix for every process, and a count."""

    def __init__(self) -> None:
        self._pid = 0
        self._prefix = ""
        self._numbers = itertools.count(1)

    def __call__(self) -> str:
        if self._pid != os.getpid():
            self._pid, self._prefix = os.getpid(), secrets.token_hex(6)
        return f"{self._prefix}{next(self._numbers):04x}-u1"


new_job_id = _JobIds()
"""Return a fresh job id. Clients make them, so that submitting twice is one job."""


@dataclass(frozen=True, slots=True)
class JobInfo:
    """What a backend knows of a job; times in POSIX seconds, durations in seconds.

    Attributes:
        queued_s: Waited for a worker that was busy.
        cold_s: Waited for an environment or a worker to come up.
        error_type: The class of `flash_nb.errors` that fits, if its own code did not raise.
    """

    id: str
    endpoint: str
    status: JobStatus
    submitted_at: float
    worker: str = ""
    attempts: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    queued_s: float = 0.0
    cold_s: float = 0.0
    run_s: float = 0.0
    error: str = ""
    error_type: str = ""


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """The job has moved."""

    info: JobInfo


@dataclass(frozen=True, slots=True)
class PhaseEvent:
    """What a queued job waits for, for people: "downloading torch (780 MB)"."""

    phase: str


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """The job printed; `name` is ``"stdout"`` or ``"stderr"``."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class DisplayEvent:
    """The job displayed a mimebundle; `is_result` marks the value of a cell's last expression."""

    data: dict[str, Any]
    metadata: dict[str, Any]
    display_id: str | None = None
    update: bool = False
    is_result: bool = False


@dataclass(frozen=True, slots=True)
class ClearEvent:
    """The job cleared its output; with `wait`, when the next output comes."""

    wait: bool


@dataclass(frozen=True, slots=True)
class ItemEvent:
    """The job's generator yielded; `value` is the pickled item, `index` its place, from 0.

    A job that runs again after its worker died yields again: the first one of an index counts.
    """

    index: int
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """The job is safe: its backend would run it even if both ends died now."""


@dataclass(frozen=True, slots=True)
class FinishedEvent:
    """The last event of a job: its final state, and its result if a worker sent one.

    `result` is the header that `flash_nb.worker.execution` made, `buffers` its values.
    """

    info: JobInfo
    result: dict[str, Any] | None
    buffers: Sequence[Any]


JobEvent = (
    StatusEvent
    | PhaseEvent
    | StreamEvent
    | DisplayEvent
    | ClearEvent
    | ItemEvent
    | StoredEvent
    | FinishedEvent
)


@dataclass(frozen=True, slots=True)
class Carried:
    """What a job took along of the notebook, beside its own code and its arguments.

    Attributes:
        modules: Modules, as they are imported: ``"numpy as np"``.
        definitions: Functions and classes that travel as source.
        values: ``(name, bytes)`` of each pickled value, the largest first.
        notes: What is worth knowing of them: large values, names that do not exist.
        files: Modules that travel as the source of their files.
    """

    modules: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()
    values: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.modules or self.definitions or self.values or self.notes or self.files)

    def __str__(self) -> str:
        values = [f"{name} ({_size(size)})" for name, size in self.values]
        kinds = (
            ("modules", self.modules),
            ("files of", self.files),
            ("source of", self.definitions),
            ("values", values),
        )
        parts = [f"{title} {', '.join(names)}" for title, names in kinds if names]
        return "\n".join([" · ".join(parts), *self.notes]).strip()


@dataclass(frozen=True)
class JobOutput:
    """What a finished job gives back.

    Attributes:
        id: The job's id.
        status: A final `JobStatus` value, e.g. ``"COMPLETED"``.
        output: The returned value; None unless the job completed.
        error: What went wrong; empty for a completed job.
        started_at: When a worker took the job; None if none did.
        ended_at: When the job reached its final status.
        workerId: The worker that ran it; empty if none did.
        delayTime: Milliseconds from submission to a worker.
        executionTime: Milliseconds on the worker.
        exception: What `unwrap` raises, with its remote traceback; see `flash_nb.errors`.
        stdout: The tail of what the job printed.
        carried: What it took along of the notebook.
    """

    id: str
    status: str
    output: Any = None
    error: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    workerId: str = ""  # noqa: N815 - Runpod's wire name
    delayTime: int = 0  # noqa: N815 - Runpod's wire name
    executionTime: int = 0  # noqa: N815 - Runpod's wire name
    exception: BaseException | None = field(default=None, repr=False, compare=False)
    stdout: str = field(default="", repr=False, compare=False)
    carried: Carried = field(default=Carried(), repr=False, compare=False)

    def unwrap(self) -> Any:
        """Return the output, or raise what the job failed with."""
        if self.exception is not None:
            raise self.exception
        return self.output

    def __str__(self) -> str:
        outcome = self.error.splitlines()[0] if self.error else _shorten(repr(self.output))
        return f"JobOutput {self.status} in {self.executionTime} ms on {self.workerId or '–'}: {outcome}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("JobOutput(...)" if cycle else str(self))

    def _repr_html_(self) -> str:
        rows = [
            ("status", self.status),
            ("output", _shorten(repr(self.output), 2000)) if not self.error else ("error", self.error),
            ("time", f"{self.delayTime} ms queued · {self.executionTime} ms running"),
            ("worker", self.workerId or "–"),
            ("job", self.id),
        ]
        if self.carried:
            rows.append(("carried", str(self.carried)))
        cells = "".join(
            f'<tr><th style="text-align:left;padding:1px 12px 1px 0;font-weight:500;opacity:.65">{name}</th>'
            f'<td style="text-align:left;padding:1px 0;white-space:pre-wrap;font-family:monospace">'
            f"{html.escape(value)}</td></tr>"
            for name, value in rows
        )
        return f'<table style="border:none;font-size:90%">{cells}</table>'


def utc(seconds: float | None) -> datetime | None:
    """Return the UTC time of a POSIX timestamp in seconds; None for None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=timezone.utc)


def _size(count: int) -> str:
    """Return a number of bytes for people."""
    if count < 1000:  # noqa: PLR2004 - below that, bytes
        return f"{count} B"
    return f"{count / 1e3:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"  # noqa: PLR2004 - units


def _shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
