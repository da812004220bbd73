"""Where the record of a job is shown."""

from __future__ import annotations

from IPython.core.interactiveshell import InteractiveShell

from flash_nb.notebook.record import JobView, render_html, render_text
from flash_nb.sdk.outputs import Place


class Record:
    """The record of one job: displayed once, then updated in place.

    A terminal cannot update what it has shown: there it is printed at the end.

    Args:
        live: Whether displays can be updated.
        display_id: Of a record that is shown already, to be updated. Default: it is shown anew.
    """

    def __init__(self, *, live: bool, display_id: str = "") -> None:
        self.live = live
        self._place = Place("flash", display_id)

    @classmethod
    def of(cls, shell: InteractiveShell, display_id: str = "") -> Record:
        """Make one for what shows the cells of a shell."""
        return cls(live=hasattr(shell, "kernel"), display_id=display_id)

    @property
    def display_id(self) -> str:
        """Its display's."""
        return self._place.display_id

    def __call__(self, view: JobView, *, again: bool = False) -> None:
        """Display it when first called or `again`, else update it."""
        if self.live:
            self._place.show(render_html(view), render_text(view), again=again)
        elif view.status.is_final:
            print(render_text(view))
