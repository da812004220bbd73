"""The application of a live load-balanced worker whose routes nobody declared: ``/ping`` and ``/execute``.

Flash's own load-balanced image serves these two. ``POST /execute`` takes a *FunctionRequest*, bare or
under ``input``, and answers a *FunctionResponse*; see `flash_nb.worker.live`. Requests run one after the
other, in a thread: each gets the process's one ``__main__`` and its one stdout.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import json
from collections.abc import Mapping
from typing import Any

from .interface import Message, Receive, Send, say
from .live import Live
from .namespace import new_main


class Execute:
    """An ASGI application."""

    def __init__(self) -> None:
        self._live = Live(new_main, _finish)
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        path = scope["path"].removeprefix(scope["root_path"])
        if path == "/ping" and scope["method"] == "GET":
            await say(send, 200, b'{"status": "healthy"}')
        elif path == "/execute" and scope["method"] == "POST":
            await self._execute((await receive())["body"], send)
        else:
            await say(send, 404, b'{"detail": "This endpoint serves GET /ping and POST /execute only."}')

    async def _execute(self, body: bytes, send: Send) -> None:
        try:
            given = json.loads(body)
            request = given.get("input", given)
            instance = request.get("instance_id")
        except (ValueError, AttributeError):
            await say(send, 422, b'{"detail": "The body must be a function request, a JSON object."}')
            return
        async with self._lock:
            answer = await asyncio.to_thread(self._answer, request, instance)
        await say(send, 200, answer)

    def _answer(self, request: Mapping[str, Any], instance: str | None) -> bytes:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            answer = json.loads(self._live.answer(request, instance))
        return json.dumps({**answer, "stdout": printed.getvalue() or None}).encode()


def _finish(value: Any) -> Any:
    """Return what a result comes to; the thread has no event loop, so each coroutine gets one."""
    if inspect.iscoroutine(value):
        return asyncio.run(value)
    if inspect.isgenerator(value):
        return list(value)
    if inspect.isasyncgen(value):
        return asyncio.run(_listed(value))
    return value


async def _listed(items: Any) -> list[Any]:
    return [item async for item in items]
