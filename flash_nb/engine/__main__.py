"""``python -m flash_nb.engine``: run the engine of a home until it is not needed any more.

The running engine holds a lock on its home, and says in ``engine.json`` (readable by its user only)
how to reach it. After a crash the file stays, and the next engine takes over its token: workers
that outlived the crash know it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import time
from pathlib import Path
from typing import Any

import filelock

from flash_nb import settings as settings_
from flash_nb.engine.channel import private_folder
from flash_nb.engine.server import Server
from flash_nb.version import __version__

LOCK_TIMEOUT_S = 20.0
POLL_S = 0.02


def main() -> None:
    """Run the engine; end at once if one is running already."""
    settings = settings_.load()
    private_folder(settings.home)
    (settings.home / "workers").mkdir(exist_ok=True)
    lock = filelock.FileLock(settings.home / "engine.lock")
    if _acquire(lock, settings.state_file):  # the end of the process releases it
        asyncio.run(_serve(settings))


def _acquire(lock: filelock.BaseFileLock, state_file: Path) -> bool:
    """Take the lock; False if an engine that can be reached has it. One that ends is waited for."""
    give_up_at = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(blocking=False)
            return True
        if _answers(_read(state_file).get("url")):
            return False
        if time.monotonic() > give_up_at:
            raise SystemExit(f"an engine holds {lock.lock_file}, but it cannot be reached: end it")
        time.sleep(POLL_S)


async def _serve(settings: settings_.Settings) -> None:
    former = _read(settings.state_file)
    token = str(former.get("api_key") or secrets.token_urlsafe(32))
    server = Server(settings, token, _same_place(settings.engine_url, former.get("url")))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.run(StateFile(settings.state_file, token))


def _same_place(url: str, former: object) -> str:
    """Return the URL of the engine that went before, if it is of the same kind and free: workers know it."""
    if url.startswith("tcp:") and isinstance(former, str) and former.startswith("tcp:127.0.0.1:"):
        port = int(former.rpartition(":")[2])
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return former
    return url


def _answers(url: object) -> bool:
    """Say if somebody listens at a URL."""
    if not isinstance(url, str):
        return False
    scheme, _, place = url.partition(":")
    host, _, port = place.rpartition(":")
    try:
        with socket.socket(socket.AF_UNIX if scheme == "unix" else socket.AF_INET) as probe:
            probe.connect(place if scheme == "unix" else (host, int(port)))
    except (OSError, ValueError):
        return False
    return True


class StateFile:
    """``engine.json``: where the running engine is, and its token; an `Announcement`."""

    def __init__(self, path: Path, token: str) -> None:
        self._path = path
        self._token = token
        self._text = ""
        self._folder = path.parent.stat().st_ino

    def publish(self, url: str) -> None:
        """Write the file in one step, so that nobody reads half of it."""
        state = {
            "url": url,
            "api_key": self._token,
            "pid": os.getpid(),
            "version": __version__,
            "started_at": time.time(),
        }
        self._text = json.dumps(state)
        self._write()

    def keep(self) -> bool:
        """Write the file again if something happened to it; False if the whole folder was replaced."""
        if not self._is_ours():
            return False
        if self._found() != self._text:
            self._write()
        return True

    def withdraw(self) -> None:
        """Remove the file, if it is still ours."""
        if self._is_ours() and self._found() == self._text:
            self._path.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        try:
            return self._path.parent.stat().st_ino == self._folder
        except OSError:
            return False

    def _found(self) -> str:
        try:
            return self._path.read_text(errors="replace")
        except OSError:
            return ""

    def _write(self) -> None:
        unfinished = self._path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(self._text)
        unfinished.replace(self._path)


def _read(file: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        state = json.loads(file.read_text())
        if isinstance(state, dict):
            return state
    return {}


if __name__ == "__main__":
    main()
