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
import time
from pathlib import Path

import filelock

from flash_nb import settings as settings_
from flash_nb.engine.channel import private_folder
from flash_nb.engine.server import Server
from flash_nb.version import __version__


def main() -> None:
    """Run the engine; end at once if one is running already."""
    settings = settings_.load()
    private_folder(settings.home)
    (settings.home / "workers").mkdir(exist_ok=True)
    lock = filelock.FileLock(settings.home / "engine.lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return
    with lock:
        token = _former_token(settings.state_file) or secrets.token_urlsafe(32)
        asyncio.run(_serve(settings, token))
        settings.state_file.unlink(missing_ok=True)


async def _serve(settings: settings_.Settings, token: str) -> None:
    server = Server(settings, token)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.run(lambda url: _announce(settings.state_file, url, token))


def _announce(file: Path, url: str, token: str) -> None:
    """Write the state file in one step, so that nobody reads half of it."""
    state = {
        "url": url,
        "api_key": token,
        "pid": os.getpid(),
        "version": __version__,
        "started_at": time.time(),
    }
    unfinished = file.with_suffix(f".{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(state, stream)
    unfinished.replace(file)


def _former_token(file: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(file.read_text())["api_key"])
    return None


if __name__ == "__main__":
    main()
