"""An exchange: one HTTP request on its way to a worker, and its answer on the way back."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flash_nb.worker import frames
from flash_nb.worker.frames import Buffer, Header

if TYPE_CHECKING:
    from flash_nb.engine.server import Server


@dataclass(frozen=True, slots=True)
class Answer:
    """A piece of an answer; the first one has status and headers.

    `broken` says why no more of it comes.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    more: bool
    broken: str = ""


class Exchange:
    """One request of the HTTP door, which begins here and now.

    Args:
        server: The engine.
        endpoint_id: Whose worker answers.
        header: Method, path, query, headers, root.
        body: The request's.
    """

    def __init__(self, server: Server, endpoint_id: str, header: Header, body: bytes) -> None:
        self._id = secrets.token_hex(8)
        self._server = server
        self._answers: asyncio.Queue[Answer] = asyncio.Queue()
        self._watching: asyncio.Task[None] | None = None
        header, buffers = frames.spill(header, [body], server.spill_folders)
        server.begin_request(self._id, endpoint_id, header, buffers, self._take)

    def abandon_when(self, gone: Coroutine[Any, Any, None]) -> None:
        """Abandon the request when `gone` ends before its answer: its client has left."""

        async def watch() -> None:
            await gone
            self._watching = None
            self._finish(Answer(0, (), b"", more=False, broken="the client has left"))

        self._watching = asyncio.create_task(watch())

    async def next(self) -> Answer:
        """Wait for the next piece of the answer."""
        return await self._answers.get()

    def abandon(self) -> None:
        """Say that nobody waits for the rest; harmless when there is none."""
        self._server.end_request(self._id)
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _take(self, header: Header, buffers: Sequence[Buffer]) -> None:
        answer = Answer(
            header.get("status", 0),
            header.get("headers", ()),
            frames.take(header, buffers),
            header["more"],
            header.get("broken", ""),
        )
        if answer.more:
            self._answers.put_nowait(answer)
        else:
            self._finish(answer)

    def _finish(self, answer: Answer) -> None:
        self._answers.put_nowait(answer)
        self.abandon()
