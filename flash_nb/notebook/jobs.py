"""``%flash jobs|wait|cancel|retry|logs|attach``: what a notebook does with its jobs."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flash_nb.cells.magic_line import digest
from flash_nb.errors import BackendError, JobNotFoundError
from flash_nb.jobs import StatusEvent
from flash_nb.loop import HEARTBEAT_S
from flash_nb.notebook import cell_run
from flash_nb.notebook.cell_job import CellJob
from flash_nb.notebook.display import Record
from flash_nb.notebook.jobs_table import MOST_ROWS, JobsTable, as_line, render_html, render_text
from flash_nb.notebook.jobs_view import JobsView
from flash_nb.notebook.notebook import Notebook
from flash_nb.notebook.panel import has_person
from flash_nb.sdk.board import Post
from flash_nb.sdk.job import Job
from flash_nb.sdk.ledger import Entry
from flash_nb.sdk.outputs import Place
from flash_nb.sdk.session import Session, current_session

Which = Annotated[str, typer.Argument(metavar="JOB", help="Its number in %flash jobs, or its id.")]
OneOrNone = Annotated[
    str, typer.Argument(metavar="JOB", help="Its number, or its id. Default: the last map's items.")
]
Some = Annotated[list[str] | None, typer.Argument(metavar="JOB", help="Their numbers, or ids.")]


def show(
    ctx: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="All rows, as they stand now.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each job.")] = False,
) -> None:
    """Show the jobs of this kernel: one table, which follows them until it is shown anew."""
    notebook: Notebook = ctx.obj
    session = current_session()
    rows, now = session.board.rows(), time.time()
    if as_json:
        typer.echo("".join(f"{as_line(row, now)}\n" for row in rows), nl=False)
        return
    entries = _not_here(notebook)
    table = JobsTable(rows, now, uncollected=len(entries), most=None if every else MOST_ROWS)
    if not hasattr(notebook.shell, "kernel"):
        typer.echo(render_text(table))
    elif every:
        Place("jobs").show(render_html(table), render_text(table))
    else:
        _show_live(notebook, session, entries)


def _show_live(notebook: Notebook, session: Session, entries: Sequence[Entry]) -> None:
    if notebook.jobs_view is not None:
        notebook.jobs_view.close()
    view = notebook.jobs_view = JobsView(session.board, session.post, [entry.job for entry in entries])
    view.open()
    if not has_person(notebook.shell) or importlib.util.find_spec("ipywidgets") is None:
        return
    from flash_nb.notebook.jobs_controls import JobsControls

    controls = JobsControls(
        session.board,
        session.post,
        retry=lambda post: run_again(notebook, post),
        former=entries,
        attach=lambda entry: notebook.left.append(_taken_up(notebook, entry)),
        saved_at=notebook.saved_at,
    )
    controls.refresh(session.board.rows())
    view.follower = controls


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
    for post in _posts(which) if which else _all():
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
    texts = _cells(notebook.path)
    for entry in entries:
        origin = entry.about.origin
        if texts.get(origin.cell, origin.source) != origin.source:
            typer.echo(f"The cell that was In [{origin.number}] has been edited since it ran.")
        notebook.leave(_taken_up(notebook, entry))


def _taken_up(notebook: Notebook, entry: Entry) -> CellJob:
    """Take up a job, and wait until it is known how it stands."""
    job = CellJob.again(current_session(), entry, notebook.namespace, Record.of(notebook.shell))
    job.attach(entry)
    job.wait_for(lambda event: isinstance(event, StatusEvent))
    return job


def _not_here(notebook: Notebook) -> list[Entry]:
    """Return the jobs of this notebook that another kernel started and that nobody has collected."""
    session = current_session()
    here = {post.id for post in session.board.posts()}
    entries = session.ledger.uncollected(notebook.path, _cells(notebook.path))
    return [entry for entry in entries if entry.job not in here]


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


def _cells(path: str) -> dict[str, str]:
    """Return the ids of the cells of a notebook's file, each with its text's digest; none if it has none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return {cell["id"]: digest("".join(cell["source"])) for cell in content["cells"] if "id" in cell}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


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
