"""One call of remote code: sent to its resource, or run here with the outcome of a job."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar

from flash_nb.errors import SerializationError
from flash_nb.jobs import Carried, FinishedEvent, JobOutput, JobStatus, new_job_id
from flash_nb.sdk.arguments import plain
from flash_nb.sdk.dependencies import requirements_for
from flash_nb.sdk.job import Job
from flash_nb.sdk.options import RemoteOptions
from flash_nb.sdk.session import current_session
from flash_nb.sdk.stream import StreamHere
from flash_nb.sdk.target import target_of
from flash_nb.worker.codec import decode
from flash_nb.worker.frames import Buffer

T = TypeVar("T")


def submit(
    options: RemoteOptions,
    *,
    label: str,
    request: dict[str, Any],
    buffers: Sequence[Buffer],
    modules: Collection[str],
    resolve: Callable[[str], Any],
    instance: str | None = None,
    carried: Carried = Carried(),  # noqa: B008 - it is frozen
) -> Job:
    """Send a request to its resource; return its job at once."""
    session = current_session()
    target = target_of(options.resource, session.backend, session.settings)
    job = session.submit(
        options.resource,
        label=label,
        request=request,
        decode=lambda event: _decode(event, resolve),
        resolve=resolve,
        buffers=buffers,
        requirements=requirements_for(modules, options.dependencies, present=target.packages),
        system=options.system_dependencies,
        instance=instance,
        timeout_s=options.timeout_s,
        ttl_s=options.ttl_s,
        allow_apt=options.allow_apt,
        accelerate_downloads=options.accelerate_downloads,
        webhook=options.webhook,
    )
    job.carried = carried
    return job


def called(name: str, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
    """Give a coroutine the name of the user's function: "coroutine 'f' was never awaited"."""
    coroutine.__qualname__ = name  # type: ignore[attr-defined]  # its type does not say so
    return coroutine


def _decode(event: FinishedEvent, resolve: Callable[[str], Any]) -> Any:
    assert event.result is not None
    try:
        return decode(event.buffers[: event.result["counts"][0]], resolve)
    except Exception as error:
        raise SerializationError(
            f"The result cannot be read here: {type(error).__name__}: {error}.",
            hint="Install the package that it comes from here too, or return plain data.",
        ) from error


def stream_here(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> StreamHere:
    """Run a generator function in this process.

    Raises:
        TypeError: It does not yield.
    """
    named = {name: plain(value) for name, value in kwargs.items()}
    return StreamHere(function(*map(plain, args), **named), f"{function.__name__}()")


async def run_here(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> JobOutput:
    """Run a function in this process, with the outcome of a job."""
    started_at = datetime.now(tz=timezone.utc)
    values = [plain(value) for value in args]
    named = {name: plain(value) for name, value in kwargs.items()}
    output, exception = None, None
    try:
        output = function(*values, **named)
        if inspect.isawaitable(output):
            output = await output
        if inspect.isgenerator(output):
            output = list(output)
        elif inspect.isasyncgen(output):
            output = [item async for item in output]
    except Exception as error:  # noqa: BLE001 - a job gives back whatever its function raised
        output, exception = None, error
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
