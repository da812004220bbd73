"""Places in a notebook, as an export names them."""

from __future__ import annotations

from flash_nb.cells.reading import Cell
from flash_nb.project.declared import Place


def place_of(notebook: str, cell: Cell, line: int) -> Place:
    """Return a line of a cell as a place: ``train.ipynb, cell 7 (cell-06):3``."""
    shown_id = f" ({cell.id})" if cell.id else ""
    return Place(f"{notebook}, cell {cell.number}{shown_id}", line)
