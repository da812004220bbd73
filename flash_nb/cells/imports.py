"""Imports of a piece of code, by its syntax: what it asks for, wherever in it the statement stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Import:
    """A module that is imported.

    Attributes:
        module: Its absolute name.
        line: Where.
        is_guess: It may be no module: in ``from a import b``, ``a.b`` may be a name of ``a``.
        is_guarded: The code goes on without it, or only a type checker reads it.
        is_late: It stands in a function.
    """

    module: str
    line: int
    is_guess: bool = False
    is_guarded: bool = False
    is_late: bool = False


def imports_of(tree: ast.AST, package: str = "") -> Iterator[Import]:
    """Yield what is imported, functions included; relative imports only where the package is known.

    Args:
        tree: The code.
        package: The package that relative imports start from.
    """
    yield from _imports(tree, package, guarded=False, late=False)


def _imports(node: ast.AST, package: str, *, guarded: bool, late: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        for module, is_guess in _modules(node, package):
            yield Import(module, node.lineno, is_guess, guarded, late)
        return
    late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    may_miss = _may_miss(node)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, package, guarded=guarded or child in may_miss, late=late)


def _modules(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, bool]]:
    """Yield the modules of a statement, and whether each is a guess."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, False) for alias in node.names)
    elif module := _absolute(node, package):
        yield module, False
        yield from ((f"{module}.{alias.name}", True) for alias in node.names if alias.name != "*")


def _may_miss(node: ast.AST) -> Sequence[ast.AST]:
    """Return the parts of a statement whose imports may fail, or are not executed at all."""
    if isinstance(node, ast.Try) and node.handlers:
        return [*node.body, *node.handlers]
    if isinstance(node, ast.If) and _is_for_type_checkers(node.test):
        return node.body
    return ()


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """Return the absolute name of the module that names are taken from; empty if nothing says it."""
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    if node.level > len(parts):
        return ""
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])


def _is_for_type_checkers(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"
