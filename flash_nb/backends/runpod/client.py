"""Requests to Runpod, and which of them may be sent again; see the package for the rules."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from typing import Any

import httpx

from flash_nb.backends.auth import ApiKey
from flash_nb.backends.runpod.backoff import Backoff, retry_after
from flash_nb.errors import ApiKeyError, BackendError, EndpointNotFoundError, OutcomeUnknownError
from flash_nb.protocol import graphql, urls
from flash_nb.version import __version__

CONNECT_TIMEOUT_S = 10.0
SHORT_TIMEOUT_S = 20.0
MUTATION_TIMEOUT_S = 120.0
LONG_TIMEOUT_S = 120.0  # Runpod may hold a `runsync` for 90 s
KEEP_ALIVE_S = 30.0
MAX_CONNECTIONS = 200  # Runpod allows 400 `runsync` at once
MAX_WORDS = 500

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, REQUEST_TIMEOUT, TOO_MANY = 401, 403, 404, 408, 429
FIRST_ERROR, FIRST_SERVER_ERROR = 400, 500

OnTrouble = Callable[[str], None]


class Client:
    """Sends requests with the key.

    Args:
        key: The API key.
        backoff: When to try again.
    """

    def __init__(self, key: ApiKey, backoff: Backoff | None = None) -> None:
        self.key = key
        self.backoff = backoff or Backoff()
        self._pools: dict[str, httpx.AsyncClient] = {}
        self._tls: ssl.SSLContext | None = None

    async def query(self, document: graphql.Document, **variables: Any) -> Any:
        """Ask the control API; asked again until it is answered.

        Raises:
            GraphQLQueryError: It refused, in its own words.
            ApiKeyError: The key is refused.
            BackendError: It cannot be reached.
        """
        body = document.body(**variables)
        response = await self._safe("POST", urls.graphql(), body, document.name)
        return self._root(document, response)

    async def mutate(self, document: graphql.Document, **variables: Any) -> Any:
        """Have the control API change something; never sent twice blindly.

        Raises:
            GraphQLMutationError: It refused, in its own words.
            ApiKeyError: The key is refused.
            OutcomeUnknownError: Nobody knows if it was done.
            BackendError: It cannot be reached; nothing was done.
        """
        body = document.body(**variables)
        response = await self._once("POST", urls.graphql(), body, document.name, MUTATION_TIMEOUT_S)
        return self._root(document, response)

    async def get(self, url: str, what: str, *, on_trouble: OnTrouble | None = None) -> Any:
        """Ask, and ask again until there is an answer.

        Args:
            url: Where.
            what: For people.
            on_trouble: Called with the reason whenever there is no answer yet; then there is no end to
                the patience.

        Raises:
            ApiKeyError: The key is refused.
            EndpointNotFoundError: There is no such thing.
            BackendError: It is refused, or cannot be had.
        """
        response = await self._safe("GET", url, None, what, on_trouble=on_trouble)
        self._check(response, what)
        return response.json()

    async def repeat(self, url: str, what: str) -> Any:
        """Post without a body what does no harm when it is done twice; raises as `get`."""
        response = await self._safe("POST", url, None, what)
        self._check(response, what)
        return response.json()

    async def post(self, url: str, body: Any, what: str, *, timeout_s: float = SHORT_TIMEOUT_S) -> Any:
        """Post what must not be done twice.

        Raises:
            OutcomeUnknownError: Nobody knows if it was done.
            ApiKeyError, EndpointNotFoundError, BackendError: It was not done.
        """
        response = await self._once("POST", url, body, what, timeout_s)
        self._check(response, what)
        return response.json()

    async def exchange(
        self, method: str, url: str, headers: list[tuple[str, str]], body: bytes, timeout_s: float
    ) -> httpx.Response:
        """Send a request once, and return its answer whatever its status.

        Raises:
            BackendError: No connection was made: nothing was sent.
            OutcomeUnknownError: There was no answer.
        """
        begun = time.monotonic()
        for attempt in range(1_000_000):
            try:
                return await self._pool("long").request(
                    method, url, headers=headers, content=body, timeout=_timeout(timeout_s)
                )
            except NOT_SENT as error:
                reason = self._words(error)
            except httpx.TransportError as error:
                raise OutcomeUnknownError(
                    f"There was no answer to {method} {url}: {self._words(error)}.",
                    hint="Nobody knows if a worker took the request; it was not sent again.",
                ) from None
            await self._pause(attempt, begun, reason, None, f"{method} {url}")
        raise AssertionError

    async def aclose(self) -> None:
        """Close all connections."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()

    # --- inside -------------------------------------------------------------------------------

    async def _safe(
        self, method: str, url: str, body: Any, what: str, *, on_trouble: OnTrouble | None = None
    ) -> httpx.Response:
        begun = time.monotonic()
        for attempt in range(1_000_000):
            wait: float | None = None
            try:
                response = await self._send("short", method, url, body, SHORT_TIMEOUT_S)
            except httpx.TransportError as error:
                reason = self._words(error)
            else:
                if _is_busy(response):
                    reason, wait = f"it answered {response.status_code}", retry_after(response.headers)
                elif response.status_code < FIRST_ERROR and not _is_json(response):
                    reason = "its answer was cut short"
                else:
                    return response
            if on_trouble is not None:
                on_trouble(reason)
                await asyncio.sleep(self.backoff.pause(attempt) if wait is None else wait)
            else:
                await self._pause(attempt, begun, reason, wait, what)
        raise AssertionError

    async def _once(self, method: str, url: str, body: Any, what: str, timeout_s: float) -> httpx.Response:
        begun = time.monotonic()
        for attempt in range(1_000_000):
            wait: float | None = None
            try:
                response = await self._send("long", method, url, body, timeout_s)
            except NOT_SENT as error:
                reason = self._words(error)
            except httpx.TransportError as error:
                raise OutcomeUnknownError(f"{what}: {self._words(error)}") from None
            else:
                if response.status_code == TOO_MANY:
                    reason, wait = "it answered 429: too many requests", retry_after(response.headers)
                elif response.status_code < FIRST_SERVER_ERROR and response.status_code != REQUEST_TIMEOUT:
                    if response.status_code < FIRST_ERROR and not _is_json(response):
                        raise OutcomeUnknownError(f"{what}: its answer was cut short")
                    return response
                elif _has_errors(response):
                    return response
                else:
                    raise OutcomeUnknownError(f"{what}: it answered {response.status_code}")
            await self._pause(attempt, begun, reason, wait, what)
        raise AssertionError

    async def _pause(self, attempt: int, begun: float, reason: str, wait: float | None, what: str) -> None:
        """Wait before the next attempt.

        Raises:
            BackendError: The patience is at its end.
        """
        pause = self.backoff.pause(attempt) if wait is None else wait
        if time.monotonic() - begun + pause > self.backoff.patience_s:
            raise BackendError(
                f"Runpod cannot be reached for {what}: {reason}.",
                hint=f"Tried {attempt + 1} times in {time.monotonic() - begun:.0f} s; "
                "look at the network, and at https://uptime.runpod.io",
            )
        await asyncio.sleep(pause)

    async def _send(self, pool: str, method: str, url: str, body: Any, timeout_s: float) -> httpx.Response:
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self._pool(pool).request(
            method,
            url,
            content=content,
            headers={"Content-Type": "application/json"},
            timeout=_timeout(timeout_s),
        )

    def _pool(self, name: str) -> httpx.AsyncClient:
        """Return connections: those that are held for long are not in the way of quick ones."""
        pool = self._pools.get(name)
        if pool is None:
            self._tls = self._tls or ssl_context()
            pool = self._pools[name] = httpx.AsyncClient(
                auth=self.key.authorize,
                verify=self._tls,
                headers={"User-Agent": f"flash_nb/{__version__}"},
                limits=httpx.Limits(
                    max_connections=MAX_CONNECTIONS,
                    max_keepalive_connections=MAX_CONNECTIONS,
                    keepalive_expiry=KEEP_ALIVE_S,
                ),
                mounts={"all://127.0.0.1": None, "all://localhost": None},  # no proxy leads to this machine
            )
        return pool

    def _root(self, document: graphql.Document, response: httpx.Response) -> Any:
        if response.status_code in (UNAUTHORIZED, FORBIDDEN):
            raise self._refused_key()
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if isinstance(answer, dict) and answer.get("errors"):
            answer = {"errors": [{"message": self.key.hide(graphql.words(answer["errors"]))}]}
        return graphql.root(document, answer, status=response.status_code)

    def _check(self, response: httpx.Response, what: str) -> None:
        status = response.status_code
        if status < FIRST_ERROR:
            return
        if status in (UNAUTHORIZED, FORBIDDEN):
            raise self._refused_key()
        if status == NOT_FOUND:
            raise EndpointNotFoundError(f"Runpod answered 404 to {what}: {self._told(response)}")
        raise BackendError(f"Runpod refused {what} with status {status}: {self._told(response)}")

    def _refused_key(self) -> ApiKeyError:
        return ApiKeyError(
            f"Runpod refuses the API key from {self.key.source}.",
            hint="Make a new one at https://console.runpod.io/user/settings, and replace it there; "
            "or store one that is found if no other is: flash login",
        )

    def _told(self, response: httpx.Response) -> str:
        try:
            told = response.json()
        except ValueError:
            told = response.text
        if isinstance(told, dict):
            more = told.get("errors")
            told = next((told[key] for key in ("error", "detail", "message", "title") if told.get(key)), told)
            told = "; ".join([str(told), *map(str, more)]) if isinstance(more, list) else told
        return self.key.hide(str(told))[:MAX_WORDS] or "no reason given"

    def _words(self, error: httpx.TransportError) -> str:
        if isinstance(error, httpx.TimeoutException):
            return "it took too long"
        return self.key.hide(str(error)).rstrip(".") or type(error).__name__


def ssl_context() -> ssl.SSLContext:
    """Return what checks certificates: made once, it takes longer than a request."""
    return httpx.create_ssl_context()


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=CONNECT_TIMEOUT_S, pool=None)


def _is_busy(response: httpx.Response) -> bool:
    if response.status_code in (REQUEST_TIMEOUT, TOO_MANY):
        return True
    return response.status_code >= FIRST_SERVER_ERROR and not _has_errors(response)


def _is_json(response: httpx.Response) -> bool:
    try:
        response.json()
    except ValueError:
        return False
    return True


def _has_errors(response: httpx.Response) -> bool:
    """Say if a server error is GraphQL's own, with its reasons: trying again would not help."""
    if not response.request.url.path.endswith("/graphql"):
        return False
    try:
        answer = response.json()
    except ValueError:
        return False
    return isinstance(answer, dict) and isinstance(answer.get("errors"), list) and bool(answer["errors"])
