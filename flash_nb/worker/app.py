"""The application of a load-balanced worker, made from what its endpoint says.

``{"kind": "routes", "title": …, "groups": [{"namespace": [item…], "buffers": [base64…], "routes":
[{"method", "path", "function"}…]}…]}``: functions that came as source, served by FastAPI. The
functions of a group share one namespace, as they do in the notebook.

``{"kind": "asgi", "group": {"namespace", "buffers", "function"}}``: a function that returns an ASGI
application of the user's own.

``{"kind": "execute"}``: what Flash's own image serves; see `flash_nb.worker.execute`.
"""

from __future__ import annotations

import base64
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from . import failure
from .execute import Execute
from .interface import Application
from .namespace import attribute, fill, new_main
from .routes import places, signature_of


def build(app: Mapping[str, Any]) -> Application:
    """Return the ASGI application; executes the user's definitions."""
    if app["kind"] == "asgi":
        group = app["group"]
        made: Application = load(group, group["function"])()
        return made
    return Execute() if app["kind"] == "execute" else _serve_routes(app)


def load(group: Mapping[str, Any], function: str | None = None) -> Any:
    """Execute a group's definitions in a namespace of their own; return it, or one function of it."""
    module = new_main()
    fill(module.__dict__, group["namespace"], [base64.b64decode(text) for text in group["buffers"]])
    return module if function is None else attribute(module, function.split("."))


def _serve_routes(app: Mapping[str, Any]) -> Application:
    from fastapi.exceptions import FastAPIError
    from fastapi_offline import FastAPIOffline
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    api = FastAPIOffline(title=app["title"], redoc_url=None)

    async def tell(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(describe(error), status_code=500)

    async def ping() -> dict[str, str]:
        return {"status": "healthy"}

    api.add_exception_handler(Exception, tell)
    for group in app["groups"]:
        module = load(group)
        for route in group["routes"]:
            function = attribute(module, route["function"].split("."))
            add = functools.partial(
                api.add_api_route,
                route["path"],
                _endpoint(function, route["method"], route["path"]),
                methods=[route["method"]],
            )
            try:
                add()
            except FastAPIError:  # the return annotation is nothing that JSON has a schema for
                add(response_model=None)

    api.add_api_route("/ping", ping, include_in_schema=False)
    served: Application = api
    return served


def describe(error: BaseException) -> dict[str, str]:
    """Return what a caller is told of an exception."""
    name, message = failure.type_of(error), failure.message(error)
    return {
        "detail": f"{name}: {message}",
        "type": name,
        "message": message,
        "traceback": failure.formatted(error),
    }


def _endpoint(function: Callable[..., Any], method: str, path: str) -> Callable[..., Any]:
    """Return the function with its body fields marked as such for FastAPI."""
    from fastapi import Body

    signature = signature_of(function)
    where = places(signature, method, path)
    parameters = []
    for name, parameter in signature.parameters.items():
        kind = Any if parameter.annotation is parameter.empty else parameter.annotation
        if where[name] == "body":
            kind = Annotated[kind, Body(embed=True)]
        parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))

    async def call_async(**values: Any) -> Any:
        return await function(**values)

    def call(**values: Any) -> Any:
        return function(**values)

    endpoint: Any = call_async if inspect.iscoroutinefunction(function) else call
    functools.update_wrapper(endpoint, function)
    del endpoint.__wrapped__
    endpoint.__signature__ = signature.replace(parameters=_required_first(parameters))
    made: Callable[..., Any] = endpoint
    return made


def _required_first(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    return sorted(parameters, key=lambda parameter: parameter.default is not parameter.empty)
