"""The progress of a map: how it stands, as text and as HTML, and where that is shown.

Drawing is pure. In a kernel one display below the cell is updated; what is saved is its last form,
plain HTML without scripts. In a terminal one line of stderr is rewritten. Elsewhere nothing is shown.
"""

from __future__ import annotations

import reprlib
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from html import escape
from typing import Any

from flash_nb.sdk import outputs
from flash_nb.sdk.look import AMBER, BOX, CANCELLED, COMPLETED, FAILED, RUNNING, Look, human_time

MOST_FAILURES = 3
_CELLS = 20  # of the bar in text
_MOST_TEXT = 160

_BAR = "max-width:32em;line-height:0;margin:3px 0 4px 0;white-space:nowrap"
_PART = "display:inline-block;height:5px;width:{percent:.4g}%;background:{colour}"
_REST = "display:inline-block;height:5px;width:{percent:.4g}%;background:currentColor;opacity:.15"
_FAILURES = "font-size:12px"
_FAINT = "opacity:.65"

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 40


class MapStatus(Enum):
    """How a map stands."""

    RUNNING = RUNNING
    CANCELLING = Look("⊘", "cancelling", AMBER)
    COMPLETED = COMPLETED
    FAILED = FAILED
    CANCELLED = CANCELLED
    STOPPED = Look("✗", "stopped", FAILED.colour)


@dataclass(frozen=True)
class ItemFailure:
    """Why an item failed, for people."""

    index: int
    item: str
    reason: str

    def __str__(self) -> str:
        return f"item {self.index} ({self.item}): {self.reason}"


@dataclass(frozen=True)
class Progress:
    """How a map stands.

    Attributes:
        title: What runs: ``double()``.
        resource: The name of the resource it runs on.
        total: The number of items; None while a lazy iterable has not ended.
        kept: How many of `done` were done before a retry.
        running: Jobs on workers.
        queued: Jobs that wait for a worker.
        elapsed_s: Seconds since the start.
        working_s: Seconds since a worker took the item that ended first; 0 before it ended.
        failures: The first failures.
        reason: Why no more items were taken, if there is a reason.
        cost: What its jobs have cost until now, for people; empty if no price is known.
        note: What must be known to read the rest, such as that a GPU is only simulated.
    """

    title: str
    resource: str
    status: MapStatus = MapStatus.RUNNING
    done: int = 0
    failed: int = 0
    total: int | None = None
    kept: int = 0
    running: int = 0
    queued: int = 0
    elapsed_s: float = 0.0
    working_s: float = 0.0
    failures: tuple[ItemFailure, ...] = ()
    reason: str = ""
    cost: str = ""
    note: str = ""

    @property
    def is_live(self) -> bool:
        """True if it is about to change."""
        return self.status in {MapStatus.RUNNING, MapStatus.CANCELLING}

    @property
    def rate(self) -> float:
        """Items a second since a worker first took one; 0 if nobody can say yet."""
        ended = self.done + self.failed - self.kept
        return ended / self.working_s if ended > 1 and self.working_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until the end, at this rate; None if nobody can say."""
        if self.total is None or not self.rate or self.status is not MapStatus.RUNNING:
            return None
        return (self.total - self.done - self.failed) / self.rate


def describe_failure(index: int, args: tuple[Any, ...], error: BaseException) -> ItemFailure:
    """Describe why an item failed."""
    item = _repr.repr(args[0] if len(args) == 1 else args)
    first = str(error).strip().partition("\n")[0]
    return ItemFailure(
        index, item, _short(f"{type(error).__name__}: {first}" if first else type(error).__name__)
    )


def render_text(progress: Progress) -> str:
    """Return the progress for a saved notebook's text and for logs: a line, and what failed."""
    return "\n".join([render_line(progress), *(f"  {line}" for line in _notes(progress))])


def render_line(progress: Progress, *, bar: bool = True) -> str:
    """Return the progress as one line of text, with a bar while it goes on."""
    look: Look = progress.status.value
    drawn = f"{_text_bar(progress)} " if bar and progress.is_live and progress.total else ""
    head = f"{look.sign} {look.word} {progress.title} on {progress.resource}"
    first, *facts = _facts(progress)
    return " · ".join([head, drawn + first, *facts])


def render_html(progress: Progress) -> str:
    """Return the progress as HTML: a line, a bar, and what failed."""
    look: Look = progress.status.value
    head = f'<span style="color:{look.colour};font-weight:600">{look.sign} {look.word}</span> '
    head += f"<b>{escape(progress.title)}</b> on {escape(progress.resource)}"
    line = " · ".join([head, *map(escape, _facts(progress))])
    notes = "".join(f"<div>{escape(note)}</div>" for note in _notes(progress))
    below = f'<div style="{_FAILURES}">{notes}</div>' if notes else ""
    return (
        f'<div style="{BOX.format(colour=look.colour)}"><div>{line}</div>{_html_bar(progress)}{below}</div>'
    )


def human_rate(rate: float) -> str:
    """Return a rate: ``4,200/s``, ``4.2/s``, ``12/min``, ``3/h``."""
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        value = rate * seconds
        if value >= 1 or unit == "h":
            break
    return f"{value:,.0f}/{unit}" if value >= 9.95 else f"{value:.2g}/{unit}"  # noqa: PLR2004 - two digits


def _facts(progress: Progress) -> Iterator[str]:
    ended = progress.done + progress.failed
    if progress.total is not None:
        yield f"{ended:,}/{progress.total:,}"
    else:
        yield "1 item" if ended == 1 else f"{ended:,} items"
    if progress.failed:
        yield f"{progress.failed:,} failed"
    if progress.kept:
        yield f"{progress.kept:,} from before"
    if progress.is_live:
        if progress.running:
            yield f"{progress.running:,} running"
        elif progress.queued:
            yield f"{progress.queued:,} queued"
    if progress.rate:
        yield human_rate(progress.rate)
    if not progress.is_live:
        yield human_time(progress.elapsed_s)
    elif progress.left_s is not None:
        yield f"{_round_time(progress.left_s)} left"
    if progress.cost:
        yield progress.cost
    if progress.note:
        yield progress.note


def _notes(progress: Progress) -> Iterator[str]:
    if progress.reason:
        yield _short(progress.reason)
    yield from map(str, progress.failures)
    more = progress.failed - len(progress.failures)
    if progress.failures and more:
        yield f"and {more:,} more in run.failures"


def _text_bar(progress: Progress) -> str:
    done, failed = (round(_CELLS * part) for part in _parts(progress))
    return "█" * done + "▒" * failed + "░" * (_CELLS - done - failed)


def _html_bar(progress: Progress) -> str:
    if progress.total is None or progress.status is MapStatus.COMPLETED:
        return ""
    done, failed = (100 * part for part in _parts(progress))
    colour = MapStatus.RUNNING.value.colour if progress.status is MapStatus.RUNNING else COMPLETED.colour
    parts = (
        _PART.format(percent=done, colour=colour),
        _PART.format(percent=failed, colour=FAILED.colour),
        _REST.format(percent=100 - done - failed),
    )
    return f'<div style="{_BAR}">' + "".join(f'<span style="{part}"></span>' for part in parts) + "</div>"


def _parts(progress: Progress) -> tuple[float, float]:
    """Return which parts of all items are done and failed."""
    total = progress.total or 1
    return progress.done / total, progress.failed / total


def _round_time(seconds: float) -> str:
    """Return a time to come, no finer than a second: it is a guess."""
    return human_time(max(1.0, float(round(seconds)))).replace(".0 ", " ")


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"


Show = Callable[[Progress], None]


def place() -> Show:
    """Return what shows a progress where the caller's output goes."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and hasattr(shell, "kernel"):
        display = outputs.Place("map")
        return lambda progress: display.show(render_html(progress), render_text(progress))
    if sys.stderr is not None and sys.stderr.isatty():
        return _InTerminal()
    return _nowhere


def _nowhere(progress: Progress) -> None:
    del progress


class _InTerminal:
    """One line of stderr, rewritten; its last form stays."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._width = 0

    def __call__(self, progress: Progress) -> None:
        if not progress.is_live:
            line, end = render_text(progress), "\n"
        else:
            columns = shutil.get_terminal_size().columns - 1
            line, end = render_line(progress)[:columns], ""
        first = line.partition("\n")[0]
        padding = " " * (self._width - len(first))
        self._width = len(first)
        self._stream.write("\r" + line.replace(first, first + padding, 1) + end)
        self._stream.flush()
