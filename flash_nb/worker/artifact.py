"""An artifact: the folder of a built project, from which a worker serves one endpoint."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OURS = ("PYTHONPATH", "MPLBACKEND")  # the engine sets them for code that jobs bring


def load(artifact: Mapping[str, str], name: str) -> Any:
    """Return what the artifact's handler file binds to a name.

    Args:
        artifact: ``folder``, and ``module``: the handler file without its ending.
        name: ``handler`` or ``app``.
    """
    enter(artifact["folder"])
    return getattr(importlib.import_module(artifact["module"]), name)


def enter(folder: str) -> None:
    """Have this process import from a folder, and else from its Python alone, as a deployed worker does.

    The cloudpickle that came with the worker's own code is forgotten: the artifact brings one, perhaps of
    another version, and both can live here since nothing looks ours up by name. (What the engine
    gets of an artifact's jobs is JSON; an exception that only cloudpickle can pickle goes as text.)
    """
    if sys.path[0] == folder:
        return
    forgotten = {"", str(Path.cwd()), str(Path(__file__).parent.parent)}
    sys.path[:] = [folder, *(place for place in sys.path if place not in forgotten)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "cloudpickle"]:
        del sys.modules[name]
    for variable in _OURS:
        os.environ.pop(variable, None)
    os.chdir(folder)
    importlib.invalidate_caches()
