"""The worker's stream to the engine: blocking sends, one reader thread, reconnection.

A worker outlives its engine: while the stream is down the job goes on, its frames wait here, and
the worker tries for `RECONNECT_S` to reach the engine that follows. What the dying engine may have
lost is the last result, so that one is kept and sent again.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence

from . import frames
from .frames import Buffer, FrameReader, Header

RECONNECT_S = 30.0
RETRY_S = 0.1
BACKLOG_FRAMES = 10_000

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
        self._backlog: list[bytes] = []
        self._result: bytes | None = None

    def run(self) -> None:
        """Serve the stream until the engine is gone for good; call it in a thread of its own."""
        while self._open():
            self._read()

    def send(self, header: Header, buffers: Sequence[Buffer] = ()) -> None:
        """Send a frame now, or when the stream is back."""
        data = frames.encode(header, buffers)
        with self._lock:
            self._write(data)

    def send_result(self, header: Header, buffers: Sequence[Buffer]) -> None:
        """Send the result of a job; it is sent again after a reconnection."""
        data = frames.encode(*frames.spill(header, buffers, self._spill_folders))
        with self._lock:
            self._result = data
            self._write(data)

    def forget_result(self) -> None:
        """Drop the kept result: another job has come, so the engine has it."""
        with self._lock:
            self._result = None

    def _write(self, data: bytes) -> None:
        if self._socket is not None:
            try:
                self._socket.sendall(data)
                return
            except OSError:
                self._close()
        if data is not self._result and len(self._backlog) < BACKLOG_FRAMES:
            self._backlog.append(data)

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
            if self._result is not None:
                stream.sendall(self._result)
            for data in self._backlog:
                stream.sendall(data)
            self._backlog.clear()
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
