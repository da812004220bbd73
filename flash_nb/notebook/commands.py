"""``%flash …``: the commands that need the notebook, and those of the command line.

The notebook's own are functions for Typer, as those of the command line are, so that one parser, one help
text and one completion serve both; ``ctx.obj`` is the `Notebook`.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from IPython.core.error import UsageError
from typer.main import get_command

from flash_nb.cli.app import app as cli
from flash_nb.errors import FlashError, did_you_mean
from flash_nb.notebook import cell_run, check, choosing, cost, jobs
from flash_nb.sdk.session import current_session
from flash_nb.settings import BACKENDS

if TYPE_CHECKING:
    from flash_nb.notebook.notebook import Notebook

HERE = frozenset({"cache", "login", "endpoints", "down"})
"""Commands of the command line that run in this process: they need no event loop of this thread."""

OF_A_BACKEND = frozenset({"endpoints", "down"})

app = typer.Typer(
    name="%flash",
    help="Commands of this notebook, and of the command line.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def backend(
    name: Annotated[str, typer.Argument(metavar="[local|runpod|auto]", help="Default: only say it.")] = "",
) -> None:
    """Say who runs endpoints, or choose it for this notebook."""
    if name and name not in BACKENDS:
        raise typer.BadParameter(
            f"{name!r} is not one of {', '.join(BACKENDS)}{did_you_mean(name, BACKENDS)}"
        )
    session = current_session()
    chosen = session.use(name) if name else session.backend
    typer.echo(f"Endpoints are run by: {chosen.name}")


for _command in (
    jobs.wait,
    jobs.cancel,
    jobs.retry,
    jobs.logs,
    jobs.attach,
    check.check,
    cost.cost,
    choosing.use,
    choosing.pick,
):
    app.command()(_command)


def group() -> Any:
    """Return all commands, as a group of the parser that Typer uses."""
    shared: Any = get_command(cli)
    own: Any = get_command(app)
    own.commands = {**shared.commands, **own.commands}
    return own


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
    if words == ["retry"]:  # not by way of Typer, which swallows an interrupt and has no values
        return cell_run.retry_last(notebook)
    words = words or ["--help"]
    name, commands = words[0], group()
    if name.startswith("-") or name in HERE | _own_names():
        _here(commands, words, notebook)
    elif name in commands.commands:
        _process(words)
    else:
        raise UsageError(f"%flash: there is no command {name!r}{did_you_mean(name, commands.commands)}")
    return None


def _own_names() -> frozenset[str]:
    own: Any = get_command(app)
    return frozenset(own.commands)


def _here(commands: Any, words: list[str], notebook: Notebook) -> None:
    """Run a command in this process: for the backend of this notebook, if the line names none."""
    if words[0] in OF_A_BACKEND and not any(word.split("=")[0] == "--backend" for word in words):
        words = [*words, "--backend", current_session().backend.name]
    try:
        commands.main(words, prog_name="%flash", standalone_mode=False, obj=notebook)
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
