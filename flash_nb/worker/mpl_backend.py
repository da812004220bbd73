"""Figures: a matplotlib backend that displays them in the notebook, as the inline backend does.

Select it with ``MPLBACKEND=`` `BACKEND`. Matplotlib is not imported before the user's code imports it,
so that this module can be asked for its name in a worker without it.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from .display import display

BACKEND = f"module://{__name__}"


def __getattr__(name: str) -> Any:
    """Give matplotlib the canvas that it looks for in a backend."""
    if name == "FigureCanvas":
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        # Matplotlib asks for it once, then copies what this module has.
        globals()[name] = FigureCanvasAgg
        return FigureCanvasAgg
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _manager_type() -> Any:
    from matplotlib._pylab_helpers import Gcf
    from matplotlib.backend_bases import FigureManagerBase

    class NotebookManager(FigureManagerBase):
        def show(self) -> None:
            """Display the figure and close it, so that the end of the cell does not show it again."""
            display(self.canvas.figure)
            Gcf.destroy(self)

    return NotebookManager


def new_figure_manager(num: int, *args: Any, FigureClass: Any = None, **kwargs: Any) -> Any:  # noqa: N803
    """Make a figure that pyplot knows by its number. Called by matplotlib."""
    from matplotlib.figure import Figure

    return new_figure_manager_given_figure(num, (FigureClass or Figure)(*args, **kwargs))


def new_figure_manager_given_figure(num: int, figure: Any) -> Any:
    """Make an existing figure one that pyplot knows. Called by matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    return _manager_type()(FigureCanvasAgg(figure), num)


def show(*_: object, **__: object) -> None:
    """Display all open figures and close them: ``plt.show()`` comes here."""
    from matplotlib._pylab_helpers import Gcf

    # Only ours: figures of another backend were chosen to stay out of the notebook.
    managers = [m for m in Gcf.get_all_fig_managers() if isinstance(m, _manager_type())]
    try:
        for manager in managers:
            manager.show()
    finally:
        for manager in managers:
            Gcf.destroy(manager)


def flush_figures() -> None:
    """Display the figures that a cell has left open. It costs nothing if pyplot was not imported."""
    if "matplotlib.pyplot" in sys.modules:
        show()
