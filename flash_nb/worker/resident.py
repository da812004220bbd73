"""The resident: what stays of the island in a foreign worker's process, from one job to the next.

The worker awaits `Resident.run` on its event loop. The job runs in a thread that lives as long as the
process: its loop stays free to hear of a cancel, remote objects and one event loop of ours survive
between jobs, and jobs never overlap. Cancelling the await interrupts the thread as soon as it executes
Python again.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import functools
import itertools
import json
import os
import queue
import sys
import threading
import zlib
from collections.abc import Sequence
from concurrent.futures import Future
from types import FrameType
from typing import Any

from . import frames, mpl_backend
from .codec import MAIN
from .execution import Executor
from .failure import sentence
from .frames import FrameReader
from .modules import MODULES
from .outlet import Outlet
from .progress import Progress, find_job, is_posting
from .streams import StreamCapture

INTERRUPT_GRACE_S = 2.0
KEPT_BYTES = 10_000_000


class _Job:
    """One job: its frame, how its events leave, and those that its result repeats."""

    def __init__(self, frame: bytes, progress: Progress) -> None:
        self.frame = frame
        self.progress = progress
        self.outcome: Future[bytes] = Future()
        self.is_cancelled = False
        self._numbers = itertools.count()
        self._events: list[tuple[int, int, dict[str, Any]]] = []
        self._size = 0

    def add(self, event: dict[str, Any]) -> None:
        """Number an event, post it, and keep it; the oldest are dropped beyond `KEPT_BYTES`."""
        number = next(self._numbers)
        self.progress.add(number, event)
        size = len(json.dumps(event))
        self._events.append((number, size, event))
        self._size += size
        while self._size > KEPT_BYTES and len(self._events) > 1:
            self._size -= self._events.pop(0)[1]

    def events(self) -> bytes:
        """Return the events that are kept."""
        return zlib.compress(json.dumps([(number, event) for number, _, event in self._events]).encode())


class Resident:
    """Runs jobs one after the other; there is one in a process, see `resident`."""

    def __init__(self) -> None:
        outside = sys.stdin, sys.stdout, sys.stderr
        os.environ.setdefault("MPLBACKEND", mpl_backend.BACKEND)
        self._capture = StreamCapture(log_fd=os.dup(1), is_foreign=is_posting)
        self._capture.install()
        self._streams = sys.stdin, sys.stdout, sys.stderr
        sys.stdin, sys.stdout, sys.stderr = outside
        self._owner = os.getpid()
        atexit.register(self._close)
        outlet = Outlet(self._emit, self._capture)
        self._executor = Executor(
            show_value=outlet.show_value, send_item=outlet.send_item, finish_cell=mpl_backend.flush_figures
        )
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._lock = threading.Lock()  # which job runs
        self._job: _Job | None = None
        self._thread = threading.Thread(target=self._work, name="flash-jobs", daemon=True)
        self._thread.start()

    async def run(self, frame: bytes, caller: FrameType | None) -> bytes:
        """Run a job.

        Args:
            frame: ``{"released": [object…]}``, the request in its first buffer, then its values.
            caller: From where to look for the job that the worker handles.

        Returns:
            A frame: the result, its events (zlib-compressed JSON), its values.
        """
        job = _Job(frame, Progress(find_job(caller)))
        outside = sys.stdin, sys.stdout, sys.stderr
        sys.stdin, sys.stdout, sys.stderr = self._streams
        try:
            self._jobs.put(job)
            return await asyncio.shield(asyncio.wrap_future(job.outcome))
        except asyncio.CancelledError:
            self._interrupt(job)
            await asyncio.wait([asyncio.wrap_future(job.outcome)], timeout=INTERRUPT_GRACE_S)
            raise
        finally:
            job.progress.close()
            sys.stdin, sys.stdout, sys.stderr = outside

    def _close(self) -> None:
        if os.getpid() == self._owner:
            self._capture.close()

    def _interrupt(self, job: _Job) -> None:
        with self._lock:
            job.is_cancelled = True
            if self._job is job:
                ident, kind = ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(KeyboardInterrupt)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, kind)
                self._executor.wake()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                self._run_job(job)
            except KeyboardInterrupt:  # nobody waits for the result any more
                pass
            except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it
                job.outcome.set_exception(error)
            if not job.outcome.done():
                job.outcome.set_result(b"")

    def _run_job(self, job: _Job) -> None:
        with self._lock:
            if job.is_cancelled:
                return
            self._job = job
        try:
            outcome = self._execute(job)
        finally:
            with self._lock:
                self._job = None
        job.outcome.set_result(outcome)

    def _execute(self, job: _Job) -> bytes:
        ((header, (request, *values)),) = FrameReader().feed(job.frame)
        for instance_id in header["released"]:
            self._executor.drop(instance_id)
        main = sys.modules[MAIN]
        self._capture.begin(self._emit)
        try:
            result, returned = self._executor.run(json.loads(bytes(request)), values)
        finally:
            self._capture.end()
            sys.modules[MAIN] = main
            MODULES.provide(())  # the worker's own modules may have the same names
        return frames.encode(
            {"error": sentence(result)}, [json.dumps(result).encode(), job.events(), *returned]
        )

    def _emit(self, event: dict[str, Any], _: Sequence[bytes] = ()) -> None:
        job = self._job
        if job is not None:
            job.add(event)


@functools.cache
def resident() -> Resident:
    """Return this process's resident, made when first needed."""
    return Resident()
