"""LoopThread: the kernel's one background event loop.

Code that must not depend on the notebook's own loop (which is busy while a cell runs) lives here.
Waiting for it is bounded, so that an interrupt is noticed: `wait` in a thread, `settled` in a coroutine
of any loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import wait as futures_wait
from typing import Any, ClassVar, TypeVar

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


async def settled(future: Future[Any]) -> None:
    """Wait, in any loop, until a future of another thread is done; an interrupt is noticed."""
    if not future.done():
        await _Waiters.of_running_loop().add(future)


class _Waiters:
    """Wakes coroutines of one loop when futures of other threads are done.

    A burst of results wakes the loop once. A heartbeat makes sure that the loop turns at all: an
    interrupt of a top-level ``await`` is only noticed when it does.
    """

    _of_loop: ClassVar[dict[asyncio.AbstractEventLoop, _Waiters]] = {}

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._mailbox = Mailbox(loop)
        self._waiting = 0

    @classmethod
    def of_running_loop(cls) -> _Waiters:
        loop = asyncio.get_running_loop()
        waiters = cls._of_loop.get(loop)
        if waiters is None:
            for closed in [known for known in cls._of_loop if known.is_closed()]:
                del cls._of_loop[closed]
            waiters = cls._of_loop[loop] = cls(loop)
        return waiters

    def add(self, finished: Future[Any]) -> asyncio.Future[None]:
        waiter = self._loop.create_future()
        finished.add_done_callback(lambda _: self._mailbox.post(lambda: self._wake(waiter)))
        waiter.add_done_callback(self._leave)
        self._waiting += 1
        if self._waiting == 1:
            self._loop.call_later(HEARTBEAT_S, self._beat)
        return waiter

    @staticmethod
    def _wake(waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)

    def _leave(self, _: object) -> None:
        self._waiting -= 1

    def _beat(self) -> None:
        if self._waiting:
            self._loop.call_later(HEARTBEAT_S, self._beat)
