"""A load-balanced worker: HTTP requests as frames, run at the same time by one ASGI application.

The engine has taken HTTP apart already, so no worker opens a port. A response travels as frames
too: one if it is short, more while it is being made.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from . import frames
from .app import build
from .channel import Channel, hello
from .frames import Buffer, Header
from .interface import Application, Message, Receive, Send, say
from .lifespan import Lifespan
from .serving import describe

SHUTDOWN_S = 5.0


class RequestLoop:
    """Runs requests on the main thread's event loop until the engine says stop or is gone."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._application: Application = _broken({"detail": "the application is not built yet"})
        self._lifespan: Lifespan | None = None
        self._is_ready = asyncio.Event()
        self._channel = Channel(
            settings["url"],
            hello=self._hello,
            receive=self._receive,
            spill_folders=settings["spill_folders"],
        )

    def run(self) -> None:
        """Build the application, then serve it; requests that come meanwhile wait.

        The engine hears of us first: an application may load a model for longer than it waits for us.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        asyncio.set_event_loop(self._loop)
        threading.Thread(target=self._serve, name="channel", daemon=True).start()
        try:
            self._application = build(self._settings["app"])
            self._lifespan = Lifespan(self._application)
            self._loop.run_until_complete(self._lifespan.start())
        except Exception as error:  # noqa: BLE001 - told to every caller: their code cannot be executed
            traceback.print_exc()
            self._application = _broken(describe(error))
        self._is_ready.set()
        self._loop.run_forever()

    def _serve(self) -> None:
        try:
            self._channel.run()
        finally:
            os._exit(3)  # nobody is left to answer to

    def _hello(self) -> Header:
        self._loop.call_soon_threadsafe(self._abort_all)  # an engine that comes back has other callers
        return hello(self._settings)

    def _receive(self, header: Header, buffers: Sequence[Buffer]) -> None:
        match header["type"]:
            case "request":
                self._loop.call_soon_threadsafe(self._begin, header, buffers)
            case "abort":
                self._loop.call_soon_threadsafe(self._abort, header["request"])
            case "stop":
                asyncio.run_coroutine_threadsafe(self._end(), self._loop)

    async def _end(self) -> None:
        if self._lifespan is not None:
            await self._lifespan.stop(SHUTDOWN_S)
        self._loop.call_soon(sys.exit)

    def _begin(self, header: Header, buffers: Sequence[Buffer]) -> None:
        number = header["request"]
        task = self._loop.create_task(self._answer(header, buffers))
        self._running[number] = task
        task.add_done_callback(lambda _: self._running.pop(number, None))

    def _abort(self, number: str) -> None:
        task = self._running.get(number)
        if task is not None:
            task.cancel()

    def _abort_all(self) -> None:
        for number in [*self._running]:
            self._abort(number)

    async def _answer(self, header: Header, buffers: Sequence[Buffer]) -> None:
        response = _Response(self._channel, header["request"], self._settings["spill_folders"])
        try:
            await self._is_ready.wait()
            body = frames.take(header, buffers)
            state = dict(self._lifespan.state) if self._lifespan is not None else {}
            await self._application({**_scope(header), "state": state}, _receiver(body), response.send)
        except Exception as error:  # noqa: BLE001 - the server of any framework ends here
            traceback.print_exception(error)
            await response.fail(error)


class _Response:
    """Sends what the application answers; the start goes out with the first piece of the body."""

    def __init__(self, channel: Channel, number: str, spill_folders: Sequence[str]) -> None:
        self._channel = channel
        self._number = number
        self._spill_folders = spill_folders
        self._start: Header | None = None
        self._is_over = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            pairs = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in message.get("headers", ())]
            self._start = {"status": message["status"], "headers": pairs}
        elif message["type"] == "http.response.body":
            self._is_over = not message.get("more_body", False)
            header = {"type": "response", "request": self._number, "more": not self._is_over}
            header |= self._start or {}
            self._start = None
            header, buffers = frames.spill(header, [message.get("body", b"")], self._spill_folders)
            self._channel.send(header, buffers)

    async def fail(self, error: Exception) -> None:
        """End a response that the application left unfinished."""
        if not self._is_over:
            await say(self.send, 500, json.dumps(describe(error)).encode())


def _scope(header: Header) -> Message:
    path: str = header["path"]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": header["method"],
        "scheme": "http",
        "path": header["root"] + unquote(path),
        "raw_path": (header["root"] + path).encode(),
        "root_path": header["root"],
        "query_string": header["query"].encode("latin-1"),
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in header["headers"]],
        "client": ("127.0.0.1", 0),
        "server": None,
    }


def _receiver(body: bytes) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.get_running_loop().create_future()  # until the request is aborted
        raise AssertionError

    return receive


def _broken(description: Mapping[str, str]) -> Application:
    """Return an application that answers everything with the description of an error."""
    body = json.dumps(description).encode()

    async def application(_scope: Message, _receive: Receive, send: Send) -> None:
        await say(send, 500, body)

    return application
