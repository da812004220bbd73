"""A route: a function that a load-balanced endpoint serves over HTTP.

Two ways to call it were weighed. The official 1.0.0 posts the function's source to ``/execute`` at
every call, so that ``curl`` has nothing to call. Here the endpoint serves all routes that were
declared for its resource, and the Python call is the same request that any client makes.

On Runpod a Live resource runs Flash's image for live functions, and ``/execute`` is all that this image
serves. So there a Python call does what the official one does, the route's method and path count for
nothing, and its address answers no ``curl``. Values come back as Python objects, unchecked and not made
into JSON. Routes that others can call need an image of their own, as a deployed app has one.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from flash_nb.backends.base import Endpoint, HttpRequest, HttpResponse
from flash_nb.backends.events import worker_event
from flash_nb.errors import RemoteExecutionError, ResourceError, SerializationError, did_you_mean
from flash_nb.protocol import live
from flash_nb.protocol.app import Route
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk import failures, outputs
from flash_nb.sdk.app import ServedApp, routes_app
from flash_nb.sdk.call import called
from flash_nb.sdk.code import ObjectCode
from flash_nb.sdk.dependencies import requirements_for
from flash_nb.sdk.function import Call
from flash_nb.sdk.jsonable import jsonable
from flash_nb.sdk.options import RemoteOptions
from flash_nb.sdk.session import Session, current_session
from flash_nb.sdk.stand_in import app_of
from flash_nb.worker.codec import decode
from flash_nb.worker.routes import METHODS, Place, placeholders, places, signature_of

RESERVED = ("/ping", "/execute", "/docs", "/openapi.json")
_EXAMPLE = 'For example: @remote(api, method="POST", path="/api/process")'


class RemoteRoute:
    """A function behind ``METHOD path``. Calling it gives a coroutine for what the route answers.

    Args:
        function: The function.
        options: How it runs.
        method: An HTTP method.
        path: Its path, which may have placeholders: ``/items/{item}``.

    Raises:
        ResourceError: The method, the path or a parameter of the function cannot work.
    """

    __flash_remote__ = True

    def __init__(
        self, function: Callable[..., Any], options: RemoteOptions, method: str | None, path: str | None
    ) -> None:
        self.how = options
        self.method, self.path = checked_route(function.__name__, method, path)
        self._function = function
        self._code = ObjectCode(function)
        self._signature = signature_of(function)
        self._places = places(self._signature, self.method, self.path)
        self._check_parameters()
        functools.update_wrapper(self, function)
        table_of(options.resource).add(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Send one request to the route; return the value of its JSON answer, text or bytes.

        It is never sent twice.

        Raises:
            SerializationError: An argument cannot be JSON.
            RemoteExecutionError: The route answered with an error.
            BackendError: There was no answer.
        """
        return called(self.name, self._run(self._signature.bind(*args, **kwargs)))

    async def _run(self, bound: inspect.BoundArguments) -> Any:
        if self.how.local:
            return await _call_here(self._function, bound.args, bound.kwargs)
        session = current_session()
        if self._is_executed(session):
            return await self._execute(session, bound.args, bound.kwargs)
        response = await session.request(self.how.resource, self._app(), self._request(bound.arguments))
        return _value(response, f"{self.method} {self.path} of {self.how.resource.name}")

    @property
    def url(self) -> str:
        """Where others call it; the endpoint is made if need be.

        On the local engine they need its token: ``Authorization: Bearer $(flash engine token)``.

        Raises:
            BackendError: The endpoint cannot be had.
        """
        return self.ensure().url + self.path

    def ensure(self) -> Endpoint:
        """Return the endpoint with all routes of the resource, created or updated if need be; waits for it.

        Raises:
            BackendError: It cannot be had.
        """
        return current_session().endpoint(self.how.resource, self._app())

    @property
    def is_served(self) -> bool:
        """Whether the endpoint answers requests for it; else a call runs here, or its source travels."""
        return not self.how.local and not self._is_executed(current_session())

    async def forward(self, request: HttpRequest) -> HttpResponse:
        """Send somebody's request to the endpoint as it is, once; return the answer, whatever its status.

        Raises:
            BackendError: There was no answer.
        """
        return await current_session().request(self.how.resource, self._app(), request)

    @property
    def served(self) -> tuple[Route, ObjectCode, RemoteOptions]:
        """What an app needs of it."""
        route: Route = {"method": self.method, "path": self.path, "function": self._code.name}
        return route, self._code, self.how

    @property
    def name(self) -> str:
        """The function's name."""
        return self._code.name

    def __repr__(self) -> str:
        return f"<route {self.method} {self.path} of {self.how.resource.name}: {self.name}()>"

    def _is_executed(self, session: Session) -> bool:
        """Say if the function's source travels with each call: there is no app to serve it."""
        return self.how.resource.is_live and session.backend.runs_images

    async def _execute(self, session: Session, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have a worker of Flash's own image run the function: ``POST /execute``, once."""
        how, call = self.how, Call(self._code, args, kwargs)
        body = live.function_request(
            call.request,
            call.buffers,
            requirements=requirements_for(call.modules, how.dependencies),
            system=how.system_dependencies,
            accelerate=how.accelerate_downloads,
        )
        headers = [("content-type", "application/json")]
        request = HttpRequest("POST", "/execute", "", headers, json.dumps(body).encode())
        answer = _value(
            await session.request(how.resource, None, request), f"/execute of {how.resource.name}"
        )
        result, buffers, events = live.result_of(answer)
        for _, event in events:
            outputs.show(worker_event(event))
        if not result["ok"]:
            pickles = buffers[result["counts"][0] :]
            raise failures.rebuild(result["error"], pickles, self._code.resolve)
        return decode(buffers[: result["counts"][0]], self._code.resolve)

    def _app(self) -> ServedApp | None:
        """Return what serves the route: this function, or what stands for the resource's own image.

        None: its workers run the image.
        """
        resource = self.how.resource
        if current_session().backend.runs_images:
            return None
        return table_of(resource).app() if resource.is_live else app_of(resource)

    def _check_parameters(self) -> None:
        missing = [name for name in placeholders(self.path) if name not in self._signature.parameters]
        if missing:
            raise ResourceError(
                f"The path {self.path!r} has {{{missing[0]}}}, but {self.name} has no such parameter"
                f"{did_you_mean(missing[0], self._signature.parameters) or '.'}"
            )
        for parameter in self._signature.parameters.values():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise ResourceError(
                    f"{self.name} has the parameter {parameter}, which no request can name.",
                    hint="Give each parameter of a route a name of its own.",
                )

    def _request(self, arguments: Mapping[str, Any]) -> HttpRequest:
        path, query, headers = self.path, [], []
        fields: dict[str, Any] = {}
        whole: Any = None
        for name, value in arguments.items():
            sent = jsonable(f"argument {name}", value)
            match self._places[name]:
                case "path":
                    path = _filled(path, name, sent)
                case "query":
                    query += [(name, _word(item)) for item in (sent if isinstance(sent, list) else [sent])]
                case "header":
                    headers.append((name.replace("_", "-"), _word(sent)))
                case "body":
                    fields[name] = sent
                case "whole body":
                    whole = sent
                case place:
                    raise _only_http(self.name, name, place)
        has_body = any(place in ("body", "whole body") for place in self._places.values())
        if has_body:
            headers.append(("content-type", "application/json"))
        return HttpRequest(
            self.method,
            path,
            urlencode([pair for pair in query if pair[1] is not None]),
            headers,
            json.dumps(fields if whole is None else whole).encode() if has_body else b"",
        )


class RouteTable:
    """The routes that were declared for one resource."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._routes: dict[tuple[str, str], RemoteRoute] = {}
        self._app: ServedApp | None = None

    def add(self, route: RemoteRoute) -> None:
        """Serve a route too; it replaces the one of its function before, and the one in its place."""
        self._routes = {
            key: known
            for key, known in self._routes.items()
            if known.name != route.name and key != (route.method, route.path)
        }
        self._routes[route.method, route.path] = route

    def app(self) -> ServedApp:
        """Return the app of all routes, as their code and its globals are now."""
        app = routes_app(self._title, [route.served for route in self._routes.values()])
        if app != self._app:
            self._app = app
        assert self._app is not None
        return self._app


_tables: dict[tuple[str, str], RouteTable] = {}


def table_of(resource: ServerlessResource) -> RouteTable:
    """Return the routes of a resource: one is its kind and name, as for its endpoint."""
    key = (type(resource).__name__, resource.name)
    return _tables.setdefault(key, RouteTable(resource.name))


def checked_route(function: str, method: object, path: object) -> tuple[str, str]:
    """Return a route's method and path.

    Raises:
        ResourceError: They are missing, or cannot be.
    """
    if method is None or path is None:
        missing = " and ".join(name for name, given in (("method", method), ("path", path)) if given is None)
        raise ResourceError(
            f"{function} runs on a load-balanced resource and needs {missing}.", hint=_EXAMPLE
        )
    if not isinstance(method, str) or method not in METHODS:
        near = did_you_mean(method.upper(), METHODS) if isinstance(method, str) else ""
        raise ResourceError(
            f"{function}: method={method!r} is not one of {', '.join(METHODS)}{near}.", hint=_EXAMPLE
        )
    if not isinstance(path, str) or not path.startswith("/"):
        raise ResourceError(f"{function}: path={path!r} must begin with '/'.", hint=_EXAMPLE)
    if any(sign.isspace() or sign in "?#" for sign in path) or path.count("{") != len(placeholders(path)):
        raise ResourceError(
            f"{function}: path={path!r} must have no spaces, '?' or '#', and braces around names only."
        )
    if path in RESERVED:
        raise ResourceError(
            f"{function}: path={path!r} is taken: {', '.join(RESERVED)} are every endpoint's own."
        )
    return method, path


def _filled(path: str, name: str, value: Any) -> str:
    text = str(_word(value))
    if "/" in text and f"{{{name}}}" in path:
        raise SerializationError(
            f"argument {name} is {text!r}, and {{{name}}} in the path {path!r} stands for one segment.",
            hint=f"Let it take slashes: {{{name}:path}}",
        )
    return path.replace(f"{{{name}}}", quote(text, safe="")).replace(f"{{{name}:path}}", quote(text))


def _word(value: Any) -> Any:
    """Return a JSON value as it stands in a query; None stays None and is left out."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def _only_http(function: str, parameter: str, place: Place) -> ResourceError:
    what = "is a file upload" if place == "upload" else "is made by the server"
    return ResourceError(
        f"{function}: the parameter {parameter} {what}, so a Python call cannot give it.",
        hint="Call the route over HTTP: its address is in .url",
    )


def _value(response: HttpResponse, route: str) -> Any:
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if kind == "application/json":
        value = json.loads(response.body) if response.body else None
    elif kind.startswith("text/"):
        value = response.body.decode(errors="replace")
    else:
        value = response.body or None
    if response.status < 400:  # noqa: PLR2004 - where HTTP's errors begin
        return value
    raise _error(response.status, value, route)


def _error(status: int, value: Any, route: str) -> RemoteExecutionError:
    told = value if isinstance(value, dict) else {"detail": value}
    detail = told.get("detail", value)
    if isinstance(detail, list):  # FastAPI's list of what is wrong with a request
        detail = "; ".join(f"{'.'.join(map(str, each.get('loc', ())))}: {each.get('msg')}" for each in detail)
    return RemoteExecutionError(
        f"{route} answered {status}: {detail}",
        remote_type=str(told.get("type", "")),
        remote_message=str(told.get("message", detail)),
        remote_traceback=str(told.get("traceback", "")),
    )


async def _call_here(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    result = function(*args, **kwargs)
    return await result if hasattr(result, "__await__") else result
