"""The application that ``flash run`` serves: the project's own, and a route for each function.

``POST /functions/NAME`` takes a function's parameters as the fields of a JSON object, by the rules of a
declared POST route (`flash_nb.worker.routes`); a class has ``POST /functions/NAME/METHOD``, for one object
that is made without arguments and kept. Functions of load-balanced resources are at ``/RESOURCE/PATH``, with
the method that they declare. A route of the project's own with the same path comes first.

What a function returned is the answer. If it raised, or its values cannot travel, the answer is 500; if its
backend or its worker failed, 502; if its time was up, 504. All three are
``{"detail", "type", "message", "traceback"}``, as a load-balanced worker tells it.
"""

from __future__ import annotations

import inspect
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from pydantic_core import to_json
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import Scope

from flash_nb.backends.base import HttpRequest
from flash_nb.errors import BackendError, FlashError, JobTimeoutError, ProjectError, RemoteExecutionError
from flash_nb.project.declared import Function, Project
from flash_nb.sdk.jsonable import jsonable
from flash_nb.sdk.objects import RemoteClass
from flash_nb.sdk.remote import Remote
from flash_nb.sdk.route import RemoteRoute
from flash_nb.worker.raised import formatted, message, type_of
from flash_nb.worker.routes import places, signature_of
from flash_nb.worker.serving import served_signature

OFFICIAL = "runpod_flash"
PREFIX = "/functions"
TAG = "functions, run on their resources"
STATIC = "/static-offline-docs"
NOT_FORWARDED = frozenset(
    {
        "authorization",  # on Runpod it is for Runpod's gate
        "connection",
        "content-length",  # counted anew
        "date",
        "host",
        "keep-alive",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of one connection."""

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
    """Let ``from runpod_flash import …`` give flash_nb in this process, installed or not."""
    sys.modules.setdefault(OFFICIAL, import_module("flash_nb"))


def extend(app: FastAPI, project: Project, functions: Mapping[str, Remote]) -> None:
    """Add a route for each function to the application, after its own but before one that hides it.

    Args:
        app: The application; changed.
        project: What its functions are.
        functions: They themselves, by name.
    """
    taken = _declared(app)
    router = APIRouter(tags=[TAG])
    for each in project.functions:
        for route in _routes(each, functions[each.name]):
            if (route.method, route.path) not in taken:
                route.add_to(router)
    known = [*app.router.routes]
    app.include_router(router)
    new = [route for route in app.router.routes if route not in known]
    place = next((index for index, each in enumerate(known) if _hides(each, router)), len(known))
    app.router.routes[:] = [*known[:place], *new, *known[place:]]
    _serve_docs_offline(app)


def routes_of(function: Function, resource: str) -> list[str]:
    """Return ``METHOD /path`` of each route that a function gets."""
    if function.method:
        return [f"{function.method} /{quote(resource)}{function.path}"]
    if function.kind == "class":
        return [f"POST {PREFIX}/{function.name}/{method}" for method in function.methods]
    return [f"POST {PREFIX}/{function.name}"]


def _declared(app: FastAPI) -> set[tuple[str, str]]:
    """Return method and path of each route that an application documents, whatever router it is in."""
    try:
        paths = get_openapi(title=app.title, version=app.version, routes=app.routes)["paths"]
    except Exception:  # noqa: BLE001 - a route that cannot be documented can be served all the same
        return set()
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def _hides(route: BaseRoute, router: APIRouter) -> bool:
    """Say if a route would answer for one of a router's: it takes all paths, say."""
    for each in router.routes:
        if isinstance(each, APIRoute):
            for method in each.methods or ():
                scope: Scope = {
                    "type": "http",
                    "method": method,
                    "path": each.path,
                    "root_path": "",
                    "headers": [],
                }
                if route.matches(scope)[0] is Match.FULL:
                    return True
    return False


@dataclass(frozen=True)
class _Route:
    """A route of a function.

    Attributes:
        name: What people call it.
        about: Its documentation.
        signature: Its parameters; None: only its worker can read the request.
        answer: Called with the request and the arguments.
    """

    method: str
    path: str
    name: str
    about: str
    signature: inspect.Signature | None
    answer: Answer

    def add_to(self, router: APIRouter) -> None:
        """Add it; parameters whose annotations say nothing to FastAPI may be anything."""
        try:
            self._add(router, self.signature)
        except Exception:  # noqa: BLE001 - pydantic and FastAPI have many words for it
            assert self.signature is not None
            parameters = self.signature.parameters.values()
            untyped = [each.replace(annotation=each.empty) for each in parameters]
            self._add(router, self.signature.replace(parameters=untyped))

    def _add(self, router: APIRouter, signature: inspect.Signature | None) -> None:
        router.add_api_route(
            self.path,
            self._endpoint(signature),
            methods=[self.method],
            name=self.name,
            summary=self.name,
            description=self.about,
            response_model=None,
        )

    def _endpoint(self, signature: inspect.Signature | None) -> Callable[..., Any]:
        """Return a function whose signature tells FastAPI what a request holds."""
        if signature is None:
            return self._as_it_comes
        if any(each.kind == each.VAR_KEYWORD for each in signature.parameters.values()):
            return self._open_endpoint(signature)
        named = signature.replace(
            parameters=[each for each in signature.parameters.values() if _is_named(each)],
            return_annotation=inspect.Signature.empty,
        )

        async def endpoint(flash_request: Request, **values: Any) -> Response:
            bound = inspect.BoundArguments(named, OrderedDict(values))
            return await self.answer(flash_request, bound.args, bound.kwargs)

        served = served_signature(named, self.method, self.path)
        request = inspect.Parameter("flash_request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
        typed: Any = endpoint
        typed.__signature__ = served.replace(parameters=[request, *served.parameters.values()])
        made: Callable[..., Any] = typed
        return made

    async def _as_it_comes(self, request: Request) -> Response:
        return await self.answer(request, (), {})

    def _open_endpoint(self, signature: inspect.Signature) -> Callable[..., Any]:
        """Return a function for ``**parameters``, which nobody can list: the fields of any JSON object."""

        async def endpoint(request: Request) -> Response:
            try:
                bound = signature.bind(**await request.json())
            except (TypeError, ValueError) as error:
                return JSONResponse({"detail": str(error)}, status_code=422)
            return await self.answer(request, bound.args, bound.kwargs)

        return endpoint


def _routes(function: Function, remote: Remote) -> list[_Route]:
    about = inspect.getdoc(inspect.unwrap(remote)) or ""
    if isinstance(remote, RemoteRoute):
        prefix = f"/{quote(remote.how.resource.name)}"
        signature = signature_of(remote)
        is_raw = not {"upload", "injected"}.isdisjoint(places(signature, remote.method, remote.path).values())
        answer = _forwarding(remote, prefix)
        path = prefix + remote.path
        return [_Route(remote.method, path, function.name, about, None if is_raw else signature, answer)]
    path = f"{PREFIX}/{function.name}"
    if not isinstance(remote, RemoteClass):
        answer = _calling(remote, function.name)
        return [_Route("POST", path, function.name, about, signature_of(remote), answer)]
    instance, cls = remote(), inspect.unwrap(remote)
    return [
        _Route(
            "POST",
            f"{path}/{method}",
            f"{function.name}.{method}",
            inspect.getdoc(getattr(cls, method)) or about,
            _without_self(signature_of(getattr(cls, method))),
            _calling(getattr(instance, method), f"{function.name}.{method}"),
        )
        for method in function.methods
    ]


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
    """Return what is told of an error: 500 if the function is to blame, else 502; 504 if its time was up."""
    facts = error if isinstance(error, RemoteExecutionError) else getattr(error, "__flash__", None)
    if facts is not None and facts.remote_type:
        kind, text, trace = facts.remote_type, facts.remote_message, facts.remote_traceback
    elif isinstance(error, FlashError):  # its sentence says it all; the frames are ours
        kind, text = type(error).__name__, str(error)
        trace = f"{kind}: {text}"
    else:
        kind, text, trace = type_of(error), message(error), formatted(error)
    told = {"detail": f"{kind}: {text}", "type": kind, "message": text, "traceback": trace}
    return JSONResponse(told, status_code=_status(error, facts))


def _status(error: Exception, facts: RemoteExecutionError | None) -> int:
    if isinstance(error, JobTimeoutError):
        return 504
    has_raised = facts is not None and facts.remote_type
    return 502 if isinstance(error, (BackendError, RemoteExecutionError)) and not has_raised else 500


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
