"""``flash run`` as a user has it: a process with a project, an engine of its own, and a terminal or none."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

PATIENCE_S = 60.0
ADDRESS = re.compile(r"http://\S+:\d+")


def until(what: str, holds: Callable[[], object], told: Callable[[], str] = lambda: "") -> None:
    """Wait until something holds."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up_at, f"it never came: {what}\n{told()}"
        time.sleep(0.02)


def environment_of(home: Path) -> dict[str, str]:
    """Return the environment of a process whose engine and caches lie below `home`."""
    return {**os.environ, "FLASH_HOME": str(home / "f"), "FLASH_CACHE": str(home / "c"), "HOME": str(home)}


def flash(environment: Mapping[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "flash_nb", *arguments],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


class Run:
    """A ``flash run`` in a folder; what it prints goes to a file beside it."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *arguments: str) -> None:
        self.folder = folder
        self._log = folder.parent / f"{folder.name}.log"
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flash_nb", "run", *arguments],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """What it printed until now."""
        return self._log.read_text()

    def until_said(self, text: str, times: int = 1) -> Run:
        """Wait until it has printed a text that many times."""
        until(text, lambda: self.said.count(text) >= times, lambda: self.said)
        return self

    def until_served(self) -> Run:
        """Wait until it serves."""
        return self.until_said("Ctrl-C ends it.")

    @property
    def url(self) -> str:
        """Where it serves."""
        found = ADDRESS.search(self.said)
        assert found, self.said
        return found[0]

    def post(self, path: str, body: object = None) -> httpx.Response:
        """Send JSON."""
        return httpx.post(self.url + path, json=body, timeout=PATIENCE_S)

    def get(self, path: str) -> httpx.Response:
        """Ask for something."""
        return httpx.get(self.url + path, timeout=PATIENCE_S)

    def children(self) -> list[int]:
        """Return the ids of its own processes: the engine is none of them."""
        listed = subprocess.run(
            ["ps", "-e", "-o", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split() for line in listed.splitlines()]
        return [
            int(pid)
            for pid, _, group, state in rows
            if int(group) == self.process.pid and int(pid) != self.process.pid and not state.startswith("Z")
        ]

    def until_alone(self) -> None:
        """Wait until none of its processes is left: Python's tracker of resources ends a moment later."""
        until("the end of all its processes", lambda: not self.children(), lambda: self.said)

    def interrupt(self) -> None:
        """Press Ctrl-C: all processes of the terminal get it."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self) -> int:
        """Wait for its end; return its status."""
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
