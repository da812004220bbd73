"""The application that ``flash run`` serves: the project's own, with a route for each function beside its own.

``POST /functions/NAME`` takes a function's parameters as the fields of a JSON object, by the rules of a
declared POST route (`flash_nb.worker.routes`); a class has ``POST /functions/NAME/METHOD``, for one object
that is made without arguments and kept. Functions of load-balanced resources are at ``/RESOURCE/PATH``, with
the method that they declare. A route of the project's own with the same path comes first.

What a function returned is the answer. If it raised, the answer is 500; if it could not run, 502, or 504 if
its time was up: ``{"detail", "type", "message", "traceback"}``, as a load-balanced worker tells it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic_core import to_json
from starlette.routing import Mount

from flash_nb.backends.base import HttpRequest
from flash_nb.errors import FlashError, JobTimeoutError, ProjectError, RemoteExecutionError
from flash_nb.jobs import JobOutput
from flash_nb.project.declared import Function, Project
from flash_nb.sdk.jsonable import jsonable
from flash_nb.sdk.objects import RemoteClass
from flash_nb.sdk.payload import PayloadFunction
from flash_nb.sdk.remote import Remote
from flash_nb.sdk.route import RemoteRoute
from flash_nb.worker.failure import formatted, message, type_of
from flash_nb.worker.routes import places, served_signature, signature_of

OFFICIAL = "runpod_flash"
PREFIX = "/functions"
TAG = "functions, run on their resources"
STATIC = "/static-offline-docs"
NOT_FORWARDED = frozenset(
    # A connection's own; the length is counted anew. On Runpod, `authorization` is for Runpod's gate.
    "authorization connection content-length date host keep-alive server te trailer transfer-encoding upgrade".split()
)

Answer = Callable[..., Awaitable[Response]]


def load(project: Project) -> tuple[FastAPI, dict[str, Remote]]:
    """Import a project's modules; return its application, or an empty one, and its functions by name.

    Its folder must be on ``sys.path``. Whatever its code raises comes through.

    Raises:
        ProjectError: The application is something else.
    """
    serve_as_official()
    app = FastAPI(title=project.name)
    if project.mothership is not None:
        file, variable = project.mothership.file, project.mothership.variable
        module = import_module(file.removesuffix(".py").replace("/", "."))
        found = getattr(module, variable, None)
        if not isinstance(found, FastAPI):
            raise ProjectError(
                f"{file}: {variable} is a {type(found).__name__}, not a FastAPI application.",
                hint=f"For example: {variable} = FastAPI()",
            )
        app = found
    return app, {each.name: getattr(import_module(each.module), each.name) for each in project.functions}


def serve_as_official() -> None:
    """Let ``from runpod_flash import …`` of this process give flash_nb, be the official SDK installed or not."""
    sys.modules.setdefault(OFFICIAL, import_module("flash_nb"))


def extend(app: FastAPI, project: Project, functions: Mapping[str, Remote]) -> None:
    """Add a route for each function to the application, before a route of its own that takes all paths.

    Args:
        app: The application; changed.
        project: What its functions are.
        functions: They themselves, by name.
    """
    taken = {
        (method, getattr(route, "path", "")) for route in app.routes for method in getattr(route, "methods", None) or ()
    }
    router = APIRouter(tags=[TAG])
    for each in project.functions:
        for method, path, signature, answer in _routes(each, functions[each.name]):
            if (method, path) not in taken:
                _add(router, method, path, signature, answer, each)
    known = [*app.router.routes]
    app.include_router(router)
    new = [route for route in app.router.routes if route not in known]
    app.router.routes[:] = [*new, *known]
    _serve_docs_offline(app)


def routes_of(function: Function, resource: str) -> list[str]:
    """Return ``METHOD /path`` of each route that a function gets."""
    if function.method:
        return [f"{function.method} /{quote(resource)}{function.path}"]
    if function.kind == "class":
        return [f"POST {PREFIX}/{function.name}/{method}" for method in function.methods]
    return [f"POST {PREFIX}/{function.name}"]


def _routes(
    function: Function, remote: Remote
) -> list[tuple[str, str, inspect.Signature | None, Answer]]:
    """Return method, path, signature and answer of each route of a function; without signature: as it comes."""
    if isinstance(remote, RemoteRoute):
        prefix = f"/{quote(remote.how.resource.name)}"
        signature = signature_of(remote)
        where = places(signature, remote.method, remote.path).values()
        is_raw = not {"upload", "injected"}.isdisjoint(where)
        return [(remote.method, prefix + remote.path, None if is_raw else signature, _forwarding(remote, prefix))]
    if isinstance(remote, RemoteClass):
        instance = remote()
        cls: Any = remote.__wrapped__  # type: ignore[attr-defined]  # set by update_wrapper
        return [
            (
                "POST",
                f"{PREFIX}/{function.name}/{method}",
                _without_self(signature_of(getattr(cls, method))),
                _calling(getattr(instance, method), f"{function.name}.{method}"),
            )
            for method in function.methods
        ]
    return [("POST", f"{PREFIX}/{function.name}", signature_of(remote), _calling(remote, function.name))]


def _calling(remote: Callable[..., Any], label: str) -> Answer:
    async def answer(_: Request, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Response:
        try:
            outcome = await remote(*args, **kwargs)
            value = jsonable(f"what {label} returned", outcome)
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            return _failure(error)
        return Response(to_json(value, inf_nan_mode="null"), media_type="application/json")

    return answer


def _forwarding(route: RemoteRoute, prefix: str) -> Answer:
    async def answer(request: Request, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Response:
        try:
            if not route.is_served:
                return await _calling(route, route.name)(request, args, kwargs)
            there = await route.forward(await _request_without(prefix, request))
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            return _failure(error)
        headers = {name: value for name, value in there.headers.items() if name not in NOT_FORWARDED}
        return Response(there.body, there.status, headers)

    return answer


async def _request_without(prefix: str, request: Request) -> HttpRequest:
    """Return a request as a worker gets it, who knows nothing of the prefix."""
    path = request.scope["raw_path"].decode("ascii")
    headers = [(name, value) for name, value in request.headers.items() if name not in NOT_FORWARDED]
    return HttpRequest(
        request.method, path.removeprefix(prefix) or "/", request.url.query, headers, await request.body()
    )


def _failure(error: Exception) -> JSONResponse:
    """Return what is told of an error: 500 if the function raised it, 504 if its time was up, else 502."""
    facts = error if isinstance(error, RemoteExecutionError) else getattr(error, "__flash__", None)
    told = {
        "type": (facts and facts.remote_type) or type_of(error),
        "message": (facts and facts.remote_message) or message(error),
        "traceback": (facts and facts.remote_traceback) or formatted(error),
    }
    raised = not isinstance(error, FlashError) or (facts is not None and bool(facts.remote_type))
    status = 500 if raised else 504 if isinstance(error, JobTimeoutError) else 502
    return JSONResponse({"detail": f"{told['type']}: {told['message']}", **told}, status_code=status)


def _add(
    router: APIRouter, method: str, path: str, signature: inspect.Signature | None, answer: Answer, function: Function
) -> None:
    """Add a route; parameters whose annotations say nothing to FastAPI may be anything."""
    about = {"methods": [method], "name": function.name, "response_model": None, "summary": _summary(function, path)}
    try:
        router.add_api_route(path, _endpoint(signature, method, path, answer), **about)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - pydantic and FastAPI have many words for it
        assert signature is not None
        parameters = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
        endpoint = _endpoint(signature.replace(parameters=parameters), method, path, answer)
        router.add_api_route(path, endpoint, **about)  # type: ignore[arg-type]


def _endpoint(signature: inspect.Signature | None, method: str, path: str, answer: Answer) -> Callable[..., Any]:
    """Return a function whose signature tells FastAPI what a request holds."""
    if signature is None:

        async def as_it_comes(request: Request) -> Response:
            return await answer(request, (), {})

        return as_it_comes
    if any(each.kind == each.VAR_KEYWORD for each in signature.parameters.values()):
        return _open_endpoint(signature, answer)
    named = signature.replace(
        parameters=[each for each in signature.parameters.values() if _is_named(each)],
        return_annotation=inspect.Signature.empty,
    )

    async def endpoint(flash_request: Request, **values: Any) -> Response:
        bound = inspect.BoundArguments(named, dict(values))  # type: ignore[arg-type]  # an OrderedDict, once
        return await answer(flash_request, bound.args, bound.kwargs)

    served = served_signature(named, method, path)
    request = inspect.Parameter("flash_request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
    typed: Any = endpoint
    typed.__signature__ = served.replace(parameters=[request, *served.parameters.values()])
    made: Callable[..., Any] = typed
    return made


def _open_endpoint(signature: inspect.Signature, answer: Answer) -> Callable[..., Any]:
    """Return a function for parameters that nobody can list: the fields of any JSON object."""

    async def open_endpoint(request: Request, fields: dict[str, Any]) -> Response:
        try:
            bound = signature.bind(**fields)
        except TypeError as error:
            return JSONResponse({"detail": str(error)}, status_code=422)
        return await answer(request, bound.args, bound.kwargs)

    return open_endpoint


def _is_named(parameter: inspect.Parameter) -> bool:
    """Say if a request can name a parameter: those of ``*args`` have no names, and some defaults no JSON."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return False
    if parameter.default is parameter.empty:
        return True
    try:
        jsonable(parameter.name, parameter.default)
    except FlashError:
        return False
    return True


def _without_self(signature: inspect.Signature) -> inspect.Signature:
    return signature.replace(parameters=[*signature.parameters.values()][1:])


def _summary(function: Function, path: str) -> str:
    return f"{function.name}.{path.rpartition('/')[2]}" if function.kind == "class" else function.name


def _serve_docs_offline(app: FastAPI) -> None:
    """Have FastAPI's page of documentation take its scripts from this machine, if they are installed."""
    ours = [route for route in app.router.routes if getattr(route, "name", "") == "swagger_ui_html"]
    if find_spec("fastapi_offline") is None or not ours or not app.openapi_url:
        return
    folder = Path(str(import_module("fastapi_offline").__file__)).parent / "static"
    openapi_url, title = app.openapi_url, app.title

    async def page(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        return get_swagger_ui_html(
            openapi_url=root + openapi_url,
            title=title,
            swagger_js_url=f"{root}{STATIC}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{STATIC}/swagger-ui.css",
            swagger_favicon_url=f"{root}{STATIC}/favicon.png",
            swagger_ui_parameters=app.swagger_ui_parameters,
        )

    router = APIRouter()
    router.add_api_route(str(app.docs_url), page, include_in_schema=False)
    others = [route for route in app.router.routes if route not in ours]
    app.router.routes[:] = [*router.routes, Mount(STATIC, StaticFiles(directory=folder)), *others]
