"""Other endpoints over HTTP: jobs for a queue, requests for routes.

The standard library's client in threads: nothing has to be installed, and the event loop stays free.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from .errors import ApiKeyError, BackendError, EndpointNotFoundError, OutcomeUnknownError

SUBMIT_S = 30.0
STATUS_S = 30.0
REQUEST_S = 330.0  # Runpod ends a request to a load-balanced endpoint after 5.5 minutes
FIRST_POLL_S = 0.02
LAST_POLL_S = 5.0
GROWTH = 1.5
RETRY_S = 0.5
PATIENCE = 20  # questions in a row without an answer, before a job is given up: a minute or so
BUSY = frozenset({429, 502, 503, 504})
FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Answer:
    """What a server answered; names of `headers` in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotSentError(Exception):
    """A request has not left: nobody can have carried it out."""


class Client:
    """Sends requests to one endpoint.

    Args:
        name: The resource, for messages.
        url: Its endpoint, without a slash at the end.
    """

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._url = url

    async def run(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Run a job to its end, however long it takes; return what ``/status`` says of it.

        The job is cancelled if this is.

        Args:
            body: Of ``/run``.

        Raises:
            BackendError: It cannot be started, or nothing is heard of it any more.
        """
        job_id = await self._submit(json.dumps(body).encode())
        try:
            return await self._end(job_id)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):  # whoever cancels does not wait for our troubles
                await asyncio.to_thread(self._send, "POST", f"/cancel/{job_id}", b"", {}, STATUS_S)
            raise

    async def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        """Send one request to a route, once; return its answer whatever its status.

        Args:
            method: The method.
            target: Path and query.
            headers: Besides the key.
            body: None: there is none.

        Raises:
            BackendError: There was no answer.
        """
        try:
            return await asyncio.to_thread(self._send, method, target, body, headers, REQUEST_S)
        except NotSentError as error:
            raise BackendError(f"The endpoint of {self._name} cannot be reached: {error}.") from error
        except (OSError, HTTPException) as error:
            raise OutcomeUnknownError(
                f"{method} {target} of {self._name} was not answered: {error}.",
                hint="It may have been carried out, so it was not sent again.",
            ) from error

    async def _submit(self, body: bytes) -> str:
        """Start a job; one that the server is too busy to take is offered again."""
        delay = RETRY_S
        for attempt in range(PATIENCE):
            try:
                answer = await asyncio.to_thread(self._send, "POST", "/run", body, _JSON, SUBMIT_S)
            except NotSentError as error:
                raise BackendError(f"The endpoint of {self._name} cannot be reached: {error}.") from error
            except (OSError, HTTPException) as error:
                raise OutcomeUnknownError(
                    f"Nobody knows if the job for {self._name} was started: {error}.",
                    hint="It was not sent again, for it might run twice.",
                ) from error
            if answer.status != 429 or attempt == PATIENCE - 1:  # noqa: PLR2004 - too many requests
                break
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311 - not a secret
            delay = min(2 * LAST_POLL_S, delay * 2)
        self._check(answer)
        return str(_object(answer).get("id", ""))

    async def _end(self, job_id: str) -> dict[str, Any]:
        delay, silent = FIRST_POLL_S, 0
        while True:
            await asyncio.sleep(delay)
            delay = min(LAST_POLL_S, delay * GROWTH)
            try:
                answer = await asyncio.to_thread(self._status, job_id)
            except (NotSentError, OSError, HTTPException) as error:
                silent += 1
                if silent == PATIENCE:
                    raise BackendError(
                        f"Nothing is heard of the job {job_id} of {self._name} any more: {error}.",
                        hint="It may still run.",
                    ) from error
                delay = max(delay, RETRY_S)
                continue
            silent = 0
            self._check(answer)
            status = _object(answer)
            if status.get("status") in FINAL:
                return status

    def _status(self, job_id: str) -> Answer:
        answer = self._send("GET", f"/status/{job_id}", None, {}, STATUS_S)
        if answer.status in BUSY:
            raise HTTPException(f"it answered {answer.status}")
        return answer

    def _check(self, answer: Answer) -> None:
        if answer.status < 400:  # noqa: PLR2004 - where HTTP's errors begin
            return
        said = answer.body[:500].decode(errors="replace")
        if answer.status in (401, 403):
            raise ApiKeyError(
                f"The endpoint of {self._name} refuses the key of this worker ({answer.status}).",
                hint="Workers that call other endpoints need RUNPOD_API_KEY in their environment.",
            )
        if answer.status == 404:  # noqa: PLR2004 - not found
            raise EndpointNotFoundError(
                f"There is no endpoint or job of {self._name} at {self._url} any more: {said}",
                hint="Deploy the project again.",
            )
        raise BackendError(f"The endpoint of {self._name} answered {answer.status}: {said}")

    def _send(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> Answer:
        sent = {"User-Agent": "flash-runtime", **headers}
        if key := os.environ.get("RUNPOD_API_KEY"):
            sent["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url + target, data=body, headers=sent, method=method)  # noqa: S310 - from the manifest
        try:
            with self._opener().open(request, timeout=timeout_s) as response:
                return Answer(response.status, _lower(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _lower(error.headers), error.read())
        except urllib.error.URLError as error:
            if isinstance(error.reason, (ConnectionRefusedError, socket.gaierror)):
                raise NotSentError(str(error.reason)) from error
            raise

    def _opener(self) -> urllib.request.OpenerDirector:
        """Return who opens URLs: this machine is reached without a proxy."""
        is_here = (urlsplit(self._url).hostname or "") in _LOOPBACK
        proxies = [urllib.request.ProxyHandler({})] if is_here else []
        return urllib.request.build_opener(*proxies, _NoRedirects())

    def __repr__(self) -> str:
        return f"Client({self._name!r}, {self._url!r})"


_JSON = {"Content-Type": "application/json"}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to the caller: another server must not get the key."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none."""


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _object(answer: Answer) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        said = answer.body[:200].decode(errors="replace")
        raise BackendError(f"An endpoint answered what is no JSON object: {said!r}")
    return found
