"""What ``flash run`` does: a project's application, served from here and reloaded on change.

Two processes. The first holds the socket, watches the files, and deletes at the end the endpoints that were
created; it never imports the project. The second imports and serves it; when a file changes it is replaced
by a new one, so that nothing of the old modules is left. It tells the first which endpoints it created by a
file. This is uvicorn's reloader, with three differences: it looks at the project's own modules alone, it
waits for no process longer than `GRACE_S`, and Ctrl-C reaches the second process through the first only.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import errno
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uvicorn import Config, Server
from uvicorn._subprocess import get_subprocess
from uvicorn.config import LOGGING_CONFIG
from uvicorn.supervisors.basereload import BaseReload

from flash_nb.backends.base import Backend, EndpointInfo
from flash_nb.backends.choice import make
from flash_nb.errors import FlashError, ProjectError
from flash_nb.loop import LoopThread
from flash_nb.project.application import extend, load, routes_of
from flash_nb.project.declared import Group, Project
from flash_nb.project.scan import scan
from flash_nb.sdk.remote import Remote
from flash_nb.sdk.session import Session, current_session, set_session
from flash_nb.settings import Settings
from flash_nb.settings import load as load_settings

POLL_S = 0.25
GRACE_S = 5.0
REQUESTS_GRACE_S = 2
DELETE_PATIENCE_S = 30.0
PROVISION_AT_ONCE = 3
PORTS = 100
"""How many ports are tried after the one that is wanted."""

RUNNERS = {"local": "the local engine of this machine", "runpod": "Runpod, where workers that are up are billed"}


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is any.

    Raises:
        PortBusyError: Somebody else listens there.
        ProjectError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(2048)
    except (OSError, UnicodeError) as error:
        opened.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise PortBusyError(host, port) from None
        raise ProjectError(f"{host}:{port} cannot be listened at: {error}.") from None
    return opened


class PortBusyError(ProjectError):
    """Somebody else listens at a port.

    Attributes:
        next_port: The next one that is free; 0 if there is none nearby.
    """

    def __init__(self, host: str, port: int) -> None:
        self.next_port = next(filter(lambda other: _is_free(host, other), range(port + 1, port + PORTS)), 0)
        free = f"The next free one: --port {self.next_port}" if self.next_port else "Choose another: --port"
        super().__init__(f"Port {port} of {host} is in use.", hint=free)


def _is_free(host: str, port: int) -> bool:
    try:
        listen(host, port).close()
    except (ProjectError, OverflowError):
        return False
    return True


def address(host: str, opened: socket.socket) -> str:
    """Return the URL of a socket, as it is typed into a browser on this machine."""
    name = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{opened.getsockname()[1]}"


def module_files(root: Path) -> tuple[str, ...]:
    """Return the project's Python files: relative, with ``/``, sorted.

    Hidden folders, virtual environments and caches are not looked into.
    """
    found: list[str] = []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if not _is_foreign(Path(folder, name))]
        found += [Path(folder, name).relative_to(root).as_posix() for name in files if name.endswith(".py")]
    return tuple(sorted(found))


def _is_foreign(folder: Path) -> bool:
    name = folder.name
    return (
        name.startswith(".")
        or name in {"__pycache__", "node_modules", "site-packages"}
        or (folder / "pyvenv.cfg").exists()
    )


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
        delete_created(serving.created_file, settings, backend)
    return supervisor.status


@contextlib.contextmanager
def created_file() -> Iterator[Path]:
    """Yield a new file, for the ids of endpoints; deleted with its folder at the end."""
    folder = Path(tempfile.mkdtemp(prefix="flash-run-"))
    try:
        yield folder / "created"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Serving:
    """What the second process does, once for each start.

    Attributes:
        root: The project's folder.
        url: Where it is served.
        created_file: Where the ids of endpoints go that it created, one in a line.
        provision: Make all endpoints before serving.
        again: It was served before, so there is not much to say.
    """

    root: Path
    url: str
    created_file: Path
    provision: bool
    again: bool = False

    def __call__(self, sockets: list[socket.socket]) -> None:
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
            self._tell_created()
            session.close()

    def _serve(self, session: Session, sockets: list[socket.socket]) -> None:
        project = scan(self.root, module_files(self.root))
        sys.path.insert(0, str(self.root))
        try:
            app, functions = load(project)
        except FlashError as error:
            if not project_frames(error, self.root):
                raise
            _fail_with_traceback(error, self.root)
        except Exception as error:  # noqa: BLE001 - it is the project's own
            _fail_with_traceback(error, self.root)
        extend(app, project, functions)
        app.add_middleware(_Telling, tell=self._tell_created)
        if self.provision:
            provision(project, functions)
            self._tell_created()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn raises it again at its end
        docs = f"{self.url}{app.docs_url}" if app.docs_url and app.openapi_url else ""
        banner = _again(self.url) if self.again else describe(project, self.url, docs, session.backend.name)
        config = Config(
            app, log_config=log_config(), timeout_graceful_shutdown=REQUESTS_GRACE_S, log_level=None
        )
        _Server(config, banner).run(sockets)

    def _tell_created(self) -> None:
        with contextlib.suppress(FlashError, OSError):
            ids = sorted(current_session().backend.created)
            self.created_file.with_suffix(f".{os.getpid()}").write_text("".join(f"{each}\n" for each in ids))


class _Telling:
    """Notes after each request which endpoints it has created; pure ASGI."""

    def __init__(self, app: Any, tell: Any) -> None:
        self._app, self._tell = app, tell
        self._known = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
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
        config = Config(app="", log_config=log_config(), log_level=None, reload_delay=POLL_S)
        super().__init__(config, serving, [opened])
        self.status = 0
        self.reloader_name = "flash run"
        self._serving = serving
        self._reload = reload
        self._files: Mapping[str, float] = {}
        self._is_down = False

    def startup(self) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self.signal_handler)
        self._start(self._serving)

    def restart(self) -> None:
        _end(self.process)
        self._start(replace(self._serving, again=self.status == 0))

    def shutdown(self) -> None:
        _end(self.process)
        for opened in self.sockets:
            opened.close()

    def should_restart(self) -> list[Path] | None:
        self.pause()
        if not self.process.is_alive() and not self._is_down:
            self._is_down = True
            self.status = self.process.exitcode or 0
            if not self._reload:
                self.should_exit.set()
                return None
            print("Nothing is served now; it starts again when a file of the project changes.")
        if not self._reload:
            return None
        files = self._stamps()
        changed = [Path(name) for name in sorted({*files, *self._files}) if files.get(name) != self._files.get(name)]
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

    def _stamps(self) -> Mapping[str, float]:
        stamps = {}
        for name in module_files(self._serving.root):
            with contextlib.suppress(FileNotFoundError):
                stamps[name] = (self._serving.root / name).stat().st_mtime_ns / 1e9
        return stamps


def _end(process: Any) -> None:
    """End a process: it may finish its requests, but not take forever."""
    process.terminate()
    process.join(GRACE_S)
    if process.is_alive():
        process.kill()
        process.join()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def log_config() -> dict[str, Any]:
    """Return what uvicorn logs: requests, and what goes wrong."""
    config = copy.deepcopy(LOGGING_CONFIG)
    config["loggers"]["uvicorn.error"]["level"] = "WARNING"
    return config


def provision(project: Project, functions: Mapping[str, Remote]) -> None:
    """Make the endpoint of each group, several at once; print how it goes. One that fails stops no other."""

    def ensure(group: Group) -> None:
        begun = time.monotonic()
        known = set(current_session().backend.created)
        print(f"  … {group.key}: {group.resource.describe()}")
        try:
            endpoint = functions[group.functions[0].name].ensure()
        except FlashError as error:
            print(f"  ✗ {group.key}: {error}")
            return
        is_new = endpoint.id in current_session().backend.created and endpoint.id not in known
        state = "created" if is_new else "was there already"
        print(f"  ✓ {group.key}: {state}, {endpoint.id}, {time.monotonic() - begun:.1f} s")

    print(f"Endpoints, at {RUNNERS[current_session().backend.name]}:")
    with ThreadPoolExecutor(PROVISION_AT_ONCE) as pool:
        list(pool.map(ensure, project.groups))


def describe(project: Project, url: str, docs: str, backend: str) -> str:
    """Return what is said when a project is served for the first time."""
    rows = [
        (route, group.key, group.resource.describe())
        for group in project.groups
        for function in group.functions
        for route in routes_of(function, group.resource.name)
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    table = [f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows]
    application = f"{project.mothership.file} and its functions" if project.mothership else "its functions"
    lines = [
        f"{project.name}: {application} at {url}",
        *([f"Documentation: {docs}"] if docs else []),
        f"Functions run on {RUNNERS[backend]}:" if rows else "There are no functions with @remote.",
        *table,
        "Ctrl-C ends it.",
    ]
    return "\n".join(lines)


def _again(url: str) -> str:
    return f"Served again at {url}"


def project_frames(error: BaseException, root: Path) -> list[traceback.FrameSummary]:
    """Return the frames of an error from the first to the last one of the project; empty if there are none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        index
        for index, frame in enumerate(frames)
        if Path(frame.filename).is_relative_to(root) and not any(
            _is_foreign(root / parent)
            for parent in Path(frame.filename).relative_to(root).parents
            if parent != Path()
        )
    ]
    last = (own[-1] + 1 if isinstance(error, FlashError) else len(frames)) if own else 0
    return frames[own[0] : last] if own else []


def _fail_with_traceback(error: BaseException, root: Path) -> None:
    """Show the project's part of a traceback, and end the process.

    Raises:
        SystemExit: Always.
    """
    said = traceback.TracebackException.from_exception(error)
    said.stack = traceback.StackSummary.from_list(project_frames(error, root))
    print("".join(said.format()), file=sys.stderr, end="")
    sys.exit(1)


def delete_created(file: Path, settings: Settings, backend: str) -> None:
    """Delete the endpoints whose ids stand in the files, with a line each; prints what cannot be deleted."""
    ids = {each for part in file.parent.glob(f"{file.stem}.*") for each in part.read_text().split()}
    if not ids:
        return

    async def delete() -> None:
        chosen = make(backend, replace(settings, down_on_exit=False))
        try:
            for each in await chosen.endpoints():
                if each.id in ids:
                    await _delete(chosen, each)
        finally:
            await chosen.aclose()

    async def bounded() -> None:
        await asyncio.wait_for(delete(), DELETE_PATIENCE_S)

    try:
        LoopThread().run(bounded())
    except (FlashError, TimeoutError, asyncio.TimeoutError) as error:
        reason = str(error) or f"no answer within {DELETE_PATIENCE_S:g} s"
        print(f"Not all endpoints could be deleted: {reason}\nSee: flash endpoints", file=sys.stderr)


async def _delete(backend: Backend, endpoint: EndpointInfo) -> None:
    try:
        await backend.delete(endpoint.id)
    except FlashError as error:
        print(f"The endpoint {endpoint.name} ({endpoint.id}) stays: {error}", file=sys.stderr)
    else:
        print(f"Deleted the endpoint {endpoint.name} ({endpoint.id}).")
