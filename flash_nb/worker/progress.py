"""Live output from a foreign worker: events go out through its own progress channel, as far as it has one.

An official worker has ``runpod.serverless.progress_update(job, value)``: a thread of its own posts the value
for each call, so values may arrive in any order, and late. They are posted one after the other here;
each post repeats the last events before it, for a reader who looks now and then sees only the last
post. Nothing depends on a post: the result of the job holds all events again.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

Numbered = tuple[int, dict[str, Any]]
Job = dict[str, Any]

KEY = "flash_nb"  # a progress value of ours: {"flash_nb": {"events": [[number, event], …]}}
EVERY_S = 0.1
OVERLAP_BYTES = 8_000
MAX_POST_BYTES = 2_000_000
POST_TIMEOUT_S = 10.0
_NAME = "flash-progress"
_POSTING = "(_thread_target)"  # how the names of the threads end that the SDK starts


def find_job(frame: FrameType | None) -> Job | None:
    """Return the job that a worker handles, from the frames of the coroutines that await ours."""
    while frame is not None:
        for value in [*frame.f_locals.values()]:
            if type(value) is dict and type(value.get("id")) is str and _is_request(value.get("input")):
                found: Job = value
                return found
        frame = frame.f_back
    return None


def _is_request(value: object) -> bool:
    return isinstance(value, dict) and "function_name" in value


def is_posting(thread: threading.Thread) -> bool:
    """Say if a thread only posts: what it prints is the worker's log, not the job's output."""
    return thread.name == _NAME or thread.name.endswith(_POSTING)


class Progress:
    """Posts the events of one job.

    Args:
        job: As the worker got it; None if it was not found, and then nothing is posted.
    """

    def __init__(self, job: Job | None) -> None:
        self._job = job
        self._post = None if job is None else _progress_update()
        self._events: list[tuple[int, int, dict[str, Any]]] = []  # with its size: number, size, event
        self._unsent = 0
        self._news = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, number: int, event: dict[str, Any]) -> None:
        """Post an event soon."""
        if self._post is None:
            return
        self._events.append((number, len(json.dumps(event)), event))
        self._news.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=_NAME, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End; what was not posted is left to the result."""
        self._closed.set()
        self._news.set()

    def _run(self) -> None:
        while not self._closed.wait(EVERY_S):
            self._news.wait()
            self._news.clear()
            if not self._closed.is_set():
                self._send()

    def _send(self) -> None:
        assert self._post is not None
        count = len(self._events)
        first = _back(self._events, self._unsent, OVERLAP_BYTES)
        if sum(size for _, size, _ in self._events[self._unsent : count]) > MAX_POST_BYTES:
            self._closed.set()  # too much for this channel: the rest comes with the result
            return
        events = [(number, event) for number, _, event in self._events[first:count]]
        self._unsent = count - first
        del self._events[:first]
        self._post(self._job, {KEY: {"events": events}})
        for thread in threading.enumerate():
            if thread.name.endswith(_POSTING):
                thread.join(POST_TIMEOUT_S)


def _back(events: list[tuple[int, int, dict[str, Any]]], index: int, size: int) -> int:
    """Return how far back one may go from an index within so many bytes."""
    while index > 0 and size >= events[index - 1][1]:
        index -= 1
        size -= events[index][1]
    return index


def _progress_update() -> Callable[[Any, Any], None] | None:
    """Return the progress channel of the worker around us: an official one, or one of our engine's."""
    official = getattr(sys.modules.get("runpod"), "serverless", sys.modules.get("flash_worker"))
    return getattr(official, "progress_update", None)
