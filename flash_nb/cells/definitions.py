"""Definitions: the top-level functions and classes of a cell, and the names they need.

Which names a definition needs is read from its compiled code, nested code included: the compiler has
settled there what is local, what is global, and in which order a class body binds and reads.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import dis
import inspect
import io
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import CodeType
from typing import Literal

from flash_nb.cells.imports import imports_of

_Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_When = Literal["eager", "lazy", "hint"]
_Names = dict[_When, set[str]]

_RUN_AT_ONCE = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<generic parameters of ")
_ALWAYS_THERE = {*dir(builtins), "__annotations__"}  # a class body with annotations reads the latter
_OPERATIONS = {
    # Since Python 3.11, one bit of the argument says something else.
    dis.opmap[name]: (name, int(name == "LOAD_GLOBAL" and sys.version_info >= (3, 11)))
    for name in (
        *("DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS", "LOAD_GLOBAL", "LOAD_NAME"),
        *("STORE_GLOBAL", "STORE_NAME"),
    )
    if name in dis.opmap
}
_POSTPONED = __future__.annotations.compiler_flag


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
        hints: Names in annotations that nothing evaluates here, because of ``from __future__ import
            annotations`` or Python 3.14. Dataclasses and pydantic look them up, and an older Python
            evaluates them: send those that exist, and do not miss the others.
        imports: Modules that it imports inside; relative imports are left out.
        flags: The ``from __future__`` imports that it has to be compiled with, as compiler flags.
        guesses: What may be a module that it imports: ``a.b`` for ``from a import b``.
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
    flags: int
    guesses: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one statement.

    Attributes:
        eager, lazy, hints: Names that it reads; as those of `Definition`.
        binds: Names of the module that it binds, also those that its functions declare global.
    """

    eager: frozenset[str]
    lazy: frozenset[str]
    hints: frozenset[str]
    binds: frozenset[str]

    @property
    def reads(self) -> frozenset[str]:
        """All that it reads."""
        return self.eager | self.lazy | self.hints


def names_of(*nodes: ast.stmt, flags: int = 0) -> Names:
    """Return the names that statements of the top level read and bind, as if they stood alone.

    What is read by functions and classes counts even if a statement above binds it.

    Args:
        nodes: The statements.
        flags: As of `find_definitions`.
    """
    binds: set[str] = set()
    names = _names(nodes, flags, binds)
    return Names(
        frozenset(names["eager"]),
        frozenset(names["lazy"]),
        frozenset(names["hint"]),
        frozenset(binds - _ALWAYS_THERE),
    )


def find_definitions(source: str, *, flags: int = 0) -> Mapping[str, Definition]:
    """Find the functions and classes that a cell or file defines at its top level.

    Args:
        source: Plain Python; top-level ``await`` is fine.
        flags: ``from __future__`` imports made by earlier cells, as compiler flags.

    Returns:
        The definitions by name; of several with one name, the last.

    Raises:
        SyntaxError: The source is not Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler says it again when the cell runs
        tree = ast.parse(source)
        flags |= _future_flags(tree)
        lines = _split(source)
        return {node.name: _describe(node, lines, flags) for node in tree.body if isinstance(node, _Node)}


def without_decorators(definition: Definition, matches: Callable[[ast.expr], bool]) -> Definition:
    """Drop the decorators that match, e.g. `names_remote`.

    Blank lines stand in for them, and for comments below them, so that the line numbers stay.
    """
    lines = _split(definition.source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        node = ast.parse(definition.source).body[0]
        assert isinstance(node, _Node)
        starts = [*(_at_sign(decorator, lines) for decorator in node.decorator_list), node.lineno]
        for decorator, (start, end) in zip(node.decorator_list, pairwise(starts), strict=True):
            if matches(decorator):
                lines[start - 1 : end - 1] = ["\n"] * (end - start)
        node.decorator_list = [decorator for decorator in node.decorator_list if not matches(decorator)]
        names = _names([node], definition.flags)
    return replace(
        definition,
        source="".join(lines),
        eager=frozenset(names["eager"]),
        lazy=frozenset(names["lazy"]),
        hints=frozenset(names["hint"]),
    )


def names_remote(decorator: ast.expr) -> bool:
    """Tell whether a decorator is one of ours: ``remote``, ``x.remote``, or a call of one of them.

    So is ``stand_in``: neither exists on a worker.
    """
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", None)
    return name in {"remote", "stand_in"}


def _describe(node: _Node, lines: list[str], flags: int) -> Definition:
    first = _at_sign(node.decorator_list[0], lines) if node.decorator_list else node.lineno
    last = node.end_lineno or node.lineno
    names = _names([node], flags)
    return Definition(
        name=node.name,
        kind="class" if isinstance(node, ast.ClassDef) else "function",
        is_async=isinstance(node, ast.AsyncFunctionDef),
        source="".join(lines[first - 1 : last]),
        first_line=first,
        last_line=last,
        eager=frozenset(names["eager"]),
        lazy=frozenset(names["lazy"]),
        hints=frozenset(names["hint"]),
        imports=frozenset(_imports(node)),
        flags=flags,
        guesses=frozenset(each.module for each in imports_of(node) if each.is_guess),
    )


def _split(source: str) -> list[str]:
    """Split into lines where the compiler does, unlike ``splitlines``; each ends with a newline."""
    lines = list(io.StringIO(source, newline=None))
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    return lines


def _at_sign(decorator: ast.expr, lines: list[str]) -> int:
    """Return the line of a decorator's ``@``: with brackets, its expression may start below."""
    line = decorator.lineno
    while not lines[line - 1].lstrip().startswith("@"):
        line -= 1
    return line


def _future_flags(tree: ast.Module) -> int:
    flags = 0
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            for alias in node.names:
                if alias.name in __future__.all_feature_names:  # the compiler reports the others
                    flags |= getattr(__future__, alias.name).compiler_flag
    return flags


def _imports(node: _Node) -> Iterator[str]:
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield child.module


def _names(nodes: Sequence[ast.stmt], flags: int, binds: set[str] | None = None) -> _Names:
    """Return the names that a definition reads, by when it reads them; add those that it binds to `binds`."""
    binds = set() if binds is None else binds
    names = _compiled_names(nodes, flags, binds)
    if flags & _POSTPONED:  # the annotations became strings: compile again, as if they had not
        evaluated = _compiled_names(nodes, flags & ~_POSTPONED, binds)
        names["hint"] |= set().union(*evaluated.values()) - names["eager"] - names["lazy"]
    return names


def _compiled_names(nodes: Sequence[ast.stmt], flags: int, binds: set[str]) -> _Names:
    code = compile(
        ast.Module([*nodes], []),
        "<definition>",
        "exec",
        flags=flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,  # a default may await
        dont_inherit=True,  # this module's own future imports
        optimize=0,  # keeps the names in assertions, whatever this process does
    )
    names: _Names = {"eager": set(), "lazy": set(), "hint": set()}
    bound, declared = _collect(code, "eager", names)
    binds |= bound | declared
    return {when: found - _ALWAYS_THERE for when, found in names.items()}


def _collect(
    code: CodeType, when: _When, names: _Names, class_names: Collection[str] = ()
) -> tuple[set[str], set[str]]:
    """Add the names that `code`, which runs at `when`, and the code nested in it read as globals.

    Args:
        code: What to read.
        when: When it runs.
        names: Where they are added.
        class_names: Names of the class around it, which type parameters and annotations see.

    Returns:
        The names that it binds itself, outside of functions, and those of the module that it, or what is
        nested in it, binds by ``global``.
    """
    bound: set[str] = set()
    declared: set[str] = set()
    for operation, name in named_operations(code):
        match operation:
            case "LOAD_GLOBAL" | "DELETE_GLOBAL":
                names[when].add(name)
            case "LOAD_NAME" if name not in bound:
                names[when].add(name)
            case "LOAD_FROM_DICT_OR_GLOBALS" if name not in class_names:
                names[when].add(name)
            case "STORE_NAME":
                bound.add(name)
            case "STORE_GLOBAL":
                declared.add(name)
    for nested in code.co_consts:
        if isinstance(nested, CodeType):
            declared |= _collect(nested, _runs(nested, when), names, bound)[1]
    return bound, declared


def named_operations(code: CodeType) -> Iterator[tuple[str, str]]:
    """Give what code does with names of the module or a class, each by `dis.opname`, in order.

    `dis.get_instructions` says the same and takes ten times as long: it describes each instruction.
    """
    steps = code.co_code if code.co_names else b""
    extended = 0
    for operation, argument in zip(steps[::2], steps[1::2], strict=True):
        argument |= extended  # noqa: PLW2901 - its upper bytes come before it
        extended = argument << 8 if operation == dis.EXTENDED_ARG else 0
        if operation in _OPERATIONS:
            name, shift = _OPERATIONS[operation]
            yield name, code.co_names[argument >> shift]


def _runs(nested: CodeType, around: _When) -> _When:
    """Return when a piece of code runs that is nested in one that runs at `around`."""
    if nested.co_name == "__annotate__":  # Python 3.14
        return "hint"
    is_class_body = not nested.co_flags & inspect.CO_NEWLOCALS
    if around == "eager" and not is_class_body and not nested.co_name.startswith(_RUN_AT_ONCE):
        return "lazy"
    return around
