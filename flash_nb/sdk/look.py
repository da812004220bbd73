"""How the states of work look to people: a sign, a word and a colour; and durations and sizes.

The colours are middle tones, readable on light and on dark. They are not the theme's own
``var(--jp-…)``: JupyterLab's sanitizer removes those from a notebook that is not trusted. A state is
always a word and a sign too, never a colour alone.
"""

from __future__ import annotations

from dataclasses import dataclass

BLUE = "#1f7fd6"
GREEN = "#27904a"
RED = "#dc4c3f"
AMBER = "#c2701c"


@dataclass(frozen=True)
class Look:
    """How a state looks."""

    sign: str
    word: str
    colour: str


QUEUED = Look("○", "queued", BLUE)
RUNNING = Look("◐", "running", BLUE)
COMPLETED = Look("✓", "completed", GREEN)
FAILED = Look("✗", "failed", RED)
CANCELLED = Look("⊘", "cancelled", AMBER)
TIMED_OUT = Look("◷", "timed out", RED)

BOX = "border-left:3px solid {colour};padding:1px 0 1px 10px;margin:2px 0;font-size:13px;line-height:1.6"
"""The style of a record below a cell."""


def human_time(seconds: float) -> str:
    """Return a duration: ``4 ms``, ``0.4 s``, ``42 s``, ``5 min``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 0.0995:  # noqa: PLR2004 - from here on it rounds to 0.1 s
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:  # noqa: PLR2004 - two digits
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min")] if hours else [(minutes, "min"), (rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def human_size(size: int) -> str:
    """Return a size in decimal units: ``512 B``, ``7.0 MB``, ``780 MB``."""
    if size < 1000:  # noqa: PLR2004 - the step of decimal units
        return f"{size} B"
    value = float(size)
    for unit in ("KB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":  # noqa: PLR2004 - from here on it would round to 1000
            break
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"  # noqa: PLR2004 - two digits
