"""The names of a cell: what it needs from outside, what it leaves behind, what it imports.

`plan_cell` walks the syntax tree once, in the order in which Python evaluates it, with two things in
hand. The *scope* says whose a name is: the module's, a class's, a function's. The *flow* says what is
sure at this point of a run; branches copy it, and where they meet again their flows are joined.

Code of functions runs later, so its reads of module names are kept with the function and judged
when it may first run: where something mentions the function's name, at once if it is handed to
somebody (a decorator, a call, a base class), and at the end of the cell. So functions may use what
is only defined further down.

Where the text cannot tell, a name is rather an input or an output too many than one too few. Taken
on trust: a `with` block runs to its end unless its context manager is known to swallow exceptions
(otherwise whatever is bound in `with open(…)` would be uncertain after it); no decorator or base
class asks for the name of what it is just making (otherwise every decorated recursive function
would be an input of its own cell); no names are bound by ``exec``, ``globals()`` or star imports.
"""

from __future__ import annotations
import __future__

import ast
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from inspect import CO_COROUTINE

from flash_nb.cells.syntax import parse
from flash_nb.cells.walk import PROVIDED_NAMES, Read, Walk, last_name

__all__ = ["PROVIDED_NAMES", "CellPlan", "Read", "plan_cell"]

_LAZY_ANNOTATIONS = sys.version_info >= (3, 14)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


@dataclass(frozen=True, slots=True)
class CellPlan:
    """What a cell's text says about its names.

    Attributes:
        inputs: Known names that the cell may read before it has surely bound them itself. Sorted.
        outputs: Names that the cell binds and that may exist at its end. Sorted.
        imports: Absolute modules that it imports anywhere, functions included. Sorted.
        reads: The first eager read of every name that the cell may not have bound by then, else the
            first read in a function; in source order. Builtins and `PROVIDED_NAMES` only where known.
        undefined: Of each name that surely does not exist, the first read. In source order.
        definitions: Its top-level functions and classes, in source order.
        defines_only: It has definitions, and apart from them only imports and constants.
        is_async: Its top level awaits.
        only_defined: Outputs bound by one top-level definition and by nothing else. Sorted.
        only_imported: Outputs bound by import statements and by nothing else. Sorted.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    imports: tuple[str, ...]
    reads: Mapping[str, Read]
    undefined: tuple[Read, ...]
    definitions: tuple[str, ...]
    defines_only: bool
    is_async: bool
    only_defined: tuple[str, ...]
    only_imported: tuple[str, ...]


def plan_cell(source: str, known: Iterable[str] = ()) -> CellPlan:
    """Find out which names a cell needs and leaves behind.

    Args:
        source: The cell as plain Python; ``await`` is allowed at its top level.
        known: Names that exist in the notebook.

    Raises:
        SyntaxError: It is not Python.
    """
    tree, flags = _parse(source)
    known = frozenset(known)
    walk = Walk(lazy_annotations=_LAZY_ANNOTATIONS or bool(flags & __future__.annotations.compiler_flag))
    walk.run(tree)
    definitions = tuple(dict.fromkeys(node.name for node in tree.body if isinstance(node, _DEFINITIONS)))
    reads = walk.reads(known)
    outputs = sorted(walk.outputs())
    return CellPlan(
        inputs=tuple(sorted(known.intersection(reads))),
        outputs=tuple(outputs),
        imports=tuple(sorted(walk.modules)),
        reads=reads,
        undefined=walk.undefined(known),
        definitions=definitions,
        defines_only=bool(definitions) and all(map(_only_declares, tree.body)),
        is_async=bool(flags & CO_COROUTINE),
        only_defined=tuple(name for name in outputs if name in definitions and walk.bound[name] == 1),
        only_imported=tuple(name for name in outputs if walk.imported.get(name) == walk.bound[name]),
    )


def _parse(source: str) -> tuple[ast.Module, int]:
    """Return the tree and the flags of the compiled code."""
    tree = parse(source)
    # Without dont_inherit this module's own `from __future__` would hold for the cell.
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with warnings.catch_warnings():  # the run will show them
        warnings.simplefilter("ignore")
        # Only the compiler finds `return` outside a function and its like. It gets the text because
        # it takes deeper text than trees.
        code = compile(source, "<cell>", "exec", flags, dont_inherit=True)
    return tree, code.co_flags


def _only_declares(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        is_typing = last_name(node.test) == "TYPE_CHECKING"
        return is_typing and not node.orelse and all(isinstance(child, _IMPORTS) for child in node.body)
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, (*_DEFINITIONS, *_IMPORTS, ast.Pass))
