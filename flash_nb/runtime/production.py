"""What a decorated function is in production: a call in place, or of another endpoint.

On a worker of its own resource it runs in place; from anywhere else it is sent to that resource's endpoint.
Either way the outcome is that of a notebook: ``await f(x)`` of a queue is a `JobOutput`, of a route the
value. A `JobOutput` among the arguments stands for its output.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import json
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote, urlencode

from .client import Answer, Client
from .errors import (
    FlashRuntimeError,
    JobCancelledError,
    JobTimeoutError,
    RemoteExecutionError,
    SerializationError,
    did_you_mean,
)
from .jobs import JobOutput, JobStatus, new_job_id
from .plain import given, jsonable
from .registry import current_resource, registry
from .request import FunctionRequest, check_size, unpickled
from .routes import places, signature_of

_ABSENT = {
    "submit": "asyncio.create_task(f(x)) starts a call and goes on",
    "stream": "await f(x) gives the list of all items",
    "carries": "deployed code carries nothing: its modules are in the artifact",
}


class ProductionWrapper:
    """A decorated function or class.

    Args:
        target: The function or class.
        resource: What it was declared for.
        local: It always runs in place.

    Attributes:
        target: The same.
        resource: The same.
    """

    __flash_remote__ = True

    def __init__(self, target: Any, resource: Any, *, local: bool) -> None:
        self.target = target
        self.resource = resource
        self._local = local
        self._extra: Mapping[str, Any] = {}
        functools.update_wrapper(self, target, updated=())  # type: ignore[arg-type]  # only subclasses are called

    @property
    def is_here(self) -> bool:
        """Whether a call runs in place."""
        return self._local or current_resource() == self.resource.name

    def options(
        self,
        *,
        timeout: float | timedelta | None = None,
        ttl: float | timedelta | None = None,
        webhook: str | None = None,
    ) -> Any:
        """Return this with options for its jobs on another endpoint; in place there is no job.

        Args:
            timeout: Seconds that a job may run.
            ttl: Seconds that it may take in all.
            webhook: Where its end is posted to.
        """
        times = {"executionTimeout": timeout, "ttl": ttl}
        policy = {name: _milliseconds(value) for name, value in times.items() if value is not None}
        changed = copy.copy(self)
        changed._extra = {
            **({"policy": policy} if policy else {}),
            **({"webhook": webhook} if webhook is not None else {}),
        }
        return changed

    def __getattr__(self, name: str) -> Any:
        if name in _ABSENT:
            raise FlashRuntimeError(
                f"{self._name}.{name} is of notebooks: deployed code has no {name}().", hint=_ABSENT[name]
            )
        if name == "target" or name.startswith("_"):  # it is being copied
            raise AttributeError(name)
        raise AttributeError(f"the remote {self._kind} {self._name} has no attribute {name!r}")

    @property
    def _name(self) -> str:
        return str(self.target.__name__)

    @property
    def _kind(self) -> str:
        return "class" if isinstance(self.target, type) else "function"

    def _client(self) -> Client:
        return Client(self.resource.name, registry.url(self.resource.name))

    async def _there(self, given_input: Mapping[str, Any]) -> JobOutput:
        """Run a job on the endpoint; what it failed with is in the `JobOutput`."""
        submitted = datetime.now(tz=timezone.utc)
        status = await self._client().run({"input": given_input, **self._extra})
        return _outcome_of(status, submitted)

    def __repr__(self) -> str:
        return f"<remote {self._kind} {self._name} on {self.resource.name}>"


class RemoteFunction(ProductionWrapper):
    """A function of a queue."""

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, JobOutput]:
        """Return a coroutine for the `JobOutput`."""
        return _called(self._name, self._run(args, kwargs))

    async def _run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> JobOutput:
        if self.is_here:
            return await run_here(self.target, args, kwargs)
        return await self._there(FunctionRequest(self._name, args, kwargs).wire())


class PayloadFunction(ProductionWrapper):
    """A function that makes the payload of a job for an image of the user's own.

    It always runs in place; what it returns is the job's input, and the image's handler answers.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, JobOutput]:
        """Return a coroutine for the `JobOutput`."""
        return _called(self._name, self._run(args, kwargs))

    async def _run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> JobOutput:
        if self.is_here:
            return await run_here(self.target, args, kwargs)
        payload = await outcome(self.target, args, kwargs)
        if not isinstance(payload, dict):
            raise SerializationError(
                f"{self._name} returned a {type(payload).__name__}: {self.resource.name} takes a dict."
            )
        sent = jsonable(f"The payload of {self._name}", payload)
        check_size(f"the values in the payload of {self._name}", len(json.dumps(sent)))
        return await self._there(sent)


class RemoteClass(ProductionWrapper):
    """A class of a queue: its objects live on a worker.

    Its own code, and the module's, may use its name for the class itself: for its attributes, in
    ``isinstance`` and as a base.
    """

    def __getattr__(self, name: str) -> Any:
        if name == "target":  # it is being copied
            raise AttributeError(name)
        return getattr(self.target, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("target", "resource", "_local", "_extra") or name.startswith("__"):
            super().__setattr__(name, value)
        else:
            setattr(self.target, name, value)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self.target)

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self.target)

    def __mro_entries__(self, _: tuple[Any, ...]) -> tuple[type]:
        return (self.target,)

    def __call__(self, *args: Any, **kwargs: Any) -> RemoteObject:
        """Return an object."""
        return RemoteObject(self, args, kwargs)


class RemoteObject:
    """An object: ``await obj.method(x)`` is a `JobOutput`. In place it is made by its first call.

    Elsewhere it lives on one worker of its endpoint; if Runpod replaces that, it is made again.
    """

    def __init__(self, kind: RemoteClass, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._kind = kind
        self._made_with = (args, kwargs)
        self._id = f"{kind.target.__name__}_{secrets.token_hex(4)}"
        self._here: Any = None

    def close(self) -> None:
        """Forget the object."""
        self._here = None

    def __enter__(self) -> RemoteObject:  # noqa: PYI034 - Self is newer than Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> RemoteObject:  # noqa: PYI034 - the same
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, JobOutput]]:
        names = methods_of(self._kind.target)
        if name not in names:
            raise AttributeError(
                f"the remote class {self._kind.target.__name__} has no method {name!r}"
                f"{did_you_mean(name, names)}"
            )
        return lambda *args, **kwargs: _called(name, self._run(name, args, kwargs))

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, JobOutput]:
        """Call the object."""
        return self._run("__call__", args, kwargs)

    async def _run(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> JobOutput:
        if self._kind.is_here:
            return await run_here(functools.partial(self._call, method), args, kwargs)
        made_with = self._made_with
        request = FunctionRequest(
            self._kind.target.__name__, args, kwargs, method=method, made_with=made_with, instance=self._id
        )
        return await self._kind._there(request.wire())

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if self._here is None:
            made_args, made_kwargs = self._made_with
            self._here = self._kind.target(*map(given, made_args), **_given(made_kwargs))
        return getattr(self._here, method)(*args, **kwargs)


class RemoteRoute(ProductionWrapper):
    """A function behind ``METHOD path``.

    Attributes:
        method, path: Of its route.
    """

    def __init__(self, target: Any, resource: Any, *, local: bool, method: str, path: str) -> None:
        super().__init__(target, resource, local=local)
        self.method, self.path = method, path

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Return a coroutine for the value."""
        return _called(self._name, self._run(args, kwargs))

    @property
    def url(self) -> str:
        """Where others call it."""
        return registry.url(self.resource.name) + self.path

    async def _run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self.is_here:
            result = self.target(*map(given, args), **_given(kwargs))
            return await result if inspect.isawaitable(result) else result
        signature = signature_of(self.target)
        bound = signature.bind(*map(given, args), **_given(kwargs))
        target, headers, body = self._request(bound.arguments, places(signature, self.method, self.path))
        answer = await self._client().request(self.method, target, headers, body)
        return _value(answer, f"{self.method} {self.path} of {self.resource.name}")

    def _request(
        self, arguments: Mapping[str, Any], where: Mapping[str, str]
    ) -> tuple[str, dict[str, str], bytes | None]:
        """Return path with query, headers and body."""
        path, query, headers = self.path, [], {}
        fields: dict[str, Any] = {}
        whole: Any = None
        for name, value in arguments.items():
            sent = jsonable(f"Argument {name} of {self._name}", value)
            match where[name]:
                case "path":
                    path = path.replace(f"{{{name}}}", quote(str(_word(sent)), safe=""))
                    path = path.replace(f"{{{name}:path}}", quote(str(_word(sent))))
                case "query":
                    query += [(name, _word(item)) for item in (sent if isinstance(sent, list) else [sent])]
                case "header":
                    headers[name.replace("_", "-")] = str(_word(sent))
                case "body":
                    fields[name] = sent
                case "whole body":
                    whole = sent
                case _:
                    raise SerializationError(
                        f"{self._name}: a Python call cannot give the parameter {name}.",
                        hint=f"Send it over HTTP: {self.path}",
                    )
        body = None
        if any(place in ("body", "whole body") for place in where.values()):
            headers["content-type"] = "application/json"
            body = json.dumps(fields if whole is None else whole).encode()
            check_size(f"the arguments of {self._name}", len(body))
        told = urlencode([pair for pair in query if pair[1] is not None])
        return path + (f"?{told}" if told else ""), headers, body


def methods_of(kind: type) -> tuple[str, ...]:
    """Return the public methods of a class, and ``__call__`` if it has one."""
    names = (name for name in dir(kind) if not name.startswith("_") or name == "__call__")
    own = (name for name in names if inspect.isroutine(inspect.getattr_static(kind, name, None)))
    return tuple(name for name in own if name != "__call__" or "__call__" in vars(kind))


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
    values, named = [given(value) for value in args], _given(kwargs)
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


def _called(name: str, coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    """Give a coroutine the name of the user's function: "coroutine 'f' was never awaited"."""
    coroutine.__qualname__ = name  # type: ignore[attr-defined]  # its type does not say so
    return coroutine


def _given(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given(value) for name, value in kwargs.items()}


def _milliseconds(seconds: float | timedelta) -> int:
    return round(1000 * (seconds.total_seconds() if isinstance(seconds, timedelta) else seconds))


def _outcome_of(status: Mapping[str, Any], submitted: datetime) -> JobOutput:
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


def _value(answer: Answer, route: str) -> Any:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip()
    if kind == "application/json":
        value = json.loads(answer.body) if answer.body else None
    elif kind.startswith("text/"):
        value = answer.body.decode(errors="replace")
    else:
        value = answer.body or None
    if answer.status < 400:  # noqa: PLR2004 - where HTTP's errors begin
        return value
    told = value if isinstance(value, dict) else {"detail": value}
    detail = told.get("detail", value)
    raise RemoteExecutionError(
        f"{route} answered {answer.status}: {detail}",
        remote_type=str(told.get("type", "")),
        remote_message=str(told.get("message", detail)),
        remote_traceback=str(told.get("traceback", "")),
    )


def _word(value: Any) -> Any:
    """Return a JSON value as it stands in a query; None stays None and is left out."""
    return value if value is None or isinstance(value, str) else json.dumps(value)
