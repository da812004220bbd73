"""``%flash wait|cancel|retry|logs|attach``: what a notebook does with its jobs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from flash_nb.errors import BackendError, JobNotFoundError
from flash_nb.jobs import StatusEvent
from flash_nb.loop import HEARTBEAT_S
from flash_nb.notebook import cell_run
from flash_nb.notebook.cell_job import CellJob
from flash_nb.notebook.display import Record
from flash_nb.notebook.notebook import Notebook
from flash_nb.sdk.board import Post
from flash_nb.sdk.job import Job
from flash_nb.sdk.ledger import Entry
from flash_nb.sdk.session import current_session

Which = Annotated[str, typer.Argument(metavar="JOB", help="Its number in %flash jobs, or its id.")]
OneOrNone = Annotated[
    str, typer.Argument(metavar="JOB", help="Its number, or its id. Default: the last map's items.")
]
Some = Annotated[list[str] | None, typer.Argument(metavar="JOB", help="Their numbers, or ids.")]


def wait(ctx: typer.Context, which: Some = None) -> None:
    """Wait for jobs, by default for all, and bind their names. Stop ends the waiting, not the jobs."""
    notebook: Notebook = ctx.obj
    posts = _posts(which) if which else [post for post in _all() if post.row().is_live]
    left = {job.job.id: job for job in notebook.left}
    for post in posts:
        if post.id in left:
            left[post.id].finish()
        elif post.job is not None:
            _finish(post.job)
    notebook.collect()
    for post in posts:
        if post.job is not None and (exception := post.job.output().exception) is not None:
            raise notebook.as_local(exception)


def cancel(
    which: Some = None, every: Annotated[bool, typer.Option("--all", help="All that are not over.")] = False
) -> None:
    """Cancel jobs."""
    if bool(which) == every:
        raise typer.BadParameter("say which jobs: %flash cancel JOB, or %flash cancel --all")
    for post in _posts(which or ()) if which else _all():
        if post.job is not None and post.row().is_live:
            post.job.cancel()
            typer.echo(f"Job {post.number} is being cancelled.")
        elif which:
            typer.echo(f"Job {post.number} is over: {post.row().info.status.value}.")


def retry(ctx: typer.Context, which: OneOrNone = "") -> list[Any] | None:
    """Run a job again that failed, timed out or was cancelled, under its id; do not wait for it.

    Without a job it runs what the last %%flash_map has left undone, waits, and completes its lists.
    """
    notebook: Notebook = ctx.obj
    if not which:
        return cell_run.retry_last(notebook)
    post = _find(which)
    run_again(notebook, post)
    typer.echo(f"Job {post.number} runs again.")
    return None


def run_again(notebook: Notebook, post: Post) -> None:
    """Run a job again; of a cell's job, the record and the names follow.

    Raises:
        BackendError: It is not over, it completed, or what it needs is not kept any more.
    """
    session = current_session()
    entry = session.ledger.entry(post.id)
    if entry is not None:
        job = CellJob.again(session, entry, notebook.namespace, Record.of(notebook.shell, entry.display))
        job.retry(entry)
        notebook.left.append(job)
    elif post.job is not None:
        post.job.retry()
    else:
        raise BackendError(f"Job {post.number} has completed.", hint="Call the function again.")


def logs(which: Which) -> None:
    """Print the end of what a job printed, and what it failed with."""
    post = _find(which)
    typer.echo(str(post.log).rstrip("\n"))
    if error := post.row().info.error:
        typer.echo(error)


def attach(ctx: typer.Context, which: Some = None) -> None:
    """Take up jobs of this notebook that another kernel started: after a restart, or a closed tab.

    Those that are over bind their names now and show what they printed here; those that run go on, as
    detached cells do.
    """
    notebook: Notebook = ctx.obj
    session = current_session()
    entries = _entries(which) if which else session.ledger.uncollected(notebook.path, _cells(notebook.path))
    here = {job.job.id for job in notebook.left}
    entries = [entry for entry in entries if entry.job not in here]
    if not entries:
        typer.echo("No job of this notebook waits to be taken up.")
    for entry in entries:
        job = CellJob.again(session, entry, notebook.namespace, Record.of(notebook.shell))
        job.attach(entry)
        job.wait_for(lambda event: isinstance(event, StatusEvent))
        notebook.leave(job)


def _entries(words: Iterable[str]) -> list[Entry]:
    ledger = current_session().ledger
    found = [(word, ledger.entry(word)) for word in words]
    for word, entry in found:
        if entry is None:
            raise JobNotFoundError(
                f"No cell of this machine has started a job {word!r}.",
                hint="Give the job's id, as its record says it; or nothing, for all of this notebook.",
            )
    return [entry for _, entry in found if entry is not None]


def _cells(path: str) -> list[str]:
    """Return the ids of the cells of a notebook's file; none if it cannot be read."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return [cell["id"] for cell in content["cells"] if "id" in cell]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _all() -> list[Post]:
    return current_session().board.posts()


def _find(word: str) -> Post:
    return current_session().board.find(word)


def _posts(words: Iterable[str]) -> list[Post]:
    return [_find(word) for word in words]


def _finish(job: Job) -> None:
    done = threading.Event()
    job.when_done(lambda _: done.set())
    while not done.wait(HEARTBEAT_S):
        pass
