"""A small Runpod that keeps what it is told, where the engine differs: endpoints of one name, ids of jobs,
outcomes by word of the test. A real HTTP server; nothing runs a job."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

METHODS = ["GET", "POST", "DELETE"]
VOLUME = {"name", "size", "dataCenter"}


class Cloud:
    """See the module.

    Attributes:
        key: The only key that it takes.
        answers: What ``/runsync``, ``/run``, ``/status`` and ``/stream`` say next, by route, in order; the
            last one stays.
        served: What load-balanced endpoints answer.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.url = ""
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.volumes: list[dict[str, Any]] = []
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.served: Callable[[Request, bytes], Response] = lambda _, __: JSONResponse({})
        self.log: list[tuple[str, Any]] = []
        self.before_save: Callable[[], Awaitable[None]] | None = None
        self._ids = itertools.count(1)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Cloud]:
        app = Starlette(
            routes=[
                Route("/graphql", self._graphql, methods=["POST"]),
                Route("/v2/network-volumes", self._volumes, methods=["GET", "POST"]),
                Route("/v2/{endpoint}/{action}", self._jobs, methods=METHODS),
                Route("/v2/{endpoint}/{action}/{job}", self._jobs, methods=METHODS),
                Route("/{endpoint}/{path:path}", self._balanced, methods=METHODS),
            ]
        )
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield self
        finally:
            server.should_exit = True
            await serving

    def count(self, what: str) -> int:
        """Return how often something was asked."""
        return sum(name == what for name, _ in self.log)

    async def _graphql(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        body = await request.json()
        query, variables = body["query"], body["variables"]
        if "saveEndpoint" in query:
            return JSONResponse({"data": {"saveEndpoint": await self._save(variables["input"])}})
        if "deleteEndpoint" in query:
            self.log.append(("deleteEndpoint", variables["id"]))
            if self.endpoints.pop(variables["id"], None) is None:
                return JSONResponse({"errors": [{"message": "Something went wrong."}], "data": None})
            return JSONResponse({"data": {"deleteEndpoint": None}})
        self.log.append(("endpoints", None))
        return JSONResponse({"data": {"myself": {"endpoints": list(self.endpoints.values())}}})

    async def _save(self, given: dict[str, Any]) -> dict[str, Any]:
        self.log.append(("saveEndpoint", given))
        if self.before_save is not None and "id" not in given:
            await self.before_save()
        endpoint_id = given.get("id") or f"ep{next(self._ids)}"
        self.endpoints[endpoint_id] = {**given, "id": endpoint_id}
        return self.endpoints[endpoint_id]

    async def _volumes(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        if request.method == "GET":
            return JSONResponse({"networkVolumes": self.volumes})
        given = await request.json()
        if not VOLUME <= given.keys() <= VOLUME | {"type"}:
            problem = {"title": "Unprocessable Entity", "status": 422, "detail": "Request validation failed."}
            return JSONResponse(problem | {"errors": [f"fields: {sorted(given)}"]}, status_code=422)
        self.volumes.append({"type": "STANDARD", **given, "id": f"vol{len(self.volumes)}"})
        self.log.append(("volume", self.volumes[-1]))
        return JSONResponse(self.volumes[-1], status_code=201)

    async def _jobs(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        action = request.path_params["action"]
        self.log.append((action, await request.json() if await request.body() else None))
        if request.path_params["endpoint"] not in self.endpoints:
            return JSONResponse({"error": "endpoint not found"}, status_code=404)
        if action == "health":
            return JSONResponse(
                {"jobs": {"inQueue": 2, "inProgress": 1}, "workers": {"running": 1, "idle": 2}}
            )
        listed = self.answers.get(action) or [
            {"id": request.path_params.get("job", ""), "status": "CANCELLED"}
        ]
        told = listed.pop(0) if len(listed) > 1 else listed[0]
        status = told.get("http", 200)
        return JSONResponse(told, status_code=status)

    async def _balanced(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        if request.path_params["endpoint"] not in self.endpoints:
            return JSONResponse({"error": "no such host"}, status_code=404)
        body = await request.body()
        self.log.append((request.path_params["path"], body))
        return self.served(request, body)

    def _refusal(self, request: Request) -> Response | None:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": "Unauthorized"}, status_code=401)
        return None
