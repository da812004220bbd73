"""The record of a job under its cell: what ran where, how long, and what moved. Pure rendering.

It is saved with the notebook, so it is one small piece of HTML with inline styles only: no script,
no class, no id. It stays readable where styles are dropped (GitHub), and on light and dark pages: its
text takes its colour from the page. A status is always a word and a sign too, never a colour alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from flash_nb.jobs import JobStatus
from flash_nb.sdk import look
from flash_nb.sdk.look import AMBER, human_size, human_time

_MOST_NAMES = 8
_MOST_TEXT = 160


@dataclass(frozen=True)
class ValueSize:
    """A value that moved.

    Attributes:
        name: Its name in the notebook.
        bytes: Its encoded size.
        kind: Its type, for people: ``ndarray``.
    """

    name: str
    bytes: int
    kind: str = ""


@dataclass(frozen=True)
class JobView:
    """What there is to show of a job; fields that are not known yet are empty.

    Attributes:
        title: The cell's or function's name.
        status: Where the job stands.
        resource: The name of the resource it runs on.
        place: Who runs it: "Runpod" or "local engine". Said once.
        phase: What is being done now, while it is not final.
        cache: When its result was made and what that saved, or why it cannot be kept.
        kept: How its result was kept for the next time.
        hardware: The resource's one-line description.
        note: What must be known to read the rest, such as that a GPU is only simulated.
        worker: The worker that took it.
        job_id: Its id.
        queued_s: Seconds from submission until a worker took it.
        cold_s: Seconds that starting the worker took.
        run_s: Seconds on the worker.
        elapsed_s: Seconds from submission until now, or until its end.
        cost: What it will cost, or has cost until now, for people; empty if no price is known.
        idle: What its worker costs when it is over, and how to stop that.
        is_billed: That is money, and not simulated: it is seen without folding anything out.
        dependencies: What was installed for it.
        inputs: The values sent.
        outputs: The values that came back.
        changed: Names of inputs that the job changed in place and that came back.
        unbound: Names that could not come back, each with the reason.
        rebound: Names that came back, and that the user had bound anew meanwhile: theirs stay.
        attempts: How often a worker started it.
        error: The first line of what went wrong.
        live: Whether it is about to change. Nothing can be folded out then: a change would fold it in.
    """

    title: str
    status: JobStatus
    resource: str
    place: str = ""
    phase: str = ""
    cache: str = ""
    kept: str = ""
    hardware: str = ""
    note: str | None = None
    worker: str = ""
    job_id: str = ""
    queued_s: float | None = None
    cold_s: float | None = None
    run_s: float | None = None
    elapsed_s: float | None = None
    cost: str = ""
    idle: str = ""
    is_billed: bool = False
    dependencies: tuple[str, ...] = ()
    inputs: tuple[ValueSize, ...] = ()
    outputs: tuple[ValueSize, ...] = ()
    changed: tuple[str, ...] = ()
    unbound: tuple[tuple[str, str], ...] = ()
    rebound: tuple[str, ...] = ()
    attempts: int = 1
    error: str | None = None
    live: bool = False


LOOKS = {
    JobStatus.IN_QUEUE: look.QUEUED,
    JobStatus.IN_PROGRESS: look.RUNNING,
    JobStatus.COMPLETED: look.COMPLETED,
    JobStatus.FAILED: look.FAILED,
    JobStatus.CANCELLED: look.CANCELLED,
    JobStatus.TIMED_OUT: look.TIMED_OUT,
}

_LIVE = "padding-left:1.1em"  # where the line stands beside the sign of what folds out
_ROWS = "padding:2px 0 3px 15px;font-size:12px"
_LABEL = "display:inline-block;width:6.5em;opacity:.65"
_NOTE = "border:1px solid {colour};border-radius:8px;padding:0 7px"


def render_html(view: JobView) -> str:
    """Return the record as HTML: a line that is always seen, and details that fold out."""
    shown = LOOKS[view.status]
    head = f'<span style="color:{shown.colour};font-weight:600">{shown.sign} {shown.word}</span> '
    head += f"<b>{escape(view.title)}</b> on {escape(view.resource)}"
    line = " · ".join([head, *map(escape, _facts(view))])
    if view.note:
        line += f' · <span style="{_NOTE.format(colour=AMBER)}">{escape(view.note)}</span>'
    if view.live:
        body = f'<div style="{_LIVE}">{line}</div>'
    else:
        rows = "".join(
            f'<div><span style="{_LABEL}">{label}</span> {escape(text)}</div>'
            for label, text in _details(view)
        )
        body = (
            f'<details><summary style="cursor:pointer">{line}</summary>'
            f'<div style="{_ROWS}">{rows}</div></details>'
        )
        if view.is_billed and view.idle:
            body += f'<div style="{_LIVE};font-size:12px">idling: {escape(view.idle)}</div>'
    return f'<div style="{look.BOX.format(colour=shown.colour)}">{body}</div>'


def render_text(view: JobView) -> str:
    """Return the record for a terminal: the line, then hardware, then what did not come back."""
    shown = LOOKS[view.status]
    head = f"{shown.sign} {shown.word} {view.title} on {view.resource}"
    lines = [
        " · ".join([head, *_facts(view)]),
        " · ".join(filter(None, [view.hardware, view.note])),
        _unbound(view),
        f"idling: {view.idle}" if view.is_billed and view.idle and view.status.is_final else "",
    ]
    return "\n".join(f"  {line}" if number else line for number, line in enumerate(lines) if line)


def _facts(view: JobView) -> Iterator[str]:
    """Yield what the line says after the name: the place, the phase or the error, time, and sizes."""
    if view.place:
        yield view.place
    if view.cache:
        yield _short(view.cache)
    if not view.status.is_final and view.phase and view.phase != LOOKS[view.status].word:
        yield _short(view.phase)
    if view.elapsed_s is not None:
        yield human_time(view.elapsed_s)
    if view.cost:
        yield view.cost
    if view.inputs or view.outputs:
        yield _traffic(view)
    if view.changed:
        yield f"changed {_names(view.changed)}"
    if view.unbound:
        yield f"{len(view.unbound)} not returned"
    if view.error and view.error != LOOKS[view.status].word:
        yield _short(view.error)


def _details(view: JobView) -> Iterator[tuple[str, str]]:
    """Yield a label and a text for each row that has something to say."""
    rows = [
        ("hardware", view.hardware),
        ("time", _times(view)),
        ("cost", view.cost),
        ("idling", "" if view.is_billed else view.idle),
        ("worker", view.worker),
        ("job", view.job_id),
        ("attempts", str(view.attempts) if view.attempts > 1 else ""),
        ("installed", _names(view.dependencies)),
        ("sent", _values(view.inputs)),
        ("returned", _values(view.outputs)),
        ("changed", _names(view.changed)),
        ("not returned", _unbound(view)),
        ("kept yours", _names(view.rebound)),
        ("cache", view.kept),
    ]
    return ((label, text) for label, text in rows if text)


def _times(view: JobView) -> str:
    parts = (("queued", view.queued_s), ("cold start", view.cold_s), ("run", view.run_s))
    return " · ".join(f"{name} {human_time(value)}" for name, value in parts if value is not None)


def _traffic(view: JobView) -> str:
    moved = ((view.inputs, "in"), (view.outputs, "out"))
    return " → ".join(
        f"{human_size(sum(value.bytes for value in values))} {way}" for values, way in moved if values
    )


def _values(values: Sequence[ValueSize]) -> str:
    return _names([f"{value.name} ({_size(value)})" for value in values])


def _size(value: ValueSize) -> str:
    return f"{value.kind}, {human_size(value.bytes)}" if value.kind else human_size(value.bytes)


def _unbound(view: JobView) -> str:
    return _names([f"{name}: {reason}" for name, reason in view.unbound], between="; ")


def _names(names: Sequence[str], *, between: str = ", ") -> str:
    """Return the first names, and how many there are besides: the record is saved with the notebook."""
    more = [f"and {len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return between.join([*map(_short, names[:_MOST_NAMES]), *more])


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"
