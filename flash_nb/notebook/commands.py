"""``%flash …``: the commands that need the notebook, and those of the command line.

The notebook's own are functions for Typer, as those of the command line are, so that one parser, one help
text and one completion serve both; ``ctx.obj`` is the `Notebook`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from IPython.core.error import UsageError
from typer.main import get_command

from flash_nb.cli.app import app as cli
from flash_nb.cli.config import AsJson, Name, Value, show
from flash_nb.errors import FlashError, did_you_mean
from flash_nb.notebook import build, check, choosing, cost, export, jobs, nested, preview
from flash_nb.sdk.session import current_session
from flash_nb.settings import BACKENDS

if TYPE_CHECKING:
    from flash_nb.notebook.notebook import Notebook

HERE = frozenset({"cache", "login", "endpoints", "down"})
"""Commands of the command line that run in this process: they need no event loop of this thread."""

OF_A_BACKEND = frozenset({"endpoints", "down"})

LINE = 74
"""Signs of what a command does, in a list of commands."""

app = typer.Typer(
    name="%flash",
    help="Commands of this notebook, and of the command line.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def backend(
    name: Annotated[str, typer.Argument(metavar="local|runpod|auto", help="Default: only say it.")] = "",
) -> None:
    """Say who runs endpoints, or choose it for this notebook."""
    if name and name not in BACKENDS:
        raise typer.BadParameter(
            f"{name!r} is not one of {', '.join(BACKENDS)}{did_you_mean(name, BACKENDS)}"
        )
    session = current_session()
    chosen = session.use(name) if name else session.backend
    typer.echo(f"Endpoints are run by: {chosen.name}")


app.command("jobs")(jobs.show)
for _command in (
    jobs.wait,
    jobs.cancel,
    jobs.retry,
    jobs.logs,
    jobs.attach,
    build.build,
    check.check,
    export.export,
    export.diff,
    cost.cost,
    choosing.use,
    choosing.pick,
    nested.nested,
    preview.preview,
):
    app.command()(_command)


@app.command("config")
def config(name: Name = "", value: Value = "", as_json: AsJson = False) -> None:
    """Show each setting and where it comes from, or change one for this notebook."""
    session = current_session()
    if value:
        session.change(name, value)
    show(session.settings, name, as_json=as_json)


def group() -> Any:
    """Return all commands, as a group of the parser that Typer uses."""
    shared: Any = get_command(cli)
    own: Any = get_command(app)
    own.params = [*shared.params]
    own.commands = {**own.commands, **{n: c for n, c in shared.commands.items() if n not in own.commands}}
    for command in _all_of(own):
        command.rich_markup_mode = None  # no boxes: they are wider than a notebook
    return own


def _all_of(command: Any) -> Iterator[Any]:
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from _all_of(below)


def overview() -> str:
    """Return the list of all commands, with a line for each; what ``%flash`` and ``%flash?`` show."""
    commands, own = group().commands, _own_names()
    here = _list({name: commands[name] for name in commands if name in own})
    shared = _list({name: commands[name] for name in commands if name not in own})
    return (
        f"Usage: %flash COMMAND [ARGUMENTS]\n\nFor this notebook:\n{here}\n\nAs at a terminal:\n{shared}\n\n"
        "More on each: %flash COMMAND --help. Options of remote cells: %%flash_remote?"
    )


def _list(commands: Mapping[str, Any]) -> str:
    width = max(map(len, commands))
    lines = (f"  {name:<{width}}  {_meaning(command)}" for name, command in commands.items())
    return "\n".join(lines)


def _meaning(command: Any) -> str:
    does, below = _in_a_line(command.help or ""), "|".join(getattr(command, "commands", ()))
    if not below:
        return does
    return f"{does}; also: {below}" if command.invoke_without_command else below


def _in_a_line(text: str) -> str:
    """Return the first sentence of a text, or as much of it as makes sense and fits into a line."""
    words = " ".join(text.partition("\n\n")[0].split())
    for end in (r"\.(?= |$)", "[:;] ", ", "):
        places = [match.start() for match in re.finditer(end, words) if match.start() <= LINE]
        if places:
            return words[: places[0] if end.startswith("\\") else places[-1]]
    return words


def run(notebook: Notebook, line: str) -> Any:
    """Run a line; return what there is to show beside what was printed.

    Raises:
        UsageError: It makes no sense.
        FlashError: The command failed.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%flash: {error}: {line}") from None
    command, path, rest = _find(words)
    is_group = hasattr(command, "commands")
    if is_group and (rest == ["--help"] or not (rest or command.invoke_without_command)):
        print(overview() if len(path) == 1 else f"{command.help}\n\n{_list(command.commands)}")
    elif is_group or "--help" in rest or path[1] in _own_names() | HERE:
        return _here(command, path, rest, notebook)
    else:
        _check(command, path, rest)
        _process(words)
    return None


def _find(words: Sequence[str]) -> tuple[Any, list[str], list[str]]:
    """Return the command that a line names, its path, and what is left.

    Raises:
        UsageError: There is no such command.
    """
    command, path, rest = group(), ["%flash"], [*words]
    while rest and not rest[0].startswith("-") and hasattr(command, "commands"):
        name, *rest = rest
        if name not in command.commands:
            near = did_you_mean(name, command.commands)
            raise UsageError(f"{' '.join(path)}: there is no command {name!r}{near}")
        command = command.commands[name]
        path.append(name)
    return command, path, rest


def _own_names() -> frozenset[str]:
    own: Any = get_command(app)
    return frozenset(own.commands)


def _here(command: Any, path: Sequence[str], words: Sequence[str], notebook: Notebook) -> Any:
    """Run a command in this process: for the backend of this notebook, if the line names none.

    It is not run by its ``main``, which would swallow an interrupt, and the command's value.
    """
    if path[-1] in OF_A_BACKEND and not any(word.split("=")[0] == "--backend" for word in words):
        words = [*words, "--backend", current_session().backend.name]
    with _usage_errors(path), command.make_context(" ".join(path), [*words], obj=notebook) as context:
        return command.invoke(context)
    return None


def _check(command: Any, path: Sequence[str], words: Sequence[str]) -> None:
    """Find what is wrong with a line before a process is started for it."""
    with _usage_errors(path):
        command.make_context(" ".join(path), [*words])


@contextlib.contextmanager
def _usage_errors(path: Sequence[str]) -> Iterator[None]:
    """Turn what click says of a line into IPython's error for that: one line, no traceback."""
    try:
        yield
    except typer.Exit:
        return
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        # By its method: newer versions of Typer bring a click of their own.
        said, option = error.format_message(), getattr(error, "option_name", "")
        if known := getattr(error, "possibilities", None):
            said = f"no such option: {option}{did_you_mean(option, known)}"
        raise UsageError(f"{' '.join(path)}: {said}") from None


def _process(words: Sequence[str]) -> None:
    """Run a command in a process of its own, and show what it prints as it comes.

    An interrupt goes to the process, which ends in its own way.

    Raises:
        KeyboardInterrupt: It was interrupted before it was done.
        FlashError: It failed.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "flash_nb", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    is_interrupted = False
    while True:
        try:
            for line in process.stdout or ():
                print(line, end="")
            status = process.wait()
            break
        except KeyboardInterrupt:
            is_interrupted = True
            process.send_signal(signal.SIGINT)
    if status and is_interrupted:
        raise KeyboardInterrupt
    if status:
        raise FlashError(f"%flash {' '.join(words)} ended with status {status}.")
