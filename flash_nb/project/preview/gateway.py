"""The gateway of a preview: one address for all its endpoints.

::

    /v2/RESOURCE/run, runsync, status/JOB, stream/JOB, cancel/JOB, health      a queue, as at Runpod
    /RESOURCE/…                                                                routes
    everything else                                                            the mothership
    /v2                                                                        what there is, as JSON

A queue or a balanced endpoint wins over a route of the mothership with the same path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flash_nb.engine.gate import RefusalError, check_name, refuse
from flash_nb.engine.http import METHODS, refused
from flash_nb.engine.server import Server


@dataclass(frozen=True)
class Served:
    """A resource as the gateway serves it.

    Attributes:
        key: Its name.
        endpoint: Its endpoint's id in the engine.
        kind: How it is reached.
        path: Where.
        example: A command that calls it.
    """

    key: str
    endpoint: str
    kind: str
    path: str
    example: str


class Gateway:
    """What answers at the preview's address.

    Args:
        server: The engine.
        resources: What it serves.
        token: The engine's.

    Attributes:
        app: An ASGI application.
    """

    def __init__(self, server: Server, resources: Sequence[Served], token: str) -> None:
        self._server = server
        self._resources = {served.key: served for served in resources}
        self._mothership = next((each for each in resources if each.path == "/"), None)
        self._token = token
        self.app = Starlette(
            routes=[
                Route("/v2/{resource}/{rest:path}", self._queue, methods=METHODS),
                Route("/v2", self._list),
                Route("/{path:path}", self._forward, methods=METHODS),
            ]
        )
        self.app.add_exception_handler(RefusalError, refused)

    async def _queue(self, request: Request) -> Any:
        served = self._resources.get(request.path_params["resource"])
        if served is None or served.path != f"/v2/{served.key}/":
            return await self._forward(request)
        _check(request)
        path = f"/v2/{served.endpoint}/{request.path_params['rest']}"
        headers = [
            *((name, value) for name, value in request.scope["headers"] if name != b"authorization"),
            (b"authorization", f"Bearer {self._token}".encode()),
        ]
        inner = {**request.scope, "path": path, "raw_path": quote(path).encode(), "headers": headers}
        for name in ("app", "endpoint", "path_params", "route", "router"):
            inner.pop(name, None)
        return _Passed(self._server, inner)

    async def _forward(self, request: Request) -> Response:
        _check(request)
        asked: str = request.scope["path"]
        first, _, rest = asked.removeprefix("/").partition("/")
        served, path, root = self._resources.get(first), f"/{rest}", f"/{first}"
        if served is None or served.path != f"/{first}/":
            served, path, root = self._mothership, asked, ""
        if served is None and asked == "/":
            return await self._list(request)
        if served is None:
            return refuse(404, f"Nothing answers at {asked}: GET /v2 lists what does.")
        headers = list(request.headers.items())
        return await self._server.http.forward(request, served.endpoint, path, headers=headers, root=root)

    async def _list(self, request: Request) -> Response:
        _check(request)
        found = {
            each.key: {"kind": each.kind, "path": each.path, "example": each.example}
            for each in self._resources.values()
        }
        return JSONResponse({"resources": found})


class _Passed:
    """A response that another application of this process makes."""

    def __init__(self, server: Server, scope: Mapping[str, Any]) -> None:
        self._server = server
        self._scope = scope

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        await self._server.http.app(dict(self._scope), receive, send)


def _check(request: Request) -> None:
    """Refuse web pages of elsewhere: they may reach this machine's ports, but must not start jobs.

    Raises:
        RefusalError: 403.
    """
    check_name(request)
    if request.headers.get("sec-fetch-site") == "cross-site" and request.method not in ("GET", "HEAD"):
        raise RefusalError(403, "A web page of another site cannot call this preview.")
