"""A command at a terminal: what it asks is answered when it asks."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def at_terminal(
    environment: Mapping[str, str], folder: Path, *arguments: str, asked: str, answer: str, last: str = ""
) -> tuple[int, str]:
    """Run a command, and type an answer to its question; return its status and all that was shown.

    Args:
        environment: Its environment.
        folder: Where it runs.
        *arguments: Of ``flash``.
        asked: What its question ends with.
        answer: What is typed then; a line.
        last: Ctrl-C is pressed when this is shown.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-m", "flash_nb", *arguments],
        env=environment,
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown, keys = "", [(asked, f"{answer}\n"), (last, "\x03")]
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece.decode(errors="replace")
        if keys and keys[0][0] and keys[0][0] in shown:
            os.write(ours, keys.pop(0)[1].encode())
    os.close(ours)
    return process.wait(timeout=60), shown
