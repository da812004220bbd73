"""Functions behind HTTP routes, served by FastAPI.

It knows nothing of how the functions came: deployed code serves its routes with this very file, see
`flash_nb.project.handlers`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from . import raised
from .routes import places, signature_of

Served = tuple[str, str, Callable[..., Any]]
"""A method, a path, and the function that answers."""


def serve(api: Any, routes: Iterable[Served]) -> Any:
    """Add routes to a FastAPI application, with ``/ping``, and tell of errors as JSON; return it."""
    from fastapi.exceptions import FastAPIError
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    async def tell(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(describe(error), status_code=500)

    async def ping() -> dict[str, str]:
        return {"status": "healthy"}

    api.add_exception_handler(Exception, tell)
    for method, path, function in routes:
        add = functools.partial(api.add_api_route, path, _endpoint(function, method, path), methods=[method])
        try:
            add()
        except FastAPIError:  # the return annotation is nothing that JSON has a schema for
            add(response_model=None)
    api.add_api_route("/ping", ping, include_in_schema=False)
    return api


def describe(error: BaseException) -> dict[str, str]:
    """Return what a caller is told of an exception."""
    name, message = raised.type_of(error), raised.message(error)
    return {
        "detail": f"{name}: {message}",
        "type": name,
        "message": message,
        "traceback": raised.formatted(error),
    }


def served_signature(signature: inspect.Signature, method: str, path: str) -> inspect.Signature:
    """Return the signature of a route with its body fields marked for FastAPI; all are by keyword only."""
    from fastapi import Body

    where = places(signature, method, path)
    parameters = []
    for name, parameter in signature.parameters.items():
        kind = Any if parameter.annotation is parameter.empty else parameter.annotation
        if where[name] == "body":
            kind = Annotated[kind, Body(embed=True)]
        parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
    return signature.replace(parameters=_required_first(parameters))


def _endpoint(function: Callable[..., Any], method: str, path: str) -> Callable[..., Any]:
    """Return the function with its body fields marked as such for FastAPI."""

    async def call_async(**values: Any) -> Any:
        return await function(**values)

    def call(**values: Any) -> Any:
        return function(**values)

    endpoint: Any = call_async if inspect.iscoroutinefunction(function) else call
    functools.update_wrapper(endpoint, function)
    del endpoint.__wrapped__
    endpoint.__signature__ = served_signature(signature_of(function), method, path)
    made: Callable[..., Any] = endpoint
    return made


def _required_first(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    return sorted(parameters, key=lambda parameter: parameter.default is not parameter.empty)
