"""A worker's exception as a real one: its own type where this side knows it, its own traceback.

The frames are rebuilt (tblib does it), so that IPython renders ``Cell In[3], line 5`` with the
text of the cell, as for an exception that was raised here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flash_nb.errors import (
    JobCancelledError,
    JobTimeoutError,
    RemoteExecutionError,
    WorkerEnvironmentError,
    WorkerLostError,
)
from flash_nb.jobs import JobInfo, JobStatus
from flash_nb.worker.codec import decode
from flash_nb.worker.frames import Buffer


def rebuild(error: dict[str, Any], buffers: Sequence[Buffer], resolve: Callable[[str], Any]) -> BaseException:
    """Return the exception that a worker described, with its causes and tracebacks.

    Args:
        error: What `flash_nb.worker.failure.describe` made.
        buffers: The pickles of its chain.
        resolve: Finds classes of ``__main__``.
    """
    exceptions: list[BaseException] = []
    position = 0
    for entry in error["chain"]:
        pickled = buffers[position : position + entry["buffers"]]
        position += entry["buffers"]
        exception = _exception(entry, pickled, resolve)
        exceptions.append(exception.with_traceback(_traceback(entry["frames"])))
    for entry, outer, inner in zip(error["chain"][1:], exceptions, exceptions[1:], strict=False):
        if entry["link"] == "cause":
            outer.__cause__ = inner
        else:
            outer.__context__ = inner
    raised = exceptions[0]
    raised.__flash_traceback__ = error["text"]  # type: ignore[attr-defined]
    return raised


def without_result(info: JobInfo) -> RemoteExecutionError:
    """Return the exception for a job that ended without a result of its own."""
    where = f"Job {info.id}"
    if info.status is JobStatus.CANCELLED:
        return JobCancelledError(f"{where} was cancelled.")
    if info.status is JobStatus.TIMED_OUT:
        return JobTimeoutError(
            f"{where} was ended: {info.error}.", hint="Give it more time: --timeout, or executionTimeoutMs."
        )
    message, _, hint = info.error.partition("\n")
    if info.error_type == WorkerEnvironmentError.__name__:
        return WorkerEnvironmentError(message, hint=hint or None)
    if info.error_type == WorkerLostError.__name__:
        return WorkerLostError(f"{where} failed: {message}.", hint=hint or None)
    return RemoteExecutionError(f"{where} failed: {message}.", hint=hint or None)


def _exception(
    entry: dict[str, Any], pickled: Sequence[Buffer], resolve: Callable[[str], Any]
) -> BaseException:
    if pickled:
        try:
            found = decode(pickled, resolve)
        except Exception as error:  # noqa: BLE001 - unpickling runs code of packages that differ here
            reason = f" (its type cannot be rebuilt here: {type(error).__name__}: {error})"
        else:
            if isinstance(found, BaseException):
                return found
            reason = ""
    else:
        reason = " (it cannot be pickled)"
    return RemoteExecutionError(f"{entry['type']}: {entry['message']}{reason}")


def _traceback(frames: Sequence[tuple[str, int, str]]) -> Any:
    from tblib import Traceback

    described: dict[str, Any] | None = None
    for filename, line, function in reversed(frames):
        described = {
            "tb_frame": {
                "f_globals": {"__name__": "__main__", "__file__": filename},
                "f_locals": {},
                "f_lineno": line,
                "f_code": {"co_filename": filename, "co_name": function},
            },
            "tb_lineno": line,
            "tb_next": described,
        }
    return Traceback.from_dict(described).as_traceback() if described else None
