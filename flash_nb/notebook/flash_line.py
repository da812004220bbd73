"""``%flash …``: the commands of ``flash`` in a notebook, and the choice of the backend."""

from __future__ import annotations

import shlex
import subprocess
import sys

from IPython.core.error import UsageError

from flash_nb.errors import FlashError, did_you_mean
from flash_nb.settings import BACKENDS

HERE = ("login", "endpoints", "down")  # they need no event loop of this thread


def run(line: str) -> None:
    """Run a line.

    Raises:
        UsageError: It makes no sense.
        FlashError: The command failed.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%flash: {error}: {line}") from None
    if words[:1] == ["backend"]:
        _backend(words[1:])
    elif words and words[0] in HERE:
        _command(words)
    else:
        _process(words)


def _backend(words: list[str]) -> None:
    from flash_nb.sdk.session import current_session

    if len(words) > 1 or (words and words[0] not in BACKENDS):
        near = did_you_mean(words[0], BACKENDS) if len(words) == 1 else ""
        raise UsageError(f"%flash backend: give one of {', '.join(BACKENDS)}, or nothing{near}")
    session = current_session()
    backend = session.use(words[0]) if words else session.backend
    print(f"Endpoints are run by: {backend.name}")


def _command(words: list[str]) -> None:
    """Run a command in this process: for the backend of this notebook, if the line names none."""
    import typer
    from typer.main import get_command

    from flash_nb.cli.app import app
    from flash_nb.sdk.session import current_session

    session = current_session()
    if words[0] != "login" and not any(word.split("=")[0] == "--backend" for word in words):
        words = [*words, "--backend", session.backend.name]
    try:
        get_command(app).main(words, prog_name="%flash", standalone_mode=False)
    except typer.Exit:
        return
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        # What click says of a line. Newer versions of typer bring a click of their own.
        raise UsageError(f"%flash {words[0]}: {error.format_message()}") from None


def _process(words: list[str]) -> None:
    """Run a command in a process of its own, and show what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "flash_nb", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout, end="")
    if done.returncode:
        raise FlashError(f"%flash {' '.join(words)} ended with status {done.returncode}.")
