"""What the items of a map print and display, brought below one cell.

Many items print at the same time, and there may be thousands of them. So a line is shown when it is
whole, behind the number of its item, and only as many as a person reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flash_nb.jobs import DisplayEvent, FinishedEvent, JobEvent, StreamEvent
from flash_nb.sdk import outputs

MOST_LINES = 200
MOST_DISPLAYS = 20
MOST_IN_LINE = 10_000  # characters; a longer line is shown in parts


class ItemOutput:
    """Shows what items print and display; called on one thread.

    Attributes:
        hidden: How many lines and displays were left out.
    """

    def __init__(self) -> None:
        self.hidden = 0
        self._lines = 0
        self._displays = 0
        self._begun: dict[tuple[int, str], str] = {}
        self._shown: set[str] = set()

    def take(self, index: int, event: JobEvent) -> None:
        """Show an event of an item."""
        match event:
            case StreamEvent(name, text):
                *lines, rest = (self._begun.pop((index, name), "") + text).split("\n")
                if len(rest) > MOST_IN_LINE:
                    lines, rest = [*lines, rest], ""
                if rest:
                    self._begun[index, name] = rest
                self._show_lines(index, name, lines)
            case DisplayEvent():
                self._show_display(index, event)
            case FinishedEvent():
                for name in ("stdout", "stderr"):
                    rest = self._begun.pop((index, name), "")
                    self._show_lines(index, name, [rest] if rest else [])

    def _show_lines(self, index: int, name: str, lines: Sequence[str]) -> None:
        room = max(0, MOST_LINES - self._lines)
        self._lines += len(lines)
        self.hidden += max(0, len(lines) - room)
        # Of what a progress bar has drawn over itself, the last is seen.
        seen = (line.rstrip("\r").rpartition("\r")[2] for line in lines[:room])
        text = "".join(f"[{index}] {line}\n" for line in seen)
        if text:
            outputs.show(StreamEvent(name, text))

    def _show_display(self, index: int, event: DisplayEvent) -> None:
        display_id = f"{event.display_id}-{index}" if event.display_id else None
        if event.update:
            if display_id in self._shown:
                outputs.show(replace(event, display_id=display_id))
            return
        self._displays += 1
        if self._displays > MOST_DISPLAYS:
            self.hidden += 1
            return
        if display_id:
            self._shown.add(display_id)
        outputs.show(StreamEvent("stdout", f"[{index}]\n"))
        outputs.show(replace(event, display_id=display_id))
