"""The factory: makes what answers for an endpoint. Every handler file of an artifact calls it.

`queue_handler` returns what Runpod's worker calls with each job; `application` what serves HTTP.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import hashlib
import importlib
import inspect
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from . import declare
from .errors import ManifestError, RemoteExecutionError, did_you_mean
from .outcome import listed
from .plain import jsonable
from .production import ProductionWrapper, methods_of
from .registry import registry
from .request import Call, answer, read
from .serving import serve

MAX_OBJECTS = 100
HEALTHY = {"status": "healthy"}
Handler = Callable[[Mapping[str, Any]], Any]


def queue_handler(key: str) -> Handler:
    """Return the handler of a queue: called with ``{"id": …, "input": …}``, it gives the output as JSON.

    It streams if the endpoint has one generator function and nothing else: then the output is the list of
    its items. What the user's code raises is raised: the job fails.

    Args:
        key: The resource.
    """
    queue = _Queue(key, _entry(key))
    if queue.stand_in is not None:
        return queue.stand_in

    async def handler(job: Mapping[str, Any]) -> Any:
        try:
            return await queue.answer(job.get("input"))
        except Exception as error:  # noqa: BLE001 - it is raised again
            raise error.with_traceback(_users_part(error.__traceback__)) from error.__cause__

    async def streaming(job: Mapping[str, Any]) -> AsyncIterator[Any]:
        try:
            async for item in queue.stream(job.get("input")):
                yield item
        except Exception as error:  # noqa: BLE001 - it is raised again
            raise error.with_traceback(_users_part(error.__traceback__)) from error.__cause__

    return streaming if queue.streams else handler


def start(handler: Handler) -> None:
    """Run a handler under Runpod's own worker, which the image brings."""
    import runpod  # type: ignore[import-not-found]  # it is in the image

    runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})


def application(key: str) -> Any:
    """Return the ASGI application of a load-balanced endpoint: its routes, ``/ping`` and ``/docs``.

    Of the mothership it is the project's own application, with ``/ping`` if it has none.

    Args:
        key: The resource.
    """
    entry = _entry(key)
    if entry.get("is_mothership"):
        return _mothership(entry)
    from fastapi import FastAPI

    routes = [
        (function["http_method"], function["http_path"], _target(function)) for function in entry["functions"]
    ]
    return serve(FastAPI(title=key, redoc_url=None), routes)


def serve_forever(app: Any) -> None:
    """Serve an application where the platform asks for it: ``PORT``, 80 if it does not say."""
    import uvicorn

    uvicorn.run(app, host="0.0.0.0", port=int(os.environ.get("PORT", "80")), timeout_keep_alive=600)  # noqa: S104 - in a container


def _entry(key: str) -> Mapping[str, Any]:
    """Return what the manifest says of a resource; from now on this is a worker of it."""
    entry = registry.resource(key)
    os.environ.setdefault("FLASH_RESOURCE_NAME", key)
    for other in registry.manifest["resources"].values():
        for variable in (other.get("env_from") or {}).values():
            # A declaration that says env={"TOKEN": os.environ["TOKEN"]} is executed here too.
            os.environ.setdefault(variable, "")
    return entry


def _target(function: Mapping[str, Any]) -> Any:
    """Return a function or class of the manifest as it was written, without its decorator."""
    module = importlib.import_module(function["module"])
    name = function["name"]
    try:
        found = getattr(module, name)
    except AttributeError:
        raise ManifestError(
            f"{function['module']} has no {name!r}{did_you_mean(name, vars(module)) or '.'}",
            hint="The manifest and the files of this artifact do not belong together: build again.",
        ) from None
    return found.target if isinstance(found, ProductionWrapper) else found


def _mothership(entry: Mapping[str, Any]) -> Any:
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    file, variable = entry["main_file"], entry["app_variable"]
    module = importlib.import_module(".".join(PurePosixPath(file).with_suffix("").parts))
    app = getattr(module, variable)

    async def ping(_: Any) -> JSONResponse:
        return JSONResponse(HEALTHY)

    if not any(getattr(route, "path", None) == "/ping" for route in app.routes):
        app.router.routes.insert(0, Route("/ping", ping, include_in_schema=False))
    return app


@dataclass
class _Object:
    """An object that lives on this worker; times in ISO 8601, UTC."""

    value: Any
    class_name: str
    created_at: str
    last_used: str = ""
    method_calls: int = 0


class _Queue:
    """The functions and classes of one queue.

    Code that is not async runs in one thread of its own, so that an object is always used by the thread
    that made it; the event loop stays free.
    """

    def __init__(self, key: str, entry: Mapping[str, Any]) -> None:
        self._key = key
        self._targets = {function["name"]: _target(function) for function in entry["functions"]}
        self._objects: OrderedDict[str, _Object] = OrderedDict()
        self._thread = _new_thread()
        self.stand_in = declare.stand_ins.get(_image(entry)) if "Live" not in entry["resource_type"] else None

    @property
    def streams(self) -> bool:
        """Whether the endpoint is one generator function."""
        (only, *others) = self._targets.values()
        return not others and (inspect.isgeneratorfunction(only) or inspect.isasyncgenfunction(only))

    async def answer(self, given_input: Any) -> Any:
        """Return the output for an input."""
        call = read(given_input, self._parameters())
        target = self._chosen(call)
        if not isinstance(target, type):
            value = await self._run(target, call)
            return answer(call, value)
        method = self._method(target, call)
        found = await self._object(target, call)
        found.method_calls += 1
        found.last_used = _now()
        value = await self._run(getattr(found.value, method), call, f"{target.__name__}.{method}")
        info = {name: value for name, value in vars(found).items() if name != "value"}
        return answer(call, value, info if call.instance else None)

    async def stream(self, given_input: Any) -> AsyncIterator[Any]:
        """Yield the items of the only function; a *FunctionResponse* is one item, with all of them."""
        call = read(given_input, self._parameters())
        target = self._chosen(call)
        if call.form != "value":
            yield answer(call, await self._run(target, call))
            return
        _check(target, call, target.__name__)
        items = target(*call.args, **call.kwargs)
        if inspect.isgenerator(items):
            items = _from_thread(items)
        async for item in items:
            yield jsonable("A yielded value", item)

    def _parameters(self) -> Sequence[str] | None:
        """Return what the only thing that can be called takes; None if there are several."""
        if len(self._targets) > 1:
            return None
        (target,) = self._targets.values()
        if isinstance(target, type):
            methods = methods_of(target)
            if len(methods) != 1:
                return None
            target = getattr(target, methods[0])
        return list(_signature(target).parameters)

    def _chosen(self, call: Call) -> Any:
        if call.name in self._targets:
            return self._targets[call.name]
        if not call.name and len(self._targets) == 1:
            return next(iter(self._targets.values()))
        names = ", ".join(self._targets)
        if not call.name:
            raise RemoteExecutionError(
                f"The endpoint {self._key} has {len(self._targets)} functions: {names}.",
                hint='Name one: {"input": {"function_name": "…", "kwargs": {…}}}',
            )
        raise RemoteExecutionError(
            f"The endpoint {self._key} has no function {call.name!r}"
            f"{did_you_mean(call.name, self._targets) or '.'}",
            hint=f"It has: {names}.",
        )

    @staticmethod
    def _method(target: type, call: Call) -> str:
        names = methods_of(target)
        if call.method in names:
            return call.method
        if len(names) == 1 and (not call.method or call.form != "value"):
            return names[0]
        if not call.method:
            problem = f"The class {target.__name__} has {len(names)} methods."
        else:
            near = did_you_mean(call.method, names) or "."
            problem = f"The class {target.__name__} has no method {call.method!r}{near}"
        raise RemoteExecutionError(
            problem, hint=f'Name one as "method": {", ".join(names) or "there are none"}.'
        )

    async def _object(self, target: type, call: Call) -> _Object:
        """Return the object that a call is for, made if need be; what was unused longest is forgotten."""
        key = f"{target.__name__}/{call.instance or _digest(call.made_with)}"
        if key not in self._objects or call.is_new:
            args, kwargs = call.made_with
            _check(target, Call("", args, kwargs), target.__name__)
            made = await self._in_thread(target, args, kwargs)
            self._objects[key] = _Object(made, target.__name__, _now())
        self._objects.move_to_end(key)
        if len(self._objects) > MAX_OBJECTS:
            self._objects.popitem(last=False)
        return self._objects[key]

    async def _run(self, target: Callable[..., Any], call: Call, name: str = "") -> Any:
        _check(target, call, name or target.__name__)
        if inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target):
            return await listed(target(*call.args, **call.kwargs))
        result = await self._in_thread(target, call.args, call.kwargs)
        if inspect.isgenerator(result):
            return await self._in_thread(list, (result,), {})
        return await listed(result)

    async def _in_thread(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        run = functools.partial(_without_exit, function, *args, **kwargs)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except asyncio.CancelledError:
            self._thread.shutdown(wait=False)  # it runs on to its end: nothing can stop it
            self._thread = _new_thread()
            raise


def _new_thread() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="flash-handler")


def _without_exit(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function; if it ends the program, only its job fails."""
    try:
        return function(*args, **kwargs)
    except SystemExit as error:
        raise RemoteExecutionError(f"The code called sys.exit({error.code!r}).") from error


async def _from_thread(items: Any) -> AsyncIterator[Any]:
    """Yield the items of a generator that is not async, each made in a thread."""
    end = object()
    try:
        while (item := await asyncio.to_thread(next, items, end)) is not end:
            yield item
    finally:
        items.close()


def _check(target: Callable[..., Any], call: Call, name: str) -> None:
    """Refuse arguments that do not fit, in words for who sent them.

    Raises:
        RemoteExecutionError: They do not.
    """
    signature = _signature(target)
    try:
        signature.bind(*call.args, **call.kwargs)
    except TypeError as error:
        parameters = signature.parameters
        unknown = next((word for word in call.kwargs if word not in parameters), None)
        why = str(error) if unknown is None else f"it takes no {unknown!r}{did_you_mean(unknown, parameters)}"
        takes = ", ".join(map(str, parameters.values())) or "no arguments"
        raise RemoteExecutionError(
            f"{name}() cannot be called so: {why}.", hint=f"It takes: {takes}."
        ) from None


def _signature(target: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(target)
    except (TypeError, ValueError):  # of an extension module
        star = [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)]
        return inspect.Signature([*star, inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)])


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the first frame on that is the user's."""
    ours = (str(Path(__file__).parent), os.path.dirname(asyncio.__file__), concurrent.futures.thread.__file__)  # noqa: PTH120 - compared as text
    first = trace
    while first is not None and first.tb_frame.f_code.co_filename.startswith(ours):
        first = first.tb_next
    return first or trace


def _digest(made_with: tuple[Sequence[Any], Mapping[str, Any]]) -> str:
    """Return a name for the object that is made with these arguments."""
    args, kwargs = made_with
    return hashlib.sha256(repr((list(args), sorted(kwargs.items()))).encode()).hexdigest()[:16]


def _image(entry: Mapping[str, Any]) -> str:
    template = entry.get("template") or {}
    return str(template.get("imageName") or entry.get("imageName") or entry.get("templateId") or "")


def _now() -> str:
    return datetime.now(tz=timezone.utc).isoformat()
