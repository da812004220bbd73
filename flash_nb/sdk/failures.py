"""A worker's exception as a real one: its own type where this side knows it, its own traceback.

The frames are rebuilt, so that IPython renders ``Cell In[3], line 5`` with the text of the cell, as for
an exception that was raised here. Not by tblib: its frames do not say where their function starts,
and IPython shows the wrong lines for those.
"""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from flash_nb.errors import (
    JobCancelledError,
    JobTimeoutError,
    RemoteExecutionError,
    SerializationError,
    WorkerEnvironmentError,
    WorkerLostError,
)
from flash_nb.jobs import JobInfo, JobStatus
from flash_nb.worker import culprit
from flash_nb.worker.codec import decode
from flash_nb.worker.frames import Buffer


def rebuild(
    error: dict[str, Any],
    buffers: Sequence[Buffer],
    resolve: Callable[[str], Any],
    *,
    stdout: str = "",
    job_id: str = "",
) -> BaseException:
    """Return the exception that a worker described, with its causes and tracebacks.

    Args:
        error: What `flash_nb.worker.failure.describe` made.
        buffers: The pickles of its chain.
        resolve: Finds classes of ``__main__``.
        stdout: The tail of what the job printed.
        job_id: The job.
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
    facts = {
        "remote_type": error["type"],
        "remote_message": error["message"],
        "remote_traceback": error["text"],
        "stdout": stdout,
        "job_id": job_id,
    }
    raised = exceptions[0]
    if isinstance(raised, RemoteExecutionError):
        vars(raised).update(facts)
    else:
        told = RemoteExecutionError(f"{error['type']}: {error['message']}", **facts)
        vars(raised)["__flash__"] = told  # not by setattr: an exception may be a frozen dataclass
    return raised


def without_result(info: JobInfo, *, stdout: str = "") -> RemoteExecutionError:
    """Return the exception for a job that ended without a result of its own."""
    error = _without_result(info)
    error.remote_message = info.error.partition("\n")[0]
    error.stdout = stdout
    error.job_id = info.id
    return error


def _without_result(info: JobInfo) -> RemoteExecutionError:
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
            if isinstance(found, culprit.SerializationError):
                return SerializationError(
                    f"{entry['message'][:1].upper()}{entry['message'][1:]}.",
                    hint="Return plain data, an array or a table instead.",
                )
            if isinstance(found, BaseException):
                return found
            reason = ""
    else:
        reason = " (it cannot be pickled)"
    return RemoteExecutionError(f"{entry['type']}: {entry['message']}{reason}")


def _traceback(frames: Sequence[dict[str, Any]]) -> types.TracebackType | None:
    trace: types.TracebackType | None = None
    for described in reversed(frames):
        innermost = _raise_at(**described)
        trace = types.TracebackType(trace, innermost.tb_frame, innermost.tb_lasti, innermost.tb_lineno)
    return trace


def _raise_at(
    *, file: str, function: str, first_line: int, span: tuple[int, int, int, int]
) -> types.TracebackType:
    """Raise at a place of a function that need not exist; return the traceback of that frame alone."""
    tree = ast.parse("def f(): raise Exception")
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    line, end_line, column, end_column = span
    for node in ast.walk(definition):
        if isinstance(node, (ast.stmt, ast.expr)):
            node.lineno, node.end_lineno, node.col_offset, node.end_col_offset = (
                line, end_line, column, end_column,
            )  # fmt: skip
    definition.lineno = min(first_line, line)
    code = next(each for each in compile(tree, file, "exec").co_consts if isinstance(each, types.CodeType))
    code = code.replace(co_name=function)
    if sys.version_info >= (3, 11):
        code = code.replace(co_qualname=function)
    try:
        types.FunctionType(code, {"__name__": "__main__", "__file__": file})()
    except Exception as raised:  # noqa: BLE001 - raised on purpose
        own_frame = raised.__traceback__
    trace = own_frame and own_frame.tb_next
    assert trace is not None
    return trace
