"""Definitions: the top-level functions and classes of a cell, and the names they need.

Which names a definition needs is read from its compiled code, nested code included: the compiler has
settled there what is local, what is global, and in which order a class body binds and reads.
"""

from __future__ import annotations

import __future__
import ast
import builtins
import dis
import io
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import CodeType
from typing import Literal

_Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_FUTURE_ANNOTATIONS = __future__.annotations.compiler_flag
_READS = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS", "DELETE_GLOBAL"}
_NOT_NEEDED = {*dir(builtins), "__annotations__"}  # a class body with annotations reads __annotations__


@dataclass(frozen=True, slots=True)
class Definition:
    r"""A function or class at the top level of a cell or file.

    Attributes:
        name: Its name.
        kind: What it is.
        is_async: Whether it is an ``async def``.
        source: Its lines as typed, decorators included.
        first_line: The number of the first of these lines, so that a traceback through
            ``compile("\n" * (first_line - 1) + source, …)`` shows the lines of the cell.
        last_line: The number of the last of them.
        eager: Names that executing the statement reads: decorators, defaults, bases, a class body.
        lazy: Names that its functions read as globals, once they are called.
        hints: Names in annotations that are not evaluated here, because of ``from __future__ import
            annotations`` or Python 3.14. Dataclasses and pydantic look some of them up, and an older
            Python evaluates them: send them where they exist, but do not miss them.
        imports: The modules that it imports inside, without relative ones.
        future_annotations: Whether it has to be compiled with ``from __future__ import annotations``.
    """

    name: str
    kind: Literal["function", "class"]
    is_async: bool
    source: str
    first_line: int
    last_line: int
    eager: frozenset[str]
    lazy: frozenset[str]
    hints: frozenset[str]
    imports: frozenset[str]
    future_annotations: bool


def find_definitions(source: str) -> Mapping[str, Definition]:
    """Find the functions and classes that a cell or file defines at its top level.

    Args:
        source: Plain Python; top-level ``await`` is fine.

    Returns:
        The definitions by name; of several with one name, the last.

    Raises:
        SyntaxError: The source is not Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cell itself shows the compiler's warnings when it runs
        tree = ast.parse(source)
        lines = _lines(source)
        future = _has_future_annotations(tree)
        return {node.name: _describe(node, lines, future) for node in tree.body if isinstance(node, _Node)}


def without_decorators(definition: Definition, matches: Callable[[ast.expr], bool]) -> Definition:
    """Drop the decorators that match.

    Blank lines stand in for them, and for comments directly below them, so that the line numbers stay.

    Args:
        definition: The definition to change.
        matches: Tells whether a decorator goes, e.g. `names_remote`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        node = ast.parse(definition.source).body[0]
    assert isinstance(node, _Node)
    lines = _lines(definition.source)
    starts = [_at_sign(decorator, lines) for decorator in node.decorator_list]
    for decorator, start, end in zip(node.decorator_list, starts, [*starts[1:], node.lineno], strict=True):
        if matches(decorator):
            lines[start - 1 : end - 1] = ["\n"] * (end - start)
    node.decorator_list = [decorator for decorator in node.decorator_list if not matches(decorator)]
    eager, lazy, hints = _names(node, definition.future_annotations)
    return replace(definition, source="".join(lines), eager=eager, lazy=lazy, hints=hints)
