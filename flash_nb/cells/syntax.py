"""Syntax: a text parsed once, and quick walks over its tree. Parsing and walking are most of an analysis."""

from __future__ import annotations

import ast
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

_NO_NODES = frozenset(
    {
        "arg",
        "asname",
        "attr",
        "conversion",
        "ctx",
        "id",
        "is_async",
        "kind",
        "kwd_attrs",
        "level",
        "module",
        "op",
        "ops",
        "rest",
        "simple",
        "type_comment",
        "type_ignores",
    }
)
_LEAVES: frozenset[type[ast.AST]] = frozenset(
    {ast.Break, ast.Constant, ast.Continue, ast.Global, ast.Nonlocal, ast.Pass, ast.alias}
)
_parts: dict[type[ast.AST], tuple[str, ...]] = {}


@lru_cache(maxsize=8)  # what looks at a cell asks for its tree several times in a row
def parse(source: str) -> ast.Module:
    """Return the tree of a cell. It is shared: change a copy.

    The compiler's warnings are dropped: the run shows them.

    Raises:
        SyntaxError: It is not Python.
        ValueError: It holds null bytes, or it is nested too deep (also `RecursionError`, `MemoryError`).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = compile(source, "<cell>", "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree


@contextmanager
def without_collection() -> Iterator[None]:
    """Let many trees be made without a look for cycles among them: that takes longer than parsing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes right below one, those without names left out."""
    kind = type(node)
    parts = _parts.get(kind)
    if parts is None:
        parts = () if kind in _LEAVES else tuple(name for name in kind._fields if name not in _NO_NODES)
        _parts[kind] = parts
    found: list[ast.AST] = []
    for part in parts:
        value = getattr(node, part, None)
        if isinstance(value, ast.AST):
            found.append(value)
        elif isinstance(value, list) and value:
            found += [each for each in value if isinstance(each, ast.AST)]
    return found


def nodes(root: ast.AST) -> Iterator[ast.AST]:
    """Give a node and all below it that can hold names, in no order."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += children(node)
