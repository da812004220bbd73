"""What a cell's text says: its names, its definitions, its imports. Pure analysis, no IO.

::

    clause          what ``%%flash_map`` runs over: ``x in xs``
    definitions     the top-level functions and classes of a cell, and the names they need
    finding         what a preflight says of a cell: a line, a message, a fix
    magic_line      the line of ``%%flash_remote`` below comments, and the digest of a cell
    options         … and what it says
    plan            the names that a cell reads and binds, and what has to travel with it
    preflight       what is wrong with a cell's text: missing names, forgotten awaits, written secrets
    reading         a cell of a notebook file as Python, with its magic line
    requirements    imported modules -> the PyPI requirements that a worker installs
    secret          names that say that they hold a secret, and texts that have the form of one
    shell           IPython's ``!command`` and ``%pip install`` -> plain Python
    syntax          a text parsed once, and quick walks over its tree

The text of a cell goes through `translate` first; everything else here reads plain Python.

Names are imported on first use: a session that runs no cell does not pay for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .definitions import Definition, find_definitions, names_remote, without_decorators
    from .plan import CellPlan, Read, plan_cell
    from .requirements import Inferred, infer, merge
    from .shell import Translated, translate

__all__ = [
    "CellPlan",
    "Definition",
    "Inferred",
    "Read",
    "Translated",
    "find_definitions",
    "infer",
    "merge",
    "names_remote",
    "plan_cell",
    "translate",
    "without_decorators",
]

_MODULES = {
    "CellPlan": "plan",
    "Definition": "definitions",
    "Inferred": "requirements",
    "Read": "plan",
    "Translated": "shell",
    "find_definitions": "definitions",
    "infer": "requirements",
    "merge": "requirements",
    "names_remote": "definitions",
    "plan_cell": "plan",
    "translate": "shell",
    "without_decorators": "definitions",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
