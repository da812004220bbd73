"""The live table of jobs below one cell: drawn when jobs change, at most four times a second.

Events only take note that something has changed; the background loop draws. While jobs run it draws once
a second, because ages grow. When all are over it draws a last time, and sleeps until a job begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable, Collection
from typing import Protocol

from flash_nb.notebook.jobs_table import JobsTable, render_html, render_text
from flash_nb.sdk.board import Board, Row
from flash_nb.sdk.outputs import Place

REPAINT_S = 0.3
"""The least time between two drawings: four fit into a second, with room for a late one."""
TICK_S = 1.0

PostCall = Callable[[Callable[[], object]], None]
"""Makes a call soon on the background loop."""


class Follower(Protocol):
    """What changes with the table: its buttons."""

    def refresh(self, rows: list[Row]) -> None:
        """Take note of how jobs stand; called where the table is drawn."""

    def close(self) -> None:
        """End, for good."""


class JobsView:
    """One live table.

    Args:
        board: The jobs.
        post: The background loop's.
        former: The ids of jobs of former kernels that can be taken up.
    """

    def __init__(self, board: Board, post: PostCall, former: Collection[str] = ()) -> None:
        self._board = board
        self._post = post
        self._former = former
        self._place = Place("jobs")
        self._context = contextvars.copy_context()  # so that the background loop updates this cell
        self._news = asyncio.Event()
        self._is_told = False  # of news that the loop has not seen yet
        self._task: asyncio.Task[None] | None = None
        self._stop_listening: Callable[[], None] | None = None
        self._drawn_at = 0.0
        self.follower: Follower | None = None

    def open(self) -> None:
        """Show the table below the running cell, and follow the jobs from now on."""
        self._draw()
        self._stop_listening = self._board.listen(self.tell)
        self.tell()  # what changed meanwhile

    def close(self) -> None:
        """Leave the table as it is."""
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
        if self.follower is not None:
            self.follower.close()

    def tell(self) -> None:
        """Take note that something has changed; in any thread."""
        if not self._is_told:
            self._is_told = True
            self._post(self._hear)

    def _hear(self) -> None:
        self._is_told = False
        self._news.set()
        if self._task is None and self._stop_listening is not None:
            loop = asyncio.get_running_loop()
            self._task = self._context.run(loop.create_task, self._follow())

    async def _follow(self) -> None:
        try:
            while self._stop_listening is not None:
                await asyncio.sleep(self._drawn_at + REPAINT_S - time.monotonic())
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._news.wait(), TICK_S - REPAINT_S)
                if self._stop_listening is None:
                    return
                self._news.clear()
                if not self._draw():
                    return
        finally:
            self._task = None

    def _draw(self) -> bool:
        """Show how the jobs stand; return whether one is live."""
        rows = self._board.rows()
        table = JobsTable(rows, time.time(), uncollected=len({*self._former} - {row.info.id for row in rows}))
        self._place.show(render_html(table), render_text(table))
        self._drawn_at = time.monotonic()
        if self.follower is not None:
            self.follower.refresh(rows)
        return table.is_live
