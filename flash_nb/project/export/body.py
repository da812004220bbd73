"""Bodies: code that moves into a function, and imports that move into the functions that read them.

All of it edits text by the places that the parser gives: what is not changed stays as it was typed. Lines
inside a text of several lines are never indented: they are its value.
"""

from __future__ import annotations

import ast
import copy
import io
import tokenize
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from flash_nb.cells.definitions import names_of
from flash_nb.cells.syntax import nodes, parse
from flash_nb.project.export.program import Definition

INDENT = "    "

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_OPEN = frozenset({"FSTRING_START", "TSTRING_START"})
_CLOSE = frozenset({"FSTRING_END", "TSTRING_END"})


def indented(text: str, by: str = INDENT) -> str:
    """Return Python further in, but for lines inside texts of several lines."""
    inside = _lines_in_texts(text)
    lines = text.split("\n")
    return "\n".join(
        line if number in inside or not line.strip() else by + line for number, line in enumerate(lines, 1)
    )


def _lines_in_texts(text: str) -> set[int]:
    """Return the numbers of the lines that begin inside a text."""
    found: set[int] = set()
    opened: list[int] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text + "\n").readline):
            name = tokenize.tok_name[token.type]
            if name == "STRING":
                found.update(range(token.start[0] + 1, token.end[0] + 1))
            elif name in _OPEN:
                opened.append(token.start[0])
            elif name in _CLOSE and opened:
                found.update(range(opened.pop() + 1, token.end[0] + 1))
    except (tokenize.TokenError, SyntaxError):  # it has been parsed: cannot be
        pass
    return found


def reading_functions(node: Definition, flags: int) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """Yield the functions of a definition into which imports can go, with the globals that each reads."""
    if isinstance(node, _FUNCTIONS):
        bare = _bare(node)
        yield node, names_of(bare, flags=flags).lazy - declared_global(node)
        return
    for part in node.body:
        if isinstance(part, (*_FUNCTIONS, ast.ClassDef)):
            yield from reading_functions(part, flags)


def _bare(node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.stmt:
    """Return a function without decorators: they may hold lambdas that read names."""
    made = copy.copy(node)
    made.decorator_list = []
    return made


def declared_global(node: ast.AST) -> set[str]:
    """Return the names that code declares ``global``."""
    return {name for each in nodes(node) if isinstance(each, ast.Global) for name in each.names}


def with_prelude(source: str, flags: int, prelude: Callable[[frozenset[str]], Sequence[str]]) -> str:
    """Put lines at the beginning of the functions of a definition.

    Args:
        source: One definition, from the first column on.
        flags: The ``from __future__`` imports that hold for it.
        prelude: Gives the lines for a function that reads these globals.
    """
    lines = source.split("\n")
    node = parse(source).body[0]
    assert isinstance(node, (*_FUNCTIONS, ast.ClassDef))
    found = [(part, prelude(reads)) for part, reads in reading_functions(node, flags)]
    for function, added in sorted(found, key=lambda pair: -pair[0].lineno):  # type: ignore[attr-defined]
        if added:
            _insert(lines, function, added)
    return "\n".join(lines)


def _insert(lines: list[str], function: ast.AST, added: Sequence[str]) -> None:
    """Insert lines before the first statement of a function, but after its docstring."""
    assert isinstance(function, _FUNCTIONS)
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    is_docstring = is_docstring and isinstance(first.value.value, str)  # type: ignore[attr-defined]
    if is_docstring and len(function.body) > 1:
        first = function.body[1]
    decorators = getattr(first, "decorator_list", ())
    at = min([first.lineno, *(each.lineno for each in decorators)])
    column = first.col_offset
    before = lines[at - 1].encode()[:column].decode()
    while decorators and not lines[at - 1].lstrip().startswith("@"):
        at -= 1
    if before.strip() and at == first.lineno:  # ``def f(): return x``
        of = lines[function.lineno - 1]
        indent = of[: len(of) - len(of.lstrip())] + INDENT
        rest = lines[at - 1].encode()[column:].decode()
        new = [indented(text, indent) for text in added]
        lines[at - 1 : at] = [before.rstrip().rstrip(";"), *new, indent + rest]
        return
    own = lines[at - 1]
    lines[at - 1 : at - 1] = [indented(text, own[: len(own) - len(own.lstrip())]) for text in added]


def without_decorator(source: str, is_ours: Callable[[ast.expr], bool], instead: str) -> str:
    """Put a line in the place of the decorators that match; above all others if there is none.

    Args:
        source: One definition, with the comments above it.
        is_ours: Which decorators go.
        instead: The decorator that comes instead; empty for none.
    """
    lines = source.split("\n")
    node = parse(source).body[0]
    assert isinstance(node, (*_FUNCTIONS, ast.ClassDef))
    starts = []
    for each in node.decorator_list:
        line = each.lineno
        while not lines[line - 1].lstrip().startswith("@"):
            line -= 1
        starts.append(line)
    spans = [
        (start, end)
        for each, (start, end) in zip(node.decorator_list, pairwise([*starts, node.lineno]), strict=True)
        if is_ours(each)
    ]
    first = spans[0][0] if spans else min([node.lineno, *starts])
    for start, end in reversed(spans):
        comments = [line for line in lines[start - 1 : end - 1] if line.startswith("#")]
        lines[start - 1 : end - 1] = comments
    if instead:
        lines[first - 1 : first - 1] = instead.split("\n")
    return "\n".join(lines)


def is_docstring(node: ast.stmt) -> bool:
    """Tell whether a statement is a text that stands alone."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def as_function_body(source: str, *, value: str, own: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """Return the text of a cell as the body of a function, not indented yet.

    Args:
        source: Plain Python.
        value: The name that takes the value of its last expression; empty if that is dropped.
        own: Names that are variables of the function: ``global`` in its functions means them.

    Returns:
        The text, and the names that its functions declare global and that are no such variables.
    """
    lines = source.split("\n")
    tree = parse(source)
    edits: list[tuple[int, int, int, str]] = []
    foreign: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            is_nested = node not in tree.body
            foreign += [name for name in node.names if name not in own]
            end = node.end_col_offset or 0
            edits.append((node.lineno, node.col_offset, end, _nonlocal(node) if is_nested else "pass"))
        elif isinstance(node, ast.ImportFrom) and node.module == "__future__":
            edits.append((node.lineno, node.col_offset, node.end_col_offset or 0, "pass"))
            for number in range(node.lineno + 1, (node.end_lineno or node.lineno) + 1):
                lines[number - 1] = ""
    for node in tree.body:  # what ``%pip install`` has become
        if isinstance(node, ast.Pass) and len(tree.body) > 1 and lines[node.lineno - 1].strip() == "pass":
            lines[node.lineno - 1] = ""
    if value:
        last = tree.body[-1]
        edits.append((last.lineno, last.col_offset, last.col_offset, f"{value} = "))
    for line, start, end, text in sorted(edits, reverse=True):
        raw = lines[line - 1].encode()
        lines[line - 1] = raw[:start].decode() + text + raw[end:].decode()
    while lines and not lines[0].strip():
        lines.pop(0)
    while lines and not lines[-1].strip():
        lines.pop()
    return "\n".join(lines), tuple(foreign)


def _nonlocal(node: ast.Global) -> str:
    return f"nonlocal {', '.join(node.names)}"


def line_reading(node: ast.AST, name: str) -> int:
    """Return the line where a piece of code first reads a name."""
    lines = (
        each.lineno
        for each in nodes(node)
        if isinstance(each, ast.Name) and each.id == name and isinstance(each.ctx, ast.Load)
    )
    return min(lines, default=getattr(node, "lineno", 1))


def import_order(lines: Mapping[str, Sequence[str]]) -> list[str]:
    """Return lines that import, each once: modules before names of modules, as they are mostly sorted."""
    every = {line for each in lines.values() for line in each}
    return sorted(every, key=lambda line: (line.startswith("from "), line))
