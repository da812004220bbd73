"""What a decorated function is in production: a call in place, or of another endpoint.

On a worker of its own resource it runs in place; from anywhere else it is sent to that resource's endpoint.
Either way the outcome is that of a notebook: ``await f(x)`` of a queue is a `JobOutput`, of a route the
value. A `JobOutput` among the arguments stands for its output.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from .client import Client
from .errors import FlashRuntimeError, SerializationError, did_you_mean
from .jobs import JobOutput
from .outcome import outcome, outcome_of, run_here
from .plain import given, given_each, jsonable
from .registry import current_resource, registry
from .request import FunctionRequest, check_size

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
        return outcome_of(status, submitted)

    def __repr__(self) -> str:
        return f"<remote {self._kind} {self._name} on {self.resource.name}>"


class RemoteFunction(ProductionWrapper):
    """A function of a queue."""

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, JobOutput]:
        """Return a coroutine for the `JobOutput`."""
        return called(self._name, self._run(args, kwargs))

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
        return called(self._name, self._run(args, kwargs))

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
        return lambda *args, **kwargs: called(name, self._run(name, args, kwargs))

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
            self._here = self._kind.target(*map(given, made_args), **given_each(made_kwargs))
        return getattr(self._here, method)(*args, **kwargs)


def methods_of(kind: type) -> tuple[str, ...]:
    """Return the public methods of a class, and ``__call__`` if it has one."""
    names = (name for name in dir(kind) if not name.startswith("_") or name == "__call__")
    own = (name for name in names if inspect.isroutine(inspect.getattr_static(kind, name, None)))
    return tuple(name for name in own if name != "__call__" or "__call__" in vars(kind))


def called(name: str, coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    """Give a coroutine the name of the user's function: "coroutine 'f' was never awaited"."""
    coroutine.__qualname__ = name  # type: ignore[attr-defined]  # its type does not say so
    return coroutine


def _milliseconds(seconds: float | timedelta) -> int:
    return round(1000 * (seconds.total_seconds() if isinstance(seconds, timedelta) else seconds))
