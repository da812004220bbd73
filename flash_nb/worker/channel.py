"""The worker's stream to the engine: blocking sends, one reader thread, reconnection.

A worker outlives its engine: while the stream is down the job goes on, its frames wait here, and
the worker tries for `RECONNECT_S` to reach the engine that follows. What the dying engine may have
lost are results that it had not written yet, so the last one and the ones of the last `KEEP_S` are
kept and sent again; and so are the items of a generator: text may be lost, items may not.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from . import frames
from .frames import Buffer, FrameReader, Header

RECONNECT_S = 30.0
RETRY_S = 0.1
BACKLOG_FRAMES = 10_000
KEEP_S = 2.0  # many times what the engine takes to write a result
KEEP_BYTES = 32_000_000

Receive = Callable[[Header, Sequence[Buffer]], None]


def connect(url: str, timeout: float = 10.0) -> socket.socket:
    """Open a stream to ``unix:PATH`` or ``tcp:HOST:PORT``."""
    scheme, _, place = url.partition(":")
    if scheme == "unix":
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.settimeout(timeout)
        stream.connect(place)
    else:
        host, _, port = place.rpartition(":")
        stream = socket.create_connection((host, int(port)), timeout=timeout)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.settimeout(None)
    return stream


def hello(
    settings: Mapping[str, Any],
    *,
    job: str | None = None,
    finished: Sequence[str] = (),
    instances: Sequence[str] = (),
) -> Header:
    """Return a worker's first frame.

    Args:
        settings: What the engine started the worker with.
        job: What runs now.
        finished: Jobs whose results are sent, perhaps again.
        instances: Remote objects that live here.
    """
    told = ("token", "worker", "endpoint", "python", "requirements", "system")
    return {
        "type": "worker",
        **{name: settings[name] for name in told},
        "pid": os.getpid(),
        "job": job,
        "finished": finished,
        "instances": instances,
    }


class Channel:
    """Sends frames to the engine, and hands those that arrive to `receive` in a thread.

    Args:
        url: Where the engine listens.
        hello: Makes the first frame of every connection, from the present state of the worker.
        receive: Called for each frame, in the reader thread.
        spill_folders: Where large buffers go, the best first.
    """

    def __init__(
        self, url: str, *, hello: Callable[[], Header], receive: Receive, spill_folders: Sequence[str]
    ) -> None:
        self._url = url
        self._hello = hello
        self._receive = receive
        self._spill_folders = spill_folders
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._backlog: list[tuple[Header, bytes]] = []
        self._results = _Kept(at_least=1)
        self._items = _Kept()

    def run(self) -> None:
        """Serve the stream until the engine is gone for good; call it in a thread of its own."""
        while self._open():
            self._read()

    def send(self, header: Header, buffers: Sequence[Buffer] = ()) -> None:
        """Send a frame now, or when the stream is back."""
        data = frames.encode(header, buffers)
        with self._lock:
            if self._write(data):
                self._note_sent(header, data)
            else:
                self._close()
                if len(self._backlog) < BACKLOG_FRAMES or _is_item(header):
                    self._backlog.append((header, data))

    def send_result(
        self, header: Header, buffers: Sequence[Buffer], *, spill_over: int = frames.SPILL_BYTES
    ) -> None:
        """Send the result of a job; it is sent again after a reconnection."""
        data = frames.encode(*frames.spill(header, buffers, self._spill_folders, spill_over))
        with self._lock:
            self._results.add(header["job"], data)
            if not self._write(data):
                self._close()

    @property
    def kept(self) -> list[str]:
        """Ids of the jobs whose results follow every hello."""
        return [job_id for job_id, _ in self._results]

    def _note_sent(self, header: Header, data: bytes) -> None:
        if _is_item(header):
            self._items.add(header["job"], data)

    def _write(self, data: bytes) -> bool:
        """Write to the stream, if there is one; False if that did not work."""
        if self._socket is None:
            return False
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def _open(self) -> bool:
        give_up_at = time.monotonic() + RECONNECT_S
        while time.monotonic() < give_up_at:
            with contextlib.suppress(OSError):
                stream = connect(self._url)
                self._greet(stream)
                return True
            time.sleep(RETRY_S)
        return False

    def _greet(self, stream: socket.socket) -> None:
        with self._lock:
            stream.sendall(frames.encode(self._hello()))
            for _, data in self._items:
                stream.sendall(data)
            for header, data in self._backlog:  # of the job whose result may follow
                stream.sendall(data)
                self._note_sent(header, data)
            self._backlog.clear()
            for _, data in self._results:
                stream.sendall(data)
            self._socket = stream

    def _read(self) -> None:
        stream = self._socket
        reader = FrameReader()
        while stream is not None:
            try:
                data = stream.recv(262_144)
            except OSError:
                data = b""
            if not data:
                with self._lock:
                    self._close()
                return
            for header, buffers in reader.feed(data):
                self._receive(header, buffers)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Kept:
    """Frames of the last `KEEP_S`, with the jobs that they are of; the newest `at_least` in any case."""

    def __init__(self, *, at_least: int = 0) -> None:
        self._at_least = at_least
        self._frames: deque[tuple[float, str, bytes]] = deque()
        self._bytes = 0

    def add(self, job_id: str, data: bytes) -> None:
        now = time.monotonic()
        self._frames.append((now, job_id, data))
        self._bytes += len(data)
        while len(self._frames) > self._at_least and (
            self._frames[0][0] < now - KEEP_S or self._bytes > KEEP_BYTES
        ):
            self._bytes -= len(self._frames.popleft()[2])

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return ((job_id, data) for _, job_id, data in [*self._frames])


def _is_item(header: Header) -> bool:
    """Say if a frame holds what a generator yielded."""
    return bool(header["type"] == "event" and header["event"]["type"] == "item")
