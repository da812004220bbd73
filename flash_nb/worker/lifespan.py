"""The lifespan of an ASGI application: its start-up before the first request, its shutdown after the last."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from .interface import Application, Message


class LifespanError(Exception):
    """The application said that it cannot start."""


class Lifespan:
    """Tells an application that it starts and ends. One that knows no lifespan is left alone.

    Attributes:
        state: What the application keeps for its requests.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._told: asyncio.Queue[Message] = asyncio.Queue()
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}

    async def start(self) -> None:
        """Let the application start.

        Raises:
            LifespanError: It cannot.
        """
        self._task = asyncio.create_task(self._run())
        await self._tell("startup")

    async def stop(self, timeout_s: float) -> None:
        """Let the application end; for so many seconds at most."""
        with contextlib.suppress(asyncio.TimeoutError, LifespanError):
            await asyncio.wait_for(self._tell("shutdown"), timeout_s)

    async def _tell(self, what: str) -> None:
        assert self._task is not None
        if self._task.done():
            return
        self._told.put_nowait({"type": f"lifespan.{what}"})
        answer = asyncio.create_task(self._said.get())
        await asyncio.wait([answer, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():  # it returned or raised without a word: it knows no lifespan
            answer.cancel()
        elif answer.result()["type"].endswith(".failed"):
            raise LifespanError(answer.result().get("message") or f"the application's {what} failed")

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        # Raised by an application that knows requests only; one whose start fails says so first.
        with contextlib.suppress(Exception):
            await self._application(scope, self._told.get, self._said.put)
