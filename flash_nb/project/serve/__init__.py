"""What ``flash run`` does: a project's application, served from here and reloaded on change.

Two processes. The first holds the socket, watches the files, and deletes at the end the endpoints that were
created; it never imports the project. The second imports and serves it; when a file changes it is replaced
by a new one, so that nothing of the old modules is left. It tells the first which endpoints it created by a
file. This is uvicorn's reloader, with three differences: it looks at the project's own modules alone, it
waits for no process longer than `GRACE_S`, and Ctrl-C reaches the second process through the first only.

::

    application   the project's FastAPI application with a route for each function
    endpoints     made before, and deleted after it if they were made for it
    files         which modules are looked at for changes
    trace         a traceback from the project's first line on
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn._subprocess import get_subprocess
from uvicorn.config import LOGGING_CONFIG
from uvicorn.supervisors.basereload import BaseReload

from flash_nb.errors import FlashError
from flash_nb.project.declared import Project
from flash_nb.project.scan import scan
from flash_nb.project.serve.application import extend, load, routes_of
from flash_nb.project.serve.endpoints import RUNNERS, Created, delete, provision
from flash_nb.project.serve.files import module_files
from flash_nb.project.serve.trace import Shortening, shown
from flash_nb.project.sources import files_in
from flash_nb.sdk.session import Session, current_session, set_session
from flash_nb.settings import Settings
from flash_nb.settings import load as load_settings

POLL_S = 0.25
GRACE_S = 5.0
"""How long the second process may take to end."""

REQUESTS_GRACE_S = 1
"""How long requests may take then."""


def serve(serving: Serving, opened: socket.socket, settings: Settings, backend: str, *, reload: bool) -> int:
    """Serve until a signal says stop, then delete the endpoints that were created; return an exit status.

    Args:
        serving: What is served.
        opened: Where.
        settings: Those of this process.
        backend: Who runs endpoints.
        reload: Start again when a file of the project changes. Otherwise the end of the server is the end.
    """
    supervisor = _Supervisor(serving, opened, reload=reload)
    try:
        supervisor.run()
    finally:
        delete(serving.created.ids(), settings, backend)
    return supervisor.status


@dataclass(frozen=True)
class Serving:
    """What the second process does, once for each start.

    Attributes:
        root: The project's folder.
        url: Where it is served.
        created: Where it tells which endpoints it has created.
        provision: Make all endpoints before serving.
        again: It was served before, so there is not much to say.
    """

    root: Path
    url: str
    created: Created
    provision: bool
    again: bool = False

    def __call__(self, sockets: list[socket.socket] | None) -> None:
        """Import and serve; return at a signal. Ends the process with status 1 if it cannot be imported."""
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the first process started us without
        threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        settings = replace(load_settings(), down_on_exit=False)  # endpoints survive a reload
        session = Session(settings)
        set_session(session)
        try:
            self._serve(session, sockets)
        except FlashError as error:
            print(f"Error: {error}", file=sys.stderr)
            sys.exit(1)
        finally:
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, signal.SIG_IGN)
            self.created.tell()
            session.close()

    def _serve(self, session: Session, sockets: list[socket.socket] | None) -> None:
        project = scan(self.root, files_in(self.root))
        sys.path.insert(0, str(self.root))
        try:
            app, functions = load(project)
        except Exception as error:
            told = shown(error, self.root)
            if not told:
                raise
            print(told, file=sys.stderr, end="")
            sys.exit(1)
        extend(app, project, functions)
        app.add_middleware(_Telling, tell=self.created.tell)
        if self.provision:
            provision(project, functions)
            self.created.tell()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn raises it again at its end
        docs = f"{self.url}{app.docs_url}" if app.docs_url and app.openapi_url else ""
        banner = _again(self.url) if self.again else describe(project, self.url, docs, session.backend.name)
        config = Config(
            app, log_config=_log_config(self.root), timeout_graceful_shutdown=REQUESTS_GRACE_S, log_level=None
        )
        _Server(config, banner).run(sockets)


class _Telling:
    """Tells after each request which endpoints were created; a request that a stop cuts off gets 503.

    Pure ASGI.
    """

    def __init__(self, app: ASGIApp, tell: Callable[[], None]) -> None:
        self._app, self._tell = app, tell
        self._known = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except asyncio.CancelledError:  # nobody else cancels a request
            if scope["type"] == "http" and not begun:
                await PlainTextResponse("flash run was ended.\n", 503)(scope, receive, send)
        finally:
            count = len(current_session().backend.created)
            if count != self._known:
                self._known = count
                self._tell()


class _Server(Server):
    """Says where it serves, once it does."""

    def __init__(self, config: Config, banner: str) -> None:
        super().__init__(config)
        self._banner = banner

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._banner)


class _Supervisor(BaseReload):
    """The first process, once everything is decided."""

    def __init__(self, serving: Serving, opened: socket.socket, *, reload: bool) -> None:
        config = Config(app="", log_config=_log_config(serving.root), log_level=None, reload_delay=POLL_S)
        super().__init__(config, serving, [opened])
        self.status = 0
        self.reloader_name = "flash run"
        self._serving = serving
        self._reload = reload
        self._files: Mapping[str, int] = {}
        self._is_down = False

    def startup(self) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self.signal_handler)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # not started by nohup
            signal.signal(signal.SIGHUP, self.signal_handler)
        self._start(self._serving)

    def restart(self) -> None:
        _end(self.process)
        self._start(replace(self._serving, again=not self._is_down))

    def shutdown(self) -> None:
        if _nobody_reads():
            _be_silent()
        _end(self.process)
        for opened in self.sockets:
            opened.close()

    def should_restart(self) -> list[Path] | None:
        self.pause()
        if _nobody_reads():
            self.should_exit.set()
            return None
        if not self.process.is_alive() and not self._is_down:
            self._is_down = True
            if not self._reload:
                self.status = self.process.exitcode or 0
                self.should_exit.set()
                return None
            print("Nothing is served now; it starts again when a file of the project changes.")
        if not self._reload:
            return None
        files = self._stamps()
        changed = [
            Path(name) for name in sorted({*files, *self._files}) if files.get(name) != self._files.get(name)
        ]
        self._files = files
        return changed or None

    def _start(self, serving: Serving) -> None:
        self._is_down = False
        self._files = self._stamps()
        self.process = get_subprocess(self.config, serving, self.sockets)
        # Ctrl-C goes to all processes of a terminal; without this, the new one may get it before it can
        # do anything sensible with it.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, before)

    def _stamps(self) -> Mapping[str, int]:
        stamps = {}
        for name in module_files(self._serving.root):
            with contextlib.suppress(FileNotFoundError):
                stamps[name] = (self._serving.root / name).stat().st_mtime_ns
        return stamps


def _end(process: Any) -> None:
    """End a process: it may finish its requests, but not take forever."""
    process.terminate()
    process.join(GRACE_S)
    if process.is_alive():
        process.kill()
        process.join()


def _nobody_reads() -> bool:
    """Say if the terminal, or the notebook, that shows what is printed is gone."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)  # of errors and hang-ups it tells unasked
    return bool(watched.poll(0))


def _be_silent() -> None:
    """Let what is printed go nowhere, instead of ending the process in the middle of its last work."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _log_config(root: Path) -> dict[str, Any]:
    """Return what uvicorn logs: requests, and what goes wrong."""
    config = copy.deepcopy(LOGGING_CONFIG)
    config["filters"] = {"shortening": {"()": Shortening, "root": root}}
    config["loggers"]["uvicorn.error"] |= {"level": "WARNING", "filters": ["shortening"]}
    return config


def describe(project: Project, url: str, docs: str, backend: str) -> str:
    """Return what is said when a project is served for the first time."""
    application = f"{project.mothership.file} and its functions" if project.mothership else "its functions"
    lines = [f"{project.name}: {application} at {url}"]
    if docs:
        lines.append(f"Documentation: {docs}")
    lines.append(f"Functions run on {RUNNERS[backend]}:" if project.groups else "No functions.")
    for group in project.groups:
        lines.append(f"  {group.key}: {group.resource.describe()}")
        lines += [
            f"    {route}" for each in group.functions for route in routes_of(each, group.resource.name)
        ]
    return "\n".join([*lines, "Ctrl-C ends it."])


def _again(url: str) -> str:
    return f"Served again at {url}"
