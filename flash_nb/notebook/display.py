"""Where the record of a job is shown."""

from __future__ import annotations

from flash_nb.notebook.record import JobView, render_html, render_text
from flash_nb.sdk.outputs import Place


class Record:
    """The record of one job: displayed once, then updated in place.

    A terminal cannot update what it has shown: there it is printed at the end.

    Args:
        live: Whether displays can be updated.
    """

    def __init__(self, *, live: bool) -> None:
        self.live = live
        self._place = Place("flash")

    def __call__(self, view: JobView, *, again: bool = False) -> None:
        """Display it when first called or `again`, else update it."""
        if self.live:
            self._place.show(render_html(view), render_text(view), again=again)
        elif view.status.is_final:
            print(render_text(view))
