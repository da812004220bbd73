"""A traceback as the author of a project reads it: from the first line of the project on."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

from flash_nb.errors import FlashError
from flash_nb.project.serve.files import is_of


def shown(error: BaseException, root: Path) -> str:
    """Return the traceback of an error from the project's first frame on; empty if it has none.

    What follows its last frame is left out if the error is ours: it adds nothing to the sentence.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [index for index, frame in enumerate(frames) if is_of(root, Path(frame.filename))]
    if not own:
        return ""
    last = own[-1] + 1 if isinstance(error, FlashError) else len(frames)
    told = traceback.TracebackException.from_exception(error)
    told.stack = traceback.StackSummary.from_list(frames[own[0] : last])
    return "".join(told.format())


class Shortening(logging.Filter):
    """Shortens the tracebacks in a log; nothing is kept back.

    Args:
        root: The project's folder.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the traceback of a record, if it has one."""
        if record.exc_info and isinstance(record.exc_info[1], BaseException):
            record.exc_text = shown(record.exc_info[1], self._root).rstrip() or None
        return True
