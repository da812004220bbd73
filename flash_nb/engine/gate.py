"""The gate of the HTTP door: who may come in, and how much they may bring.

A request shows the engine's token in ``Authorization``, as ``Bearer TOKEN`` or bare: Runpod takes both,
its clients send the one and its workers the other. Every refusal is a JSON object, ``{"detail": …}``:
the official asyncio client reads errors as JSON too.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flash_nb.errors import BackendError

if TYPE_CHECKING:
    from flash_nb.engine.server import Server

Handle = Callable[[Request], Awaitable[Response]]

NAMES = frozenset({"127.0.0.1", "localhost"})
BY_NAME = "flash"


class RefusalError(Exception):
    """A request cannot be served.

    Attributes:
        status: The HTTP status.
        detail: Why, and what to do.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def refuse(status: int, detail: str) -> Response:
    """Return the answer to a request that is refused."""
    return JSONResponse({"detail": detail}, status_code=status)


def check_name(request: Request) -> None:
    """Refuse names other than this machine's, so that no web page gets in by a name of its own.

    Raises:
        RefusalError: 403.
    """
    if (request.url.hostname or "") not in NAMES:
        raise RefusalError(403, f"This server does not go by the name {request.url.hostname!r}.")


def shows_token(request: Request, token: str) -> bool:
    """Say if a request shows the token in its header."""
    given = request.headers.get("authorization", "")
    scheme, _, rest = given.partition(" ")
    return same(rest.strip() if scheme.lower() == "bearer" else given.strip(), token)


def check_token(request: Request, token: str) -> None:
    """Refuse who does not show the token.

    Raises:
        RefusalError: 401.
    """
    if not shows_token(request, token):
        hint = "Authorization: Bearer followed by the output of: flash engine token"
        raise RefusalError(401, f"The engine's token is missing or wrong. Send the header {hint}")


def admit(request: Request, server: Server) -> None:
    """Let a client of Runpod's in, and keep the engine awake.

    Raises:
        RefusalError: 401 or 403.
    """
    check_name(request)
    check_token(request, server.token)
    server.stay_awake()


def meant(request: Request, server: Server) -> str:
    """Return the id of the endpoint in a request's path.

    The path may say ``flash`` instead. Then headers name app, environment and endpoint: the newest official
    client knows no ids of what is deployed.

    Raises:
        RefusalError: 404, the headers name none.
    """
    endpoint_id: str = request.path_params["endpoint"]
    if endpoint_id != BY_NAME:
        return endpoint_id
    names = [request.headers.get(f"x-flash-{what}", "") for what in ("app", "environment", "endpoint")]
    try:
        return server.apps.endpoint_of(*names)
    except BackendError as error:
        raise RefusalError(404, str(error)) from None


def endpoint_of(request: Request, server: Server) -> dict[str, Any]:
    """Return the spec of the endpoint in a request's path, which has its id from now on.

    Raises:
        RefusalError: 404, there is none.
    """
    endpoint_id = request.path_params["endpoint"] = meant(request, server)
    spec = server.control.endpoints.get(endpoint_id)
    if spec is None:
        raise RefusalError(404, f"There is no endpoint {endpoint_id!r}; flash endpoints lists them.")
    return spec


async def disconnected(request: Request) -> None:
    """Wait until the other side is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def body_of(request: Request, limit: int) -> bytes:
    """Return the body of a request.

    Raises:
        RefusalError: 413, it has more than `limit` bytes.
    """
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise RefusalError(413, f"The body is over {limit // 1_000_000} MB.")
        pieces.append(piece)
    return b"".join(pieces)


def object_of(body: bytes) -> dict[str, Any]:
    """Return a body that is a JSON object.

    Raises:
        RefusalError: 400, it is something else.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, f"The body is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise RefusalError(400, "The body must be a JSON object.")
    return found


def same(given: str, expected: str) -> bool:
    """Compare secrets in a time that tells nothing."""
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())
