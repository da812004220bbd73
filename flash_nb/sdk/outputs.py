"""What a job prints and shows, brought to where its caller looks.

Text goes to ``sys.stdout`` and ``sys.stderr``: in a kernel these are real stream messages, so
``%%capture`` and saved notebooks work. Rich output needs IPython; without a running shell its
plain text is printed.
"""

from __future__ import annotations

import secrets
import sys
from typing import Any

from flash_nb.jobs import ClearEvent, DisplayEvent, JobEvent, PhaseEvent, StreamEvent


def show(event: JobEvent) -> None:
    """Print or display an event; events that only tell a state are passed over."""
    match event:
        case StreamEvent(name, text):
            stream = sys.stderr if name == "stderr" else sys.stdout
            stream.write(text)
        case DisplayEvent():
            _display(event)
        case ClearEvent(wait):
            _clear(wait)
        case PhaseEvent(phase) if phase.startswith("waiting:"):
            sys.stderr.write(f"flash_nb is {phase}\n")


class Place:
    """One display below the cell that makes it, updated in place; for a kernel.

    Args:
        kind: What it shows; the display's id begins with it.
        display_id: Of a display that is there already, to be updated. Default: it is made when first shown.
    """

    def __init__(self, kind: str, display_id: str = "") -> None:
        self.display_id = display_id or f"{kind}-{secrets.token_hex(8)}"
        self._is_there = bool(display_id)
        self._shown: dict[str, str] = {}

    def show(self, html: str, text: str, *, again: bool = False) -> None:
        """Show this now: display it at first or `again`, else update it if it has changed."""
        data = {"text/html": html, "text/plain": text}
        update = self._is_there and not again
        if update and data == self._shown:
            return
        self._shown, self._is_there = data, True
        _display(DisplayEvent(data, {}, display_id=self.display_id, update=update))


def show_text(text: str) -> None:
    """Print a line of our own."""
    sys.stdout.write(text)


def has_shell() -> bool:
    """True where IPython runs this code."""
    module = sys.modules.get("IPython.core.interactiveshell")
    return module is not None and bool(module.InteractiveShell.initialized())


def _display(event: DisplayEvent) -> None:
    if not has_shell():
        sys.stdout.write(str(event.data.get("text/plain", "")) + "\n")
        return
    from IPython.display import publish_display_data

    transient: dict[str, Any] = {"display_id": event.display_id} if event.display_id else {}
    publish_display_data(event.data, event.metadata, transient=transient, update=event.update)


def _clear(wait: bool) -> None:
    if has_shell():
        from IPython.display import clear_output

        clear_output(wait=wait)
