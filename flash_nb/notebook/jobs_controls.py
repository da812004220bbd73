"""The buttons below the live table of jobs: which job, and Cancel, Retry, Logs, Attach.

They are there while there is something to press them for, and leave no trace in the notebook: see
`flash_nb.notebook.panel`. A click may come in any thread, also while a cell runs, so a button only leaves
a call for the background loop, where the widgets change; what waits for an answer has a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import ipywidgets as widgets

from flash_nb.errors import FlashError
from flash_nb.jobs import RETRYABLE
from flash_nb.notebook.jobs_table import JobsTable, cell_of
from flash_nb.notebook.jobs_view import PostCall
from flash_nb.notebook.panel import Panel
from flash_nb.sdk.board import Board, Post, Row
from flash_nb.sdk.ledger import Entry
from flash_nb.sdk.look import RED

QUIET_S = 120.0
"""How long they stay after the last job has ended and the last click has come."""
SAVED_QUIET_S = 5.0
"""How long after a click they stay when the notebook has been saved: what was saved holds their view."""
LOOK_S = 1.0
TYPED = "%flash cancel JOB, %flash retry JOB, %flash logs JOB"
LATER = f"%flash jobs shows the buttons again; or type {TYPED}"

_LOG = (
    "display:flex;flex-direction:column-reverse;max-height:240px;overflow:auto;"  # it shows its end
    "border-left:3px solid rgba(128,128,128,.4);padding-left:10px"
)
_PRE = "margin:0;font-size:12px;line-height:1.45;white-space:pre-wrap"


class JobsControls:
    """The buttons of one table.

    Args:
        board: The jobs.
        post: The background loop's.
        retry: Runs a job again; may wait for the answer, and raises what is wrong.
        former: Jobs of former kernels that can be taken up.
        attach: Takes one up; may wait for the answer.
        saved_at: When the notebook was last saved, in POSIX seconds; 0 if nobody knows.
    """

    def __init__(
        self,
        board: Board,
        post: PostCall,
        *,
        retry: Callable[[Post], None],
        former: Sequence[Entry],
        attach: Callable[[Entry], None],
        saved_at: Callable[[], float],
    ) -> None:
        self._board = board
        self._post = post
        self._do_retry = retry
        self._do_attach = attach
        self._former = former
        self._panel = Panel("jobs-buttons", self.close)
        self._context = contextvars.copy_context()
        self._lock = threading.RLock()
        self._rows: dict[str, Row] = {}
        self._is_over = False
        self._is_new = True
        self._used_at = self._clicked_at = time.monotonic()
        self._saved_at = saved_at
        self._opened_at = time.time()
        self._busy: set[str] = set()
        self._log_of = ""
        self._said = ""

    # --- for the table ------------------------------------------------------------------------

    def refresh(self, rows: list[Row]) -> None:
        """Take note of how jobs stand: open if one can be acted on, offer those that are shown."""
        with self._lock:
            if self._is_over:
                return
            self._rows = {row.info.id: row for row in rows}
            is_live = any(row.is_live for row in rows)
            if is_live:
                self._used_at = time.monotonic()
            if not self._panel.is_open and (is_live or (self._is_new and self._can_be_used())):
                self._open()
            self._is_new = False
            self._update()

    def close(self) -> None:
        """End, for good; harmless if they have ended."""
        with self._lock:
            self._is_over = True
            self._panel.close()

    # --- the widgets --------------------------------------------------------------------------

    def _open(self) -> None:
        small = widgets.Layout(width="auto")
        style = widgets.ButtonStyle()

        def button(word: str, tooltip: str, press: Callable[[], None]) -> widgets.Button:
            made = widgets.Button(description=word, tooltip=tooltip, layout=small, style=style)
            made.on_click(lambda _: self._later(press))
            return made

        self._choice = widgets.Dropdown(layout={"width": "240px"})
        self._choice.observe(lambda _: self._later(self._update), "value")
        self._cancel = button("Cancel", "End this job", self._press_cancel)
        self._retry = button("Retry", "Run this job again", self._press_retry)
        self._logs = button("Logs", "Show or hide the end of what it printed", self._press_logs)
        self._attach = button("Attach", "Take up the jobs of a former kernel", self._press_attach)
        self._close = button("✕", "Take these buttons away", self.close)
        self._log = widgets.HTML(layout={"width": "100%", "margin": "4px 0 0 2px"})
        self._root = widgets.Box(layout={"flex_flow": "row wrap", "align_items": "center"})
        self._opened_at = time.time()
        self._panel.open(self._root, TYPED, [*self._of_a_job, self._attach, self._close, self._log])
        self._later(self._watch)

    @property
    def _of_a_job(self) -> list[widgets.Widget]:
        return [self._choice, self._cancel, self._retry, self._logs]

    def _update(self) -> None:
        """Show what can be done with the job that is chosen."""
        with self._lock:
            if not self._panel.is_open:
                return
            self._offer()
            chosen = self._choice.value
            row = self._rows.get(chosen) if chosen else None
            _set(self._cancel, disabled=row is None or not row.is_live)
            _set(self._retry, disabled=row is None or not _can_retry(row) or chosen in self._busy)
            _set(self._logs, disabled=row is None)
            _set(self._attach, disabled="attach" in self._busy)
            _set(self._log, value=self._said or self._log_html())
            self._show([*self._of_a_job] if self._rows else [])

    def _show(self, controls: list[widgets.Widget]) -> None:
        """Show these, and what else there is to press and to read now."""
        if self._uncollected():
            controls.append(self._attach)
        controls.append(self._close)
        if self._log.value:
            controls.append(self._log)
        _set(self._root, children=tuple(controls))

    def _offer(self) -> None:
        shown = JobsTable([*self._rows.values()], 0.0).shown
        newest_first = sorted(shown, key=lambda row: -row.number)
        options = [
            (f"{row.number} · {cell_of(row)} on {row.about.resource}", row.info.id) for row in newest_first
        ]
        if [*self._choice.options] == options:
            return
        held = self._choice.value
        ids = [job_id for _, job_id in options]
        first = next((row.info.id for row in newest_first if row.is_live), ids[0] if ids else None)
        self._choice.options = options
        self._choice.value = held if held in ids else first

    def _log_html(self) -> str:
        row = self._rows.get(self._log_of)
        if row is None:
            return ""
        text = "\n".join(filter(None, [str(self._board.find(self._log_of).log).rstrip(), row.info.error]))
        head = f'<div style="opacity:.65">{escape(f"job {row.number} · {cell_of(row)}")}</div>'
        shown = escape(text) or "It has printed nothing."
        return f'{head}<div style="{_LOG}"><pre style="{_PRE}">{shown}</pre></div>'

    # --- what is pressed ----------------------------------------------------------------------

    def _later(self, call: Callable[[], None]) -> None:
        """Make a call on the background loop, where the cell of the table is current."""
        self._used_at = self._clicked_at = time.monotonic()
        self._post(lambda: self._context.copy().run(call))

    def _press_cancel(self) -> None:
        job = self._chosen().job
        if job is not None:
            job.cancel()

    def _press_logs(self) -> None:
        self._said = ""
        self._log_of = "" if self._log_of == self._choice.value else self._choice.value
        self._update()

    def _press_retry(self) -> None:
        chosen = self._chosen()
        self._work(chosen.id, lambda: self._do_retry(chosen))

    def _press_attach(self) -> None:
        entries = [entry for entry in self._former if entry.job not in self._rows]
        self._work("attach", lambda: [self._do_attach(entry) for entry in entries])

    def _chosen(self) -> Post:
        return self._board.find(self._choice.value)

    def _work(self, name: str, work: Callable[[], object]) -> None:
        """Do what waits for an answer in a thread of its own, once at a time; say what went wrong."""
        if name in self._busy:
            return
        self._busy.add(name)
        self._said = ""
        self._update()

        def run() -> None:
            try:
                work()
            except FlashError as error:
                self._said = f'<div style="color:{RED};white-space:pre-wrap">{escape(str(error))}</div>'
            finally:
                self._busy.discard(name)
                self._later(self._update)

        context = self._context.copy()
        threading.Thread(target=context.run, args=(run,), name=f"flash_nb {name}", daemon=True).start()

    # --- how long they stay -------------------------------------------------------------------

    def _watch(self) -> None:
        """Close when nothing has happened for a while, or the notebook was saved; else look again soon."""
        with self._lock:
            if not self._panel.is_open:
                return
            now = time.monotonic()
            is_live = any(row.is_live for row in self._rows.values())
            if self._saved_at() > self._opened_at and now > self._clicked_at + SAVED_QUIET_S:
                self._is_over = True
                self._panel.close(_note(LATER), LATER)
            elif is_live or now < self._used_at + QUIET_S:
                loop = asyncio.get_running_loop()
                loop.call_later(LOOK_S, self._watch, context=self._context.copy())
            elif self._can_be_used():
                self._panel.close(_note(LATER), LATER)
            else:
                self._panel.close()

    def _can_be_used(self) -> bool:
        return bool(self._uncollected()) or any(row.is_live or _can_retry(row) for row in self._rows.values())

    def _uncollected(self) -> list[Entry]:
        return [entry for entry in self._former if entry.job not in self._rows]


def _note(text: str) -> str:
    return f'<div style="font-size:12px;opacity:.65">{escape(text)}</div>'


def _can_retry(row: Row) -> bool:
    return row.info.status in RETRYABLE


def _set(widget: Any, **values: Any) -> None:
    """Set what differs: each setting is a message to the front end."""
    for name, value in values.items():
        if getattr(widget, name) != value:
            setattr(widget, name, value)
