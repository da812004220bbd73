"""The outlet of a job: how displays, values and items become events, in order with what was printed."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from . import display
from .frames import Buffer, Header
from .streams import Emit, StreamCapture


class Outlet:
    """Sends what a job shows and yields, after the text that came before it.

    What is displayed anywhere in the process goes to its newest outlet.

    Args:
        emit: Sends an event of the job that runs now.
        capture: What is printed.
    """

    def __init__(self, emit: Emit, capture: StreamCapture) -> None:
        self._emit = emit
        self._capture = capture
        display.install(self._send_display, capture.flush)

    def show_value(self, value: Any) -> None:
        """Show the value of a cell's last expression."""
        event = display.last_value_event(value)
        if event is not None:
            self._capture.flush()
            self._emit(event, ())

    def send_item(self, index: int, pickled: Buffer, as_json: Header) -> None:
        """Send what a generator yielded."""
        self._capture.flush()
        value = base64.b64encode(pickled).decode("ascii")
        self._emit({"type": "item", "index": index, "value": value, **as_json}, ())

    def _send_display(self, event: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Send what is displayed, unless a thread that an earlier job left behind displays it."""
        if self._capture.owns_thread():
            self._emit(event, buffers)
