"""`remote`: the decorator that makes functions and classes run on a resource.

What travels is source, as in Flash: the decorated definition, the helpers that it uses, and the
values that it reads (see `capture`); arguments and results are pickles.
"""

from __future__ import annotations

import functools
import inspect
import secrets
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from flash_nb.errors import ResourceError, SerializationError, did_you_mean
from flash_nb.jobs import FinishedEvent, JobOutput, JobStatus, new_job_id
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk.capture import Collector, check_size, unpicklable
from flash_nb.sdk.code import Code, ObjectCode
from flash_nb.sdk.dependencies import requirements_for
from flash_nb.sdk.job import Job
from flash_nb.sdk.session import current_session
from flash_nb.worker.codec import EncodeError, decode, encode
from flash_nb.worker.frames import Buffer, size_of

CHECK_SIZE_FROM_BYTES = 1_000_000


@dataclass(frozen=True)
class RemoteOptions:
    """How a function runs; see `remote`."""

    resource: ServerlessResource
    dependencies: tuple[str, ...] = ()
    system_dependencies: tuple[str, ...] = ()
    local: bool = False
    timeout_s: float | None = None
    allow_apt: bool = False


def remote(
    resource_config: ServerlessResource,
    dependencies: Sequence[str] | None = None,
    system_dependencies: Sequence[str] | None = None,
    accelerate_downloads: bool = True,
    local: bool = False,
) -> Callable[[Any], Any]:
    """Run the decorated function, or the methods of the decorated class, on a resource.

    ``await f(x)`` gives a `JobOutput`; a `JobOutput` among the arguments stands for its output.
    ``f.submit(x)`` gives a `Job` at once. Objects of a decorated class live on one worker and keep
    their state until `close`, or until this process ends.

    Args:
        resource_config: What it runs on.
        dependencies: Python packages, as pip takes them. What the code imports is added, in the
            version that is installed here.
        system_dependencies: Packages of the operating system.
        accelerate_downloads: Download dependencies in parallel. On the local engine they always are.
        local: Run here instead, with the same results.

    Raises:
        ResourceError: `resource_config` is not a resource.
    """
    if not isinstance(resource_config, ServerlessResource):
        raise ResourceError(
            f"@remote needs a resource, not {resource_config!r}.",
            hint='For example: @remote(resource_config=CpuLiveServerless(name="worker"))',
        )
    del accelerate_downloads  # uv has no other way
    options = RemoteOptions(
        resource_config, tuple(dependencies or ()), tuple(system_dependencies or ()), local
    )

    def decorate(target: Any) -> RemoteFunction | RemoteClass:
        kind = RemoteClass if isinstance(target, type) else RemoteFunction
        return kind(ObjectCode(target), options, target)

    return decorate


class RemoteFunction:
    """A function that runs on a resource. Calling it gives a coroutine for its `JobOutput`.

    Args:
        code: What travels.
        options: How it runs.
        function: The function itself, where it exists here.
    """

    __flash_remote__ = True

    def __init__(self, code: Code, options: RemoteOptions, function: Callable[..., Any] | None) -> None:
        self.options = options
        self._code = code
        self._function = function
        if function is not None:
            functools.update_wrapper(self, function)

    async def __call__(self, *args: Any, **kwargs: Any) -> JobOutput:
        """Run the function on its resource; see `submit` for what can be refused."""
        if self.options.local and self._function is not None:
            return await _run_here(self._function, args, kwargs)
        return await self.submit(*args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Job:
        """Start the function on its resource; return its job at once.

        Raises:
            SerializationError: An argument cannot be sent, or all of them are too large.
        """
        collector = self._code.collector()
        sent = _Arguments(args, kwargs, collector, self._code.parameters, None)
        captured = collector.collect()
        request = {
            "execution_type": "function",
            "function": self._code.name,
            "definitions": self._code.definitions,
            "namespace": captured.items,
            "namespace_buffers": len(captured.buffers),
            "args": sent.args,
            "kwargs": sent.kwargs,
        }
        return _submit(
            self.options,
            label=f"{self._code.name}()",
            request=request,
            buffers=[*captured.buffers, *sent.buffers],
            modules=captured.modules | sent.modules,
            resolve=self._code.resolve,
        )

    def __repr__(self) -> str:
        return f"<remote function {self._code.name} on {self.options.resource.name}>"


class RemoteClass:
    """A class whose objects live on a resource; the arguments are those of `RemoteFunction`."""

    __flash_remote__ = True

    def __init__(self, code: Code, options: RemoteOptions, cls: type | None) -> None:
        self.options = options
        self._code = code
        self._class = cls
        if cls is not None:
            functools.update_wrapper(self, cls, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> RemoteObject:
        """Return an object that its worker makes with these arguments."""
        here = self._class(*args, **kwargs) if self._class is not None and self.options.local else None
        return RemoteObject(self._code, self.options, args, kwargs, here)

    def __repr__(self) -> str:
        return f"<remote class {self._code.name} on {self.options.resource.name}>"


class RemoteObject:
    """An object on a worker: ``await obj.method(x)`` gives a `JobOutput`.

    It is made by its first method call. `close` ends it; so does the end of this process.
    """

    __flash_remote__ = True

    def __init__(
        self,
        code: Code,
        options: RemoteOptions,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        here: object | None,
    ) -> None:
        self._code = code
        self._options = options
        self._made_with = (args, kwargs)
        self._here = here
        self._id = f"{code.name}_{secrets.token_hex(4)}"
        self._finalizer = weakref.finalize(self, _release, options.resource, self._id)

    def close(self) -> None:
        """Release the object on its worker."""
        self._finalizer()

    def __getattr__(self, name: str) -> RemoteMethod:
        if name not in self._code.methods:
            raise AttributeError(
                f"the remote class {self._code.name} has no method {name!r}"
                f"{did_you_mean(name, self._code.methods)}"
            )
        return RemoteMethod(self, name)

    async def __call__(self, *args: Any, **kwargs: Any) -> JobOutput:
        """Call the object."""
        return await RemoteMethod(self, "__call__")(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<remote object {self._id} on {self._options.resource.name}>"

    async def _call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobOutput:
        if self._here is not None:
            return await _run_here(getattr(self._here, method), args, kwargs)
        return await self._submit(method, args, kwargs)

    def _submit(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        collector = self._code.collector()
        made = _Arguments(*self._made_with, collector, self._code.parameters, "__init__")
        sent = _Arguments(args, kwargs, collector, self._code.parameters, method)
        captured = collector.collect()
        request = {
            "execution_type": "class",
            "class": self._code.name,
            "definitions": self._code.definitions,
            "instance": self._id,
            "method": method,
            "constructor": {"args": made.args, "kwargs": made.kwargs},
            "namespace": captured.items,
            "namespace_buffers": len(captured.buffers),
            "args": sent.args,
            "kwargs": sent.kwargs,
        }
        return _submit(
            self._options,
            label=f"{self._code.name}.{method}()",
            request=request,
            buffers=[*captured.buffers, *made.buffers, *sent.buffers],
            modules=captured.modules | made.modules | sent.modules,
            resolve=self._code.resolve,
            instance=self._id,
        )


class RemoteMethod:
    """A method of a remote object."""

    def __init__(self, owner: RemoteObject, name: str) -> None:
        self._owner = owner
        self._name = name

    async def __call__(self, *args: Any, **kwargs: Any) -> JobOutput:
        """Run the method on the object's worker."""
        return await self._owner._call(self._name, args, kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Job:
        """Start the method; return its job at once."""
        return self._owner._submit(self._name, args, kwargs)


class _Arguments:
    """Arguments of a call, each encoded on its own.

    Attributes:
        args, kwargs: How many buffers each argument takes.
        buffers: All of them in order.
        modules: What their types come from.
    """

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        collector: Collector,
        parameters: Callable[[str | None], Sequence[str]],
        method: str | None,
    ) -> None:
        self.args: list[int] = []
        self.kwargs: dict[str, int] = {}
        self.buffers: list[Buffer] = []
        self.modules: set[str] = set()
        self._collector = collector
        for position, value in enumerate(args):
            self.args.append(self._add(f"argument {position + 1}", value))
        for name, value in kwargs.items():
            self.kwargs[name] = self._add(f"argument {name}", value)
        if size_of(self.buffers) > CHECK_SIZE_FROM_BYTES:
            check_size(self._sizes(parameters(method)))

    def _add(self, label: str, value: Any) -> int:
        value = _plain(value)
        try:
            buffers = encode(value, self._collector.portable, self.modules)
        except EncodeError as error:
            raise unpicklable(EncodeError(label, error.cause), value) from error.cause
        self.buffers += buffers
        return len(buffers)

    def _sizes(self, names: Sequence[str]) -> dict[str, int]:
        labels = [names[i] if i < len(names) else f"argument {i + 1}" for i in range(len(self.args))]
        sizes, position = {}, 0
        for label, count in [*zip(labels, self.args, strict=True), *self.kwargs.items()]:
            sizes[label] = size_of(self.buffers[position : position + count])
            position += count
        return sizes


def _plain(value: Any) -> Any:
    """Return what an argument stands for: a `JobOutput` its output."""
    return value.unwrap() if isinstance(value, JobOutput) else value


def _submit(
    options: RemoteOptions,
    *,
    label: str,
    request: dict[str, Any],
    buffers: Sequence[Buffer],
    modules: set[str],
    resolve: Callable[[str], Any],
    instance: str | None = None,
) -> Job:
    return current_session().submit(
        options.resource,
        label=label,
        request=request,
        decode=lambda event: _decode(event, resolve),
        resolve=resolve,
        buffers=buffers,
        requirements=requirements_for(modules, options.dependencies),
        system=options.system_dependencies,
        instance=instance,
        timeout_s=options.timeout_s,
        allow_apt=options.allow_apt,
    )


def _decode(event: FinishedEvent, resolve: Callable[[str], Any]) -> Any:
    assert event.result is not None
    try:
        return decode(event.buffers[: event.result["counts"][0]], resolve)
    except Exception as error:
        raise SerializationError(
            f"The result cannot be read here: {type(error).__name__}: {error}.",
            hint="Install the package that it comes from here too, or return plain data.",
        ) from error


def _release(resource: ServerlessResource, instance: str) -> None:
    current_session().release(resource, instance)


async def _run_here(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> JobOutput:
    """Run a function in this process, with the outcome of a job."""
    started_at = datetime.now(tz=timezone.utc)
    values = [_plain(value) for value in args]
    named = {name: _plain(value) for name, value in kwargs.items()}
    output, exception = None, None
    try:
        output = function(*values, **named)
        if inspect.isawaitable(output):
            output = await output
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
