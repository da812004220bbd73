"""``asyncio.run(main())`` at the top level of a cell, as pasted from a script.

A kernel's loop is running already, so the call would fail. It means ``await main()`` there, and is
rewritten to it before IPython looks at the cell. The text keeps its length and its lines, so that
tracebacks point where they should: ``asyncio.run(main())`` becomes ``(await      main())``.

Calls inside functions are left alone: their function is not a coroutine.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def rewrite(lines: list[str]) -> list[str]:
    """Return a cell's lines with top-level ``asyncio.run(x)`` as ``(await x)``."""
    source = "".join(lines)
    if "asyncio" not in source:
        return lines
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return lines  # IPython reports it
    rows = [line.encode() for line in lines]
    for call in _calls(tree):
        _rewrite_call(rows, call)
    return [row.decode() for row in rows]


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _SCOPES):
            continue
        if isinstance(child, ast.Call) and _is_asyncio_run(child):
            yield child
        yield from _calls(child)


def _is_asyncio_run(call: ast.Call) -> bool:
    function = call.func
    return (
        isinstance(function, ast.Attribute)
        and function.attr == "run"
        and isinstance(function.value, ast.Name)
        and function.value.id == "asyncio"
        and len(call.args) == 1
        and not call.keywords
        and not isinstance(call.args[0], ast.Starred)
    )


def _rewrite_call(rows: list[bytes], call: ast.Call) -> None:
    """Replace ``asyncio.run(``, where it stands on one line, by as many bytes."""
    row, start = call.func.lineno - 1, call.func.col_offset
    end = rows[row].find(b"(", call.func.end_col_offset)
    if call.func.end_lineno == call.func.lineno and end >= 0:
        opening = b"(await".ljust(end + 1 - start)
        rows[row] = rows[row][:start] + opening + rows[row][end + 1 :]
        _blank_trailing_comma(rows, call)


def _blank_trailing_comma(rows: list[bytes], call: ast.Call) -> None:
    """Take out the comma after the argument: in parentheses it would make a tuple."""
    argument = call.args[0]
    assert argument.end_lineno is not None
    assert call.end_lineno is not None
    start = argument.end_col_offset
    for row in range(argument.end_lineno - 1, call.end_lineno):
        end = call.end_col_offset if row == call.end_lineno - 1 else None
        comma = rows[row].find(b",", start, end)
        if comma >= 0:
            rows[row] = rows[row][:comma] + b" " + rows[row][comma + 1 :]
        start = 0
