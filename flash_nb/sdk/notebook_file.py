"""A notebook's file: its code cells, and nothing of it executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flash_nb.cells.reading import Cell
from flash_nb.errors import FlashError


def read_cells(path: Path) -> list[Cell]:
    """Return the code cells of a notebook file.

    Raises:
        FlashError: It is none, or not one in Python.
    """
    if not path.is_file():
        raise FlashError(f"There is no notebook {str(path)!r}.")
    try:
        document = _document(path.read_text(encoding="utf-8"))
        language = str(document["metadata"].get("kernelspec", {}).get("language", "python"))
        cells = [
            Cell(
                number,
                "".join(cell["source"]),  # a text, or a list of lines
                str(cell.get("id", "")),
                may_fail="raises-exception" in cell["metadata"].get("tags", ()),
            )
            for number, cell in enumerate(document["cells"], start=1)
            if cell["cell_type"] == "code"
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        is_plain = isinstance(error, (OSError, ValueError))
        reason = str(error).splitlines()[0].rstrip(".") if is_plain else "it has not the form of one"
        raise FlashError(f"{path.name} is not a notebook: {reason}.") from error
    if language.lower() not in {"python", "ipython", "python3"}:
        raise FlashError(f"{path.name} is a notebook in {language}: only Python can be checked.")
    return cells


def _document(text: str) -> Any:
    """Return a notebook in format 4.

    Its schema is not validated: that takes seconds, and all that a check needs it looks at itself.
    """
    document = json.loads(text)
    if document["nbformat"] < 4:  # noqa: PLR2004 - the format since 2015
        import nbformat

        return nbformat.convert(nbformat.from_dict(document), 4)
    return document
