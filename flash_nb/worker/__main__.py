"""The worker process: ``python -m flash_worker``, with its configuration as JSON on stdin.

The main thread runs jobs. A reader thread owns the stream to the engine: it queues jobs, and turns
a cancel for the job that runs now into an interrupt of the main thread.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import json
import os
import queue
import signal
import sys
import threading
import types
from collections.abc import Sequence
from typing import Any

from . import frames, mpl_backend
from .asgi import RequestLoop
from .channel import Channel, hello
from .execution import Executor
from .failure import sentence
from .frames import Buffer, Frame, Header
from .handler import Handler
from .outlet import Outlet
from .streams import StreamCapture


class Worker:
    """One worker: a channel, an executor, and the job that runs now."""

    def __init__(self, settings: dict[str, Any], capture: StreamCapture) -> None:
        self._settings = settings
        self._capture = capture
        self._jobs: queue.SimpleQueue[tuple[Header, Sequence[Buffer]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # which job runs, and which are not to be begun
        self._unwanted: set[str] = set()
        self._job_id: str | None = None
        self._finished_id: str | None = None
        self._numbers = itertools.count()
        self._interruptible = False
        self._interrupted_in_send = False
        self._sending = False
        self._cancelled: str | None = None
        self._channel = Channel(
            settings["url"],
            hello=self._hello,
            receive=self._receive,
            spill_folders=settings["spill_folders"],
        )
        outlet = Outlet(self._emit, capture)
        self._handler = Handler(settings["app"]) if settings["app"] else None
        self._executor = Executor(
            show_value=outlet.show_value,
            send_item=outlet.send_item,
            finish_cell=mpl_backend.flush_figures,
            handler=self._handler,
        )
        sys.modules[__package__].progress_update = self._report  # type: ignore[attr-defined]  # for guests

    def run(self) -> None:
        """Run jobs until the engine says stop, or is gone for good."""
        signal.signal(signal.SIGINT, self._on_interrupt)
        threading.Thread(target=self._serve, name="channel", daemon=True).start()
        if self._handler is not None:
            self._handler.prepare()
        while (received := self._jobs.get()) is not None:
            header, buffers = received
            if self._begin(header["job"]):
                self._run_job(header, buffers)
            else:
                self._channel.send({"type": "released", "job": header["job"]})

    def _serve(self) -> None:
        try:
            self._channel.run()
        finally:
            self._leave()

    def _leave(self) -> None:
        """End the process; a job that is still running has nobody left to report to."""
        self._jobs.put(None)
        if self._job_id is not None:
            os._exit(3)

    def _hello(self) -> Header:
        self._take_back()  # an engine that comes back gives out again what was not begun
        return hello(
            self._settings,
            job=self._job_id,  # asked first: a job that ends just now is told of twice, not lost
            finished=[*self._channel.kept, *([self._finished_id] if self._finished_id else [])],
            instances=self._executor.instances,
        )

    def _receive(self, header: Header, buffers: Sequence[Buffer]) -> None:
        match header["type"]:
            case "job":
                self._jobs.put((header, buffers))
            case "recall":
                self._channel.send({"type": "returned", "jobs": self._take_back()})
            case "cancel":
                self._cancel(header["job"])
            case "drop":
                self._executor.drop(header["instance"])
            case "stop":
                self._leave()

    def _take_back(self) -> list[str]:
        """Empty the queue; return the jobs that were in it."""
        jobs = []
        with contextlib.suppress(queue.Empty):
            while (waiting := self._jobs.get_nowait()) is not None:
                jobs.append(waiting[0]["job"])
            self._jobs.put(None)
        return jobs

    def _begin(self, job_id: str) -> bool:
        """Take note of the job that runs now; False if it was cancelled while it waited."""
        with self._lock:
            if job_id in self._unwanted:
                self._unwanted.discard(job_id)
                return False
            self._job_id, self._finished_id = job_id, None
            return True

    def _run_job(self, header: Header, buffers: Sequence[Buffer]) -> None:
        job_id = header["job"]
        self._numbers = itertools.count()
        self._capture.begin(self._emit)
        result, values = self._execute(header, buffers)
        self._capture.end()
        with self._lock:
            self._finished_id, self._job_id = job_id, None
        done = {"type": "done", "job": job_id, "error": sentence(result)}
        is_for_others = "in_band" in result or "json" in result
        limit = frames.IN_BAND_SPILL_BYTES if is_for_others else frames.SPILL_BYTES
        self._channel.send_result(done, [json.dumps(result).encode(), *values], spill_over=limit)

    def _execute(self, header: Header, buffers: Sequence[Buffer]) -> Frame:
        interrupted: Header = {"ok": False, "error": None, "namespace": [], "counts": [0, 0]}
        self._interruptible = True
        try:
            if self._cancelled == header["job"]:  # before there was anything to interrupt
                return interrupted, []
            request, *values = frames.unspill(header, buffers)
            return self._executor.run({**json.loads(bytes(request)), "id": header["job"]}, values)
        except KeyboardInterrupt:  # it came between the user's code and the end of this block
            return interrupted, []
        finally:
            self._interruptible = False

    def _cancel(self, job_id: str) -> None:
        with self._lock:
            if job_id == self._job_id:
                self._cancelled = job_id
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return
            if job_id != self._finished_id:
                self._unwanted.add(job_id)
                return
        self._channel.send({"type": "released", "job": job_id})

    def _on_interrupt(self, _number: int, frame: types.FrameType | None) -> None:
        if not self._interruptible or self._cancelled != self._job_id:
            return
        if self._sending:
            self._interrupted_in_send = True
        elif not self._executor.interrupt_loop(frame):
            raise KeyboardInterrupt

    def _emit(self, event: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Send an event; an interrupt waits until the frame is out, or the stream would be broken."""
        header = {"type": "event", "job": self._job_id, "event": event, "number": next(self._numbers)}
        if threading.current_thread() is not threading.main_thread():
            self._channel.send(header, buffers)
            return
        self._sending = True
        self._channel.send(header, buffers)
        self._sending = False
        if self._interrupted_in_send:
            self._interrupted_in_send = False
            raise KeyboardInterrupt

    def _report(self, job: dict[str, Any], value: Any) -> None:
        """Say how a job of somebody else's harness stands; what runs there looks for this function."""
        if job["id"] == self._job_id:
            self._emit({"type": "progress", "value": value})


def main() -> None:
    """Run a worker with the configuration on stdin."""
    settings = json.loads(sys.stdin.readline())
    if settings["app"] and settings["app"]["kind"] != "handler":
        RequestLoop(settings).run()
        return
    with StreamCapture() as capture:
        faulthandler.enable(file=capture.log_fd)
        Worker(settings, capture).run()


if __name__ == "__main__":
    main()
