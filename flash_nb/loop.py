"""LoopThread: the kernel's one background event loop.

Code that must not depend on the notebook's own loop (which is busy while a cell runs) lives here.
Waiting for it is bounded, so that an interrupt is noticed.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import wait as futures_wait
from typing import Any, TypeVar

T = TypeVar("T")

HEARTBEAT_S = 0.2


class Mailbox:
    """Calls that other threads leave for an event loop; a burst of them wakes it once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[Callable[[], object]] = deque()
        self._woken = False

    def post(self, call: Callable[[], object]) -> None:
        """Have `call` run soon on the loop, after those that were posted before."""
        self._calls.append(call)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        # The flag goes down first: a call that comes while we run wakes the loop again.
        self._woken = False
        while self._calls:
            self._calls.popleft()()


class LoopThread:
    """An event loop in a daemon thread, started when first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        if self._loop is None:
            with self._lock:
                if self._loop is None:
                    self._loop = self._start()
        return self._loop

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop, in a copy of the caller's context."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and wait for it; an interrupt cancels it and is raised."""
        future = self.submit(coroutine)
        try:
            return wait(future)
        except KeyboardInterrupt:
            future.cancel()
            raise

    @staticmethod
    def _start() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name="flash_nb", daemon=True).start()
        return loop


def wait(future: Future[T]) -> T:
    """Wait for a future in a way that a signal can interrupt on every platform."""
    while not future.done():
        futures_wait([future], timeout=HEARTBEAT_S)
    return future.result()
