"""What an exception says: its type, its message, its traceback as text.

Only the standard library: deployed code says it in the same words, see `flash_nb.project.handlers`.
"""

from __future__ import annotations

import traceback
from pathlib import Path

_ISLAND = str(Path(__file__).parent)


def formatted(error: BaseException) -> str:
    """Return the traceback as text, without our own frames at its beginning."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_ISLAND):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def type_of(error: BaseException) -> str:
    """Return the name of an error's type, with its module unless that is Python's own or of the island."""
    kind = type(error)
    is_known = kind.__module__ == "builtins" or kind.__module__.startswith(f"{__package__}.")
    return kind.__qualname__ if is_known else f"{kind.__module__}.{kind.__qualname__}"


def message(error: BaseException) -> str:
    """Return what an error says."""
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - __str__ of a user's class may raise anything
        return f"<its __str__ raised {type(broken).__name__}>"
