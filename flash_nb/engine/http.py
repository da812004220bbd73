"""The HTTP door: load-balanced endpoints for any client, and the engine as a Runpod.

``http://127.0.0.1:PORT/ENDPOINT/api/process`` is the route ``/api/process`` of an endpoint. Every
request needs the engine's token; see `flash_nb.engine.gate`. To a route a browser may give it once as
``?token=…`` and is known by a cookie from then on, which does not hold the token: browsers send the
cookies of one port of this machine to all others, which is also why no cookie opens Runpod's paths:

============ ====================================================================
``/v2``      jobs: `flash_nb.engine.rest`; their workers: `flash_nb.engine.takers`;
             what there is to choose: `flash_nb.engine.catalog`;
             volumes: `flash_nb.engine.volumes`
``/graphql`` endpoints, apps: `flash_nb.engine.graphql`
``/rest``    volumes, for clients of REST v1: `flash_nb.engine.volumes`
============ ====================================================================

One more, ``/artifacts``, needs no token but an address that the engine has signed:
`flash_nb.engine.artifacts`.

Names other than this machine's in ``Host`` are refused, so that no web page can reach the engine by
a name of its own (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from flash_nb.engine.catalog import Catalog
from flash_nb.engine.exchange import Answer, Exchange
from flash_nb.engine.gate import (
    RefusalError,
    body_of,
    check_name,
    check_token,
    disconnected,
    meant,
    refuse,
    same,
    shows_token,
)
from flash_nb.engine.graphql import GraphQL
from flash_nb.engine.rest import Rest
from flash_nb.engine.takers import Takers
from flash_nb.engine.volumes import Volumes

if TYPE_CHECKING:
    from flash_nb.engine.server import Server

MAX_BODY_BYTES = 30_000_000  # Runpod's limit for load-balanced endpoints
KEEP_ALIVE_S = 75
CLOSE_TIMEOUT_S = 2.0
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]


class HttpDoor:
    """Serves HTTP on one port of the loopback.

    Args:
        server: The engine.
        port_file: Remembers the port, so that addresses stay valid.

    Attributes:
        app: What it serves.
        takers: Answers external workers.
    """

    def __init__(self, server: Server, port_file: Path) -> None:
        self._server = server
        self._cookie = secrets.token_urlsafe(32)
        self._socket = _bind(port_file)
        self.port: int = self._socket.getsockname()[1]
        self.takers = Takers(server)
        self.app = Starlette(
            routes=[
                *Catalog(server).routes,
                *self.takers.routes,
                *Rest(server).routes,
                *GraphQL(server).routes,
                *Volumes(server).routes,
                *server.artifacts.routes,
                Route("/{endpoint}/{path:path}", self._forward, methods=METHODS),
            ]
        )
        self.app.add_exception_handler(RefusalError, refused)
        self.app.add_exception_handler(HTTPException, _unknown)
        config = uvicorn.Config(
            self.app, log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=KEEP_ALIVE_S
        )
        self._uvicorn = Uvicorn(config)
        logging.getLogger("uvicorn.error").addFilter(_is_ours)
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self) -> None:
        """Serve until `aclose`."""
        self._serving = asyncio.current_task()
        await self._uvicorn.serve(sockets=[self._socket])

    async def aclose(self) -> None:
        """Close every connection; what waits for an answer must have got one."""
        self._uvicorn.should_exit = True
        if self._serving is not None:
            await asyncio.wait([self._serving], timeout=CLOSE_TIMEOUT_S)

    async def _forward(self, request: Request) -> Response:
        check_name(request)
        if not same(request.cookies.get(self._cookie_name, ""), self._cookie):
            token = request.query_params.get("token")
            if token and not shows_token(request, self._server.token):  # else it is the route's own
                return self._remember(request, token)
            check_token(request, self._server.token)
        endpoint_id = meant(request, self._server)
        headers = [pair for pair in request.headers.items() if pair[0] not in _OURS]
        path = "/" + request.path_params["path"]
        return await self.forward(request, endpoint_id, path, headers=headers, root=f"/{endpoint_id}")

    async def forward(
        self, request: Request, endpoint_id: str, path: str, *, headers: Sequence[tuple[str, str]], root: str
    ) -> Response:
        """Have a worker answer a request.

        Args:
            request: What came in; whoever calls has checked who sent it.
            endpoint_id: Of a load-balanced endpoint.
            path: For the worker's application.
            headers: For the same.
            root: Where that application seems to be, for the addresses that it makes.

        Raises:
            RefusalError: The body is too large.
        """
        reason = self._server.why_not_balanced(endpoint_id)
        if reason:
            return refuse(404, reason)
        body = await body_of(request, MAX_BODY_BYTES)
        self._server.control.provide(endpoint_id, body)
        header = {
            "method": request.method,
            "path": quote(path),
            "query": request.url.query,
            "headers": list(headers),
            "root": root,
        }
        exchange = Exchange(self._server, endpoint_id, header, body)
        exchange.abandon_when(disconnected(request))
        return await _response(exchange)

    def _remember(self, request: Request, token: str) -> Response:
        if not same(token, self._server.token):
            return refuse(401, "The token in the address is not this engine's.")
        response = RedirectResponse(str(request.url.remove_query_params("token")), status_code=303)
        response.set_cookie(self._cookie_name, self._cookie, httponly=True, samesite="strict")
        return response

    @property
    def _cookie_name(self) -> str:
        return f"flash-{self.port}"


_OURS = frozenset({"authorization", "cookie", "host"})


class _BrokenAnswerError(Exception):
    """A worker died in the middle of an answer: the connection is cut. No failure of the door."""


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and record.exc_info[0] is _BrokenAnswerError)


class Uvicorn(uvicorn.Server):
    """Uvicorn beside other work: signals are left to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


def _bind(port_file: Path) -> socket.socket:
    """Take the port of the last time if it is free, else any."""
    # asyncio sends small pieces at once (TCP_NODELAY) only if the protocol is named: 40 ms a request.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", int(port_file.read_text())))
    except (OSError, ValueError, OverflowError):
        listening.bind(("127.0.0.1", 0))
    port_file.write_text(str(listening.getsockname()[1]))
    return listening


async def _response(exchange: Exchange) -> Response:
    """Return the response as soon as it begins."""
    first = await exchange.next()
    if first.broken:
        return refuse(502, first.broken)
    if first.more:
        response: Response = StreamingResponse(_pieces(exchange, first), status_code=first.status)
    else:
        response = Response(first.body, status_code=first.status)
    kept = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in first.headers]
    chosen = {name for name, _ in kept}
    response.raw_headers = kept + [pair for pair in response.raw_headers if pair[0] not in chosen]
    return response


async def _pieces(exchange: Exchange, first: Answer) -> AsyncIterator[bytes]:
    answer = first
    try:
        yield answer.body
        while answer.more:
            answer = await exchange.next()
            if answer.broken:
                raise _BrokenAnswerError(answer.broken)  # the only way to tell once the status is out
            yield answer.body
    finally:
        exchange.abandon()


async def refused(_: Request, error: Exception) -> Response:
    """Answer what a `RefusalError` says."""
    assert isinstance(error, RefusalError)
    return refuse(error.status, error.detail)


async def _unknown(request: Request, error: Exception) -> Response:
    """Say in JSON too that there is no such path or method."""
    assert isinstance(error, HTTPException)
    return refuse(error.status_code, f"{error.detail}: {request.method} {request.url.path}")
