"""A reading: which names a function or statement reads, in one walk over its syntax.

Besides parsing, the walk is the bulk of what a scan does, so it is written to be quick: it looks only where
a name can be.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from flash_nb.cells.syntax import children

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass
class Reading:
    """What some code reads.

    Attributes:
        names: Names and dotted names, ``step`` or ``package.step``, in no order.
        bound: Names that the function binds itself; not those of functions inside it.
        imports: Import statements.
    """

    names: set[str] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)
    imports: list[ast.Import | ast.ImportFrom] = field(default_factory=list)


def read(node: ast.stmt) -> list[Reading]:
    """Return what a statement reads: of a class, what each method and the rest of its body do."""
    if not isinstance(node, ast.ClassDef):
        return [_read(node)]
    rest = Reading()
    for part in (*node.bases, *node.keywords, *node.decorator_list):
        _add(part, rest)
    return [rest, *(reading for statement in node.body for reading in read(statement))]


def _read(node: ast.stmt) -> Reading:
    reading = Reading()
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            reading.bound.add(argument.arg)
        reading.bound.update(each.arg for each in (arguments.vararg, arguments.kwarg) if each)
        # What decorates it is no part of what it does.
        for part in (*arguments.defaults, *filter(None, arguments.kw_defaults), *node.body):
            _add(part, reading)
    else:
        _add(node, reading)
    return reading


def _add(root: ast.AST, reading: Reading) -> None:
    shared: set[str] = set()
    inside: list[ast.AST] = []  # functions in it, whose own names are not the outer one's
    waiting = [root]
    while waiting or inside:
        is_own = bool(waiting)
        node = waiting.pop() if is_own else inside.pop()
        kind = type(node)
        if kind is ast.Name:
            if isinstance(node.ctx, ast.Load):  # type: ignore[attr-defined]
                reading.names.add(node.id)  # type: ignore[attr-defined]
            elif is_own:
                reading.bound.add(node.id)  # type: ignore[attr-defined]
            continue
        if kind is ast.Attribute and (name := dotted(node)):
            reading.names.add(name)
            continue
        if kind is ast.Import or kind is ast.ImportFrom:
            reading.imports.append(node)  # type: ignore[arg-type]
            continue
        if kind is ast.Global:
            shared.update(node.names)  # type: ignore[attr-defined]
            continue
        (waiting if is_own and kind not in _FUNCTIONS else inside).extend(children(node))
    reading.bound -= shared


def dotted(node: ast.AST) -> str:
    """Return ``a.b.c`` for names and attributes of names; empty for anything else."""
    words: list[str] = []
    while isinstance(node, ast.Attribute):
        words.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    words.append(node.id)
    return ".".join(reversed(words))
