"""Methods of a remote class, as its project's application has routes for them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from flash_nb.project.export.function import Parameter, parameters_in
from flash_nb.project.export.program import Program, Statement

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_PROPERTIES = frozenset({"cached_property", "deleter", "property", "setter"})


@dataclass(frozen=True)
class Method:
    """A public method.

    Attributes:
        name: Its name.
        parameters: Those that a call gives.
    """

    name: str
    parameters: tuple[Parameter, ...]


def methods_of(program: Program, statement: Statement) -> tuple[Method, ...]:
    """Return the public methods of a class of a notebook, its own first, then those of its bases there."""
    found: dict[str, Method | None] = {}
    for each in _family(program, statement, set()):
        assert isinstance(each.node, ast.ClassDef)
        for part in each.node.body:
            if isinstance(part, _FUNCTIONS) and part.name not in found:
                made = None
                words = _decorators(part)
                if not part.name.startswith("_") and _PROPERTIES.isdisjoint(words):
                    bound = 0 if "staticmethod" in words else 1
                    made = Method(part.name, parameters_in(program, part.args, each, bound=bound))
                found[part.name] = made
            elif isinstance(part, (ast.Assign, ast.AnnAssign)):
                targets = part.targets if isinstance(part, ast.Assign) else [part.target]
                found |= {each.id: None for each in targets if isinstance(each, ast.Name)} | found
    return tuple(method for method in found.values() if method is not None)


def needs_arguments(program: Program, statement: Statement) -> bool:
    """Tell whether an object of a class cannot be made without arguments, as far as the notebook says."""
    for each in _family(program, statement, set()):
        assert isinstance(each.node, ast.ClassDef)
        for part in each.node.body:
            if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                arguments = part.args
                wanted = len(arguments.posonlyargs) + len(arguments.args) - 1 - len(arguments.defaults)
                return wanted > 0 or None in arguments.kw_defaults
        if "dataclass" in _decorators(each.node):
            fields = (part for part in each.node.body if isinstance(part, ast.AnnAssign))
            if any(field.value is None and "ClassVar" not in ast.dump(field.annotation) for field in fields):
                return True
    return False


def _family(program: Program, statement: Statement, seen: set[int]) -> Iterator[Statement]:
    """Yield a class and its bases, as far as cells define them."""
    if not isinstance(statement.node, ast.ClassDef) or statement.order in seen:
        return
    seen.add(statement.order)
    yield statement
    for base in statement.node.bases:
        bound = program.in_force(base.id, statement.order) if isinstance(base, ast.Name) else None
        if bound is not None:
            yield from _family(program, bound, seen)


def _decorators(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> set[str]:
    """Return the last names of what decorates a definition."""
    called = (each.func if isinstance(each, ast.Call) else each for each in node.decorator_list)
    return {each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "") for each in called}
