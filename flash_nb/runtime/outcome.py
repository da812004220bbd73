"""The outcome of a call: of a function that ran in place, or of a job on another endpoint."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from .errors import (
    FlashRuntimeError,
    JobCancelledError,
    JobTimeoutError,
    RemoteExecutionError,
    SerializationError,
)
from .jobs import JobOutput, JobStatus, new_job_id
from .plain import given, given_each
from .request import unpickled


async def run_here(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> JobOutput:
    """Run a function in this process, with the outcome of a job."""
    started_at = datetime.now(tz=timezone.utc)
    output, exception = None, None
    try:
        output = await outcome(function, args, kwargs)
    except Exception as error:  # noqa: BLE001 - a job gives back whatever its function raised
        exception = error
    ended_at = datetime.now(tz=timezone.utc)
    return JobOutput(
        id=new_job_id(),
        status=(JobStatus.FAILED if exception else JobStatus.COMPLETED).value,
        output=output,
        error="" if exception is None else f"{type(exception).__name__}: {exception}",
        started_at=started_at,
        ended_at=ended_at,
        workerId="local",
        executionTime=round((ended_at - started_at).total_seconds() * 1000),
        exception=exception,
    )


async def outcome(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return what a call comes to: awaited, run in a thread if it is not async, items listed."""
    values, named = [given(value) for value in args], given_each(kwargs)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        result = function(*values, **named)
    else:
        result = await asyncio.to_thread(function, *values, **named)
    return await listed(result)


async def listed(result: Any) -> Any:
    """Return a result, awaited if need be; of a generator the list of its items."""
    if inspect.isawaitable(result):
        result = await result
    if inspect.isgenerator(result):
        return await asyncio.to_thread(list, result)
    if inspect.isasyncgen(result):
        return [item async for item in result]
    return result


def outcome_of(status: Mapping[str, Any], submitted: datetime) -> JobOutput:
    """Return the outcome of a job that is over.

    Args:
        status: What ``/status`` says of it.
        submitted: When it was.
    """
    ended = datetime.now(tz=timezone.utc)
    output, exception = None, None
    try:
        output = _output(status)
    except (RemoteExecutionError, SerializationError) as error:
        exception = error
    word, delay_ms = str(status["status"]), int(status.get("delayTime") or 0)
    if exception is not None and word == "COMPLETED":
        word = "FAILED"
    return JobOutput(
        id=str(status.get("id", "")),
        status=word,
        output=output,
        error="" if exception is None else _told(exception),
        started_at=submitted + timedelta(milliseconds=delay_ms),
        ended_at=ended,
        workerId=str(status.get("workerId") or ""),
        delayTime=delay_ms,
        executionTime=int(status.get("executionTime") or 0),
        exception=exception,
    )


def _output(status: Mapping[str, Any]) -> Any:
    """Return the value of a job that is over.

    Raises:
        RemoteExecutionError: It has none.
        SerializationError: It cannot be read here.
    """
    output: Any = status.get("output")
    job = str(status.get("id", ""))
    if isinstance(output, list) and len(output) == 1 and _is_response(output[0]):
        output = output[0]  # of a handler that streams
    match status["status"]:
        case "CANCELLED":
            raise JobCancelledError(f"Job {job} was cancelled.", job_id=job)
        case "TIMED_OUT":
            raise JobTimeoutError(
                f"Job {job} ran over its time: {status.get('error') or 'no reason given'}.", job_id=job
            )
        case "FAILED":
            raise _failed(status.get("error"), job)
    if not _is_response(output):
        return output
    if not output["success"]:
        raise _failed(output.get("error"), job)
    if "json_result" in output and output.get("result") is None:
        return output["json_result"]
    return None if output.get("result") is None else unpickled(output["result"])


def _is_response(output: Any) -> bool:
    return isinstance(output, dict) and "success" in output and ("result" in output or "error" in output)


def _failed(error: Any, job: str) -> RemoteExecutionError:
    """Return the error that a worker told of: JSON as Runpod's workers write it, or text."""
    told = error
    if isinstance(error, str):
        try:
            told = json.loads(error)
        except ValueError:
            told = error
    if isinstance(told, dict) and "error_message" in told:
        kind = str(told.get("error_type", "")).removeprefix("<class '").removesuffix("'>")
        message, trace = str(told["error_message"]), str(told.get("error_traceback", ""))
        return RemoteExecutionError(
            f"{kind}: {message}",
            remote_type=kind, remote_message=message, remote_traceback=trace, job_id=job,
        )  # fmt: skip
    text = str(told or "no reason given")
    first, _, rest = text.partition("\n")
    return RemoteExecutionError(first, remote_message=first, remote_traceback=rest, job_id=job)


def _told(exception: FlashRuntimeError) -> str:
    trace = getattr(exception, "remote_traceback", "")
    return f"{exception}\n{trace}".strip()
