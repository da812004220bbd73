"""Shell commands: what the ``!command`` lines of a remote cell call."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, MutableMapping
from pathlib import Path

SHELL = "__flash_shell__"  # the name under which a cell calls `run_shell`
GRACE_SECONDS = 2.0
_SIGNALLED = 128


class Lines(list[str]):
    """The captured output of a command, with the short names that IPython gives it."""

    @property
    def l(self) -> list[str]:  # noqa: E743 - IPython's name
        """The lines themselves."""
        return self

    @property
    def n(self) -> str:
        """The lines as one text."""
        return "\n".join(self)

    @property
    def s(self) -> str:
        """The lines joined by spaces."""
        return " ".join(self)

    @property
    def p(self) -> list[Path]:
        """The lines that are paths of existing files or folders."""
        return [path for path in map(Path, self) if path.exists()]


def run_shell(
    command: str, *, capture: bool = False, namespace: MutableMapping[str, object] | None = None
) -> Lines | None:
    """Run a command as IPython's ``!command`` does.

    Args:
        command: Text for bash, or for sh where there is no bash.
        capture: Return the output, stderr included, instead of showing it.
        namespace: Where ``_exit_code`` is set: 0, the command's own code, or minus a signal's number.

    Returns:
        The captured lines, or None.
    """
    sys.stdout.flush()  # what was printed before comes before the command's output
    process = None
    try:
        with _interrupts_held():  # else the process might run while nobody knows it
            process = _start(command, capture=capture)
        output, _ = process.communicate()
    except BaseException:
        if process is not None:
            with _interrupts_held():
                _end_group(process)
        raise
    sys.stdout.flush()
    if namespace is not None:
        namespace["_exit_code"] = _exit_code(process.returncode)
    return Lines(output.decode("utf-8", "replace").splitlines()) if capture else None


def _start(command: str, *, capture: bool) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [shutil.which("bash") or "/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        # Not captured, it inherits descriptors 1 and 2, which `streams` reads while it runs.
        stdout=subprocess.PIPE if capture else None,
        stderr=subprocess.STDOUT if capture else None,
        env={"PYTHONUNBUFFERED": "1", **os.environ},  # no terminal, yet its lines should come live
        start_new_session=True,  # a group of its own, to end its children with it
    )


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let an interrupt that comes meanwhile be raised at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # interrupts are raised in the main thread only
        return
    came: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if came:
            signal.raise_signal(signal.SIGINT)


def _exit_code(code: int) -> int:
    """Return the code as IPython has it: a shell reports a signal as 128 more than its number."""
    return _SIGNALLED - code if code > _SIGNALLED else code


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    process.wait()
