"""The table of jobs: as HTML, as text and as JSON. Pure rendering.

It is saved with the notebook, as records are: see `flash_nb.notebook.record` for what that asks of HTML.
Its columns have fixed widths, so that nothing moves while it changes, and the last one takes what is left.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from flash_nb.jobs import JobStatus
from flash_nb.notebook.record import LOOKS
from flash_nb.sdk.board import Row
from flash_nb.sdk.look import BLUE, BOX, GREEN, RED, human_time
from flash_nb.sdk.money import SIMULATED

MOST_ROWS = 30
SIMULATION = "Costs are simulated where the local engine ran a job: it takes no money."
_MOST_TEXT = {"text": 48, "html": 120}
_MOST_HINT = 400
_FITS = 30  # characters of the last column, where the page is narrow
_UNSEEN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0a-\x1f\x7f]")  # colours and the like
_LONG = ("cell", "resource", "worker", "cost", "last line")

ORDER = (
    JobStatus.IN_PROGRESS,
    JobStatus.IN_QUEUE,
    JobStatus.FAILED,
    JobStatus.TIMED_OUT,
    JobStatus.CANCELLED,
    JobStatus.COMPLETED,
)
"""The order in which the line above the table counts jobs."""

# Titles of columns, and their widths without the 8 px between them. The fixed ones always fit; the others
# are clipped where the page is narrow: 470 px are left of a window of 900 px beside JupyterLab's side bar.
_COLUMNS = {
    "#": "1.6em",
    "status": "6.7em",
    "cell": "9%",
    "resource": "11%",
    "worker": "9%",
    "age": "3.4em",
    "run": "4.8em",
    "cost": "11%",
    "last line": "auto",
}
_TABLE = (
    "table-layout:fixed;width:100%;max-width:1100px;margin:2px 0;border:none;border-collapse:collapse;"
    "font-size:12px;line-height:1.5"
)
_CELL = "text-align:left;padding:1px 8px 1px 0;white-space:nowrap"
_CLIPPED = f"{_CELL};overflow:hidden;text-overflow:ellipsis"
_HEAD = f"{_CLIPPED};font-weight:500;opacity:.65"
_REST = "font-size:12px;opacity:.65"


@dataclass(frozen=True)
class JobsTable:
    """Jobs at one moment.

    Attributes:
        rows: How they stand, the newest first.
        now: The moment, in POSIX seconds.
        uncollected: How many jobs of former kernels this notebook can take up.
        most: How many rows are shown; None for all.
    """

    rows: Sequence[Row]
    now: float
    uncollected: int = 0
    most: int | None = MOST_ROWS

    @property
    def is_live(self) -> bool:
        """True if a job is not over."""
        return any(row.is_live for row in self.rows)

    @property
    def shown(self) -> list[Row]:
        """The rows that are shown: what runs, what is queued, what is over; the newest first in each."""
        return sorted(self.rows, key=_place)[: self.most]


def render_html(table: JobsTable) -> str:
    """Return the table as HTML."""
    counts = " · ".join(
        f'<span style="color:{look.colour};font-weight:600">{look.sign} {number} {look.word}</span>'
        for look, number in ((LOOKS[status], number) for status, number in _counts(table))
    )
    rest = "".join(f'<div style="{_REST}">{escape(line)}</div>' for line in _lines_below(table))
    if not table.rows:
        return f"<div>No jobs in this kernel yet.</div>{rest}"
    shown = table.shown
    columns = _columns(shown, table.now)
    titles = "".join(f'<th style="{_HEAD};width:{_COLUMNS[column]}">{column}</th>' for column in columns)
    rows = "".join(_row(row, columns, table.now) for row in shown)
    return (
        f'<div style="{BOX.format(colour=_colour(table))}"><div>{counts}'
        f' · <span style="opacity:.65">{_clock(table.now)}</span></div>'
        f'<table style="{_TABLE}"><thead><tr style="border:none">{titles}</tr></thead>'
        f"<tbody>{rows}</tbody></table>{rest}</div>"
    )


def render_text(table: JobsTable) -> str:
    """Return the table for a terminal."""
    rest = [*_lines_below(table)]
    if not table.rows:
        return "\n".join(["No jobs in this kernel yet.", *rest])
    head = [f"{LOOKS[status].sign} {number} {LOOKS[status].word}" for status, number in _counts(table)]
    shown = table.shown
    columns = _columns(shown, table.now)
    lines = [[*columns], *(_texts(row, columns, table.now) for row in shown)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    body = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([" · ".join([*head, _clock(table.now)]), *body, *rest])


def as_line(row: Row, now: float) -> str:
    """Return a job as a line of JSON; times in POSIX seconds, durations in seconds."""
    about, info = row.about, row.info
    return json.dumps(
        {
            "number": row.number,
            "id": info.id,
            "status": info.status.value,
            "label": about.label,
            "cell": about.origin.number or None,
            "resource": about.resource,
            "backend": about.backend,
            "worker": info.worker,
            "submitted_at": info.submitted_at,
            "started_at": info.started_at,
            "ended_at": info.ended_at,
            "run_s": info.run_s,
            "cost": row.cost(now),
            "simulated": about.backend in SIMULATED,
            "last_line": row.last_line,
            "error": info.error,
        }
    )


def cell_of(row: Row) -> str:
    """Return which cell a job came from, or what it calls."""
    return f"In [{row.about.origin.number}]" if row.about.origin.number else row.about.label


def _place(row: Row) -> int:
    return min(ORDER.index(row.info.status), ORDER.index(JobStatus.FAILED))


def _counts(table: JobsTable) -> Iterator[tuple[JobStatus, int]]:
    found = Counter(row.info.status for row in table.rows)
    return ((status, found[status]) for status in ORDER if found[status])


def _columns(rows: Sequence[Row], now: float) -> list[str]:
    has_costs = any(row.cost(now) for row in rows)
    return [column for column in _COLUMNS if column != "cost" or has_costs]


def _lines_below(table: JobsTable) -> Iterator[str]:
    more = len(table.rows) - len(table.shown)
    if more:
        yield f"and {more} more: %flash jobs --all"
    if table.uncollected:
        jobs = "1 job" if table.uncollected == 1 else f"{table.uncollected} jobs"
        yield f"{jobs} of a former kernel can be taken up: %flash attach"
    if any(row.about.backend in SIMULATED and row.cost(table.now) for row in table.shown):
        yield SIMULATION


def _row(row: Row, columns: Sequence[str], now: float) -> str:
    look = LOOKS[row.info.status]
    styles = {"status": f"{_CELL};color:{look.colour};font-weight:600"} | dict.fromkeys(_LONG, _CLIPPED)
    hints = {
        "#": row.info.id,
        "resource": row.about.hardware,
        "cost": row.cost(now),
        "last line": _hint(_last_line(row)),
    }
    cells = []
    for column in columns:
        hint = f' title="{escape(hints[column])}"' if hints.get(column) else ""
        text = escape(_text(row, column, now, _MOST_TEXT["html"]))
        cells.append(f'<td style="{styles.get(column, _CELL)}"{hint}>{text}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _hint(line: str) -> str:
    """Return what is told of a line when the mouse is on it: nothing if it can be read anyway."""
    return _short(line, _MOST_HINT) if len(line) > _FITS else ""


def _texts(row: Row, columns: Sequence[str], now: float) -> list[str]:
    return [_text(row, column, now, _MOST_TEXT["text"]) for column in columns]


def _text(row: Row, column: str, now: float, most: int) -> str:
    return _short(_TEXTS[column](row, now), most)


def _status(row: Row) -> str:
    look = LOOKS[row.info.status]
    return f"{look.sign} {look.word}"


def _last_line(row: Row) -> str:
    """Return what it failed with, or waits for, or printed last."""
    error = row.info.error.partition("\n")[0]
    says_more = error and error != LOOKS[row.info.status].word
    return _UNSEEN.sub("", error if says_more else row.phase or row.last_line).expandtabs(1)


def _run(row: Row, now: float) -> str:
    info = row.info
    if info.status is JobStatus.IN_PROGRESS and info.started_at is not None:
        seconds = int(now - info.started_at)  # whole ones: it is drawn once a second
        return human_time(seconds).replace(".0 ", " ") if seconds > 0 else "0 s"
    return human_time(info.run_s) if info.run_s and not row.is_live else ""


def _age(seconds: float) -> str:
    """Return a time that has passed, in one unit: ``42 s``, ``3 min``, ``2 h``, ``5 d``."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, int(seconds))} s"


def _colour(table: JobsTable) -> str:
    if table.is_live:
        return BLUE
    failed = any(row.info.status in {JobStatus.FAILED, JobStatus.TIMED_OUT} for row in table.rows)
    return RED if failed else GREEN


def _clock(now: float) -> str:
    """Return the time here: without it, ages in a saved notebook would say nothing."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


_TEXTS: Mapping[str, Callable[[Row, float], str]] = {
    "#": lambda row, _: str(row.number),
    "status": lambda row, _: _status(row),
    "cell": lambda row, _: cell_of(row),
    "resource": lambda row, _: row.about.resource,
    "worker": lambda row, _: row.info.worker,
    "age": lambda row, now: _age(now - row.info.submitted_at),
    "run": _run,
    "cost": lambda row, now: row.cost(now),
    "last line": lambda row, _: _last_line(row),
}
"""What each column says of a job at a moment."""
