"""An exchange: one HTTP request on its way to a worker, and its answer on the way back."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flash_nb.worker import frames
from flash_nb.worker.frames import Buffer, Header

if TYPE_CHECKING:
    from flash_nb.engine.server import Server

OnResponse = Callable[[Header, Sequence[Buffer]], None]


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
    """One request of the HTTP door."""

    def __init__(self, server: Server, endpoint_id: str) -> None:
        self.id = secrets.token_hex(8)
        self._server = server
        self._endpoint_id = endpoint_id
        self._answers: asyncio.Queue[Answer] = asyncio.Queue()

    def begin(self, header: Header, body: bytes) -> None:
        """Send the request."""
        header, buffers = frames.spill(header, [body], self._server.spill_folders)
        self._server.begin_request(self.id, self._endpoint_id, header, buffers, self._take)

    async def next(self) -> Answer:
        """Wait for the next piece of the answer."""
        return await self._answers.get()

    def abandon(self) -> None:
        """Say that nobody waits for the rest; harmless when there is none."""
        self._server.end_request(self.id)

    def _take(self, header: Header, buffers: Sequence[Buffer]) -> None:
        body = b"".join(frames.unspill(header, buffers))
        if "spill" in header:
            Path(header["spill"]["path"]).unlink(missing_ok=True)
        self._answers.put_nowait(
            Answer(
                header.get("status", 0),
                header.get("headers", ()),
                body,
                header["more"],
                header.get("broken", ""),
            )
        )
