"""A panel: widgets below a cell, for as long as they can be used.

A saved notebook must hold no view whose model is gone: it would say "model not found". So whatever ends a
panel (its own button, another one that takes over, ``%unload_ext``, the kernel's end) first replaces its
output by plain HTML, and then closes every model.
"""

from __future__ import annotations

import atexit
import contextvars
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import publish_display_data

if TYPE_CHECKING:
    from ipywidgets import Widget

VIEW = "application/vnd.jupyter.widget-view+json"

_open: list[Panel] = []


class Panel:
    """An output below the cell that makes it: plain, or with widgets in it.

    Its methods may be called in any thread, but not in two at once.

    Args:
        kind: What it is for; its display's id begins with it.
        on_close: Called when it is closed with all others, and is to close itself.
    """

    def __init__(self, kind: str, on_close: Callable[[], None]) -> None:
        self.display_id = f"{kind}-{secrets.token_hex(8)}"
        self.on_close = on_close
        self._is_there = False
        self._root: Widget | None = None
        self._others: tuple[Widget, ...] = ()
        self._context = contextvars.copy_context()

    @property
    def is_open(self) -> bool:
        """True while it shows widgets."""
        return self._root is not None

    def open(self, root: Widget, text: str, others: Iterable[Widget] = ()) -> None:
        """Show widgets.

        Args:
            root: What holds them.
            text: What a front end without widgets shows.
            others: Those that `root` may not hold when it is closed.
        """
        if not _open:
            atexit.unregister(close_panels)
            atexit.register(close_panels)  # last, so that it is called while the kernel can still send
        _open.append(self)
        self._root, self._others = root, (*others,)
        view = {"version_major": 2, "version_minor": 0, "model_id": root.model_id}
        self._publish({VIEW: view, "text/plain": text})

    def close(self, html: str = "", text: str = "") -> None:
        """Show plain HTML in place of the widgets, and close them; harmless if there are none."""
        root, self._root = self._root, None
        if root is None:
            return
        _open.remove(self)
        self._publish({"text/html": html, "text/plain": text})
        for model in {id(model): model for each in (root, *self._others) for model in _below(each)}.values():
            model.close()

    def _publish(self, data: dict[str, Any]) -> None:
        transient = {"display_id": self.display_id}
        update, self._is_there = self._is_there, True
        self._context.copy().run(publish_display_data, data, transient=transient, update=update)


def close_panels() -> None:
    """Close all that are open."""
    for panel in [*_open]:
        panel.on_close()


def has_person(shell: InteractiveShell) -> bool:
    """Say if somebody sees the running cell who can press a button.

    A front end for people allows a cell to ask for input; nbclient and its like do not. What they run is
    saved as it is at the end, so it must hold no widgets.
    """
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return False
    request = kernel.get_parent("shell")
    return bool(request.get("content", {}).get("allow_stdin"))


def _below(widget: Widget) -> Iterator[Widget]:
    """Yield a widget and all that it holds, layouts and styles too."""
    yield widget
    yield from (part for name in ("layout", "style") if (part := getattr(widget, name, None)) is not None)
    for child in getattr(widget, "children", ()):
        yield from _below(child)
