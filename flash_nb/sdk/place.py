"""Where code stands, as IPython says it: ``Cell In[3]``."""

from __future__ import annotations

import os
from pathlib import Path

from flash_nb.sdk.outputs import has_shell


def place(filename: str) -> str:
    """Return what people call the cell or file of a code's file name."""
    if has_shell():
        from IPython.core.interactiveshell import InteractiveShell

        label = InteractiveShell.instance().compile.format_code_name(filename)
        if label:
            return " ".join(label)
    return os.path.relpath(filename) if Path(filename).is_absolute() else filename
