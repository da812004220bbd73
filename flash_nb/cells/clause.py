"""The clause of ``%%flash_map``: ``x in xs``, as in a ``for`` statement."""

from __future__ import annotations

import ast
import re
import types
import warnings
from dataclasses import dataclass
from typing import Any

_BEFORE = "[0 for "
_OPTION = re.compile(r"\s(?=-r\b|--[a-z])")


class ClauseError(ValueError):
    """The clause makes no sense; one sentence says why."""


@dataclass(frozen=True)
class Clause:
    """What an item is called, and where the items come from.

    Attributes:
        text: Both, as typed.
        names: The names that each item binds.
        target: The code that binds them to the value of `VALUE`.
        iterable: The expression of the items.
    """

    text: str
    names: tuple[str, ...]
    target: types.CodeType
    iterable: ast.expr

    def bind(self, item: Any) -> dict[str, Any]:
        """Return the names of an item with their values.

        Raises:
            TypeError, ValueError: It cannot be unpacked.
        """
        names: dict[str, Any] = {VALUE: item}
        exec(self.target, names)  # noqa: S102 - an assignment, made below
        return {name: names[name] for name in self.names}

    def compiled(self, filename: str, column: int) -> types.CodeType:
        """Return the code of the expression, as it stands in the first line of a cell.

        Args:
            filename: The cell's.
            column: Where the clause begins in that line.

        Raises:
            ClauseError: It awaits or yields.
        """
        expression = ast.Expression(self.iterable)
        for node in ast.walk(expression):
            if isinstance(node, ast.expr):
                node.col_offset += column - len(_BEFORE)
                node.end_col_offset = (node.end_col_offset or 0) + column - len(_BEFORE)
        try:
            return compile(expression, filename, "eval", dont_inherit=True)
        except SyntaxError as error:
            raise ClauseError(f"{self.text!r}: {error.msg}; make the items in a cell before") from None


VALUE = "__item__"


def split(line: str) -> tuple[str, str]:
    """Return the clause at the beginning of a line, and the options behind it.

    The clause is Python and may hold whatever options begin with: it is the shortest that is complete.
    """
    for option in _OPTION.finditer(line):
        if _comprehension(line[: option.start()]) is not None:
            return line[: option.start()].strip(), line[option.end() :].strip()
    return line.strip(), ""


def parse(text: str) -> Clause:
    """Return a clause.

    Raises:
        ClauseError: It is none.
    """
    found = _comprehension(text)
    if found is None or found.is_async:
        raise ClauseError(f"{text!r} is not like `x in xs`" if text else "say what each item is: x in xs")
    if found.ifs:
        raise ClauseError(f"{text!r} has an `if`: filter the items, as in `x in [x for x in xs if …]`")
    _check_target(found.target)
    names = tuple(node.id for node in ast.walk(found.target) if isinstance(node, ast.Name))
    if not names:
        raise ClauseError(f"{text!r} gives the item no name")
    assignment = ast.Assign([found.target], ast.Name(VALUE, ast.Load()))
    module = ast.fix_missing_locations(ast.Module([assignment], []))
    return Clause(text, names, compile(module, "<item>", "exec"), found.iter)


def _comprehension(text: str) -> ast.comprehension | None:
    """Return what ``for`` would make of a text; None if that is not one loop."""
    if "\n" in text:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler says it again
            tree = ast.parse(f"{_BEFORE}{text.strip()}]", mode="eval").body
    except (SyntaxError, ValueError):
        return None
    if isinstance(tree, ast.ListComp) and len(tree.generators) == 1:
        return tree.generators[0]
    return None


def _check_target(target: ast.expr) -> None:
    for node in ast.walk(target):
        if not isinstance(node, (ast.Name, ast.Tuple, ast.List, ast.Starred, ast.expr_context)):
            raise ClauseError(f"{ast.unparse(target)} cannot name an item: give names, as in `a, b in pairs`")
