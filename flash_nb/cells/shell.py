"""IPython's syntax in the body of a remote cell: shell commands and ``%pip install`` -> plain Python.

The text is walked statement by statement, so that strings, brackets and continued lines are left alone.
A worker has no IPython: a magic that cannot be translated is refused here, before anything is sent.
"""

from __future__ import annotations

import ast
import re
import shlex
import tokenize
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from flash_nb.cells.syntax import parse
from flash_nb.errors import CellError, UnsupportedMagicError
from flash_nb.worker.shell import SHELL

"""The function that the worker provides: ``(command, *, capture=False)``."""

_NAME = r"[^\W\d]\w*"
_SPECIAL = re.compile(r"!|%%?[^\W\d]|\?|[\w.*]+(\[-?\d+\])*\?\??\s*$")
_ASSIGNED = re.compile(r"=\s*(?=!|%\w)")
_EXPANDED = re.compile(
    rf"""\{{\{{ | \}}\}} | \$\$(?=\w)         # stand for {{, }} and $
       | \$(?P<name>{_NAME}(\.{_NAME})*)
       | \$\{{(?P<braced>{_NAME})\}}
       | \$\{{[^{{}}]*\}}                   # ${{name:-default}} is the shell's
       | [{{}}]""",
    re.VERBOSE,
)
_INSTALL = re.compile(
    r"""(("?\{sys\.executable\}"?|python[\d.]*)\s+-m\s+)?  # python -m pip install
        (uv\s+)?pip[\d.]*\s+install\b(?P<arguments>.*)""",
    re.VERBOSE,
)
# They tell pip how to install, not what.
_IGNORED_FLAGS = {"-q", "-qq", "-qqq", "-U", "-qU", "-Uq", "--quiet", "--upgrade"}
_IGNORED_FLAGS |= {"--user", "--system", "--no-cache-dir", "--disable-pip-version-check"}
_HINTS = {
    "bash": "Write each command on a line of its own: !command",
    "cd": "Use os.chdir(…).",
    "conda": "A worker installs from PyPI: use %pip install.",
    "env": "Use os.environ[…] = …",
    "mamba": "A worker installs from PyPI: use %pip install.",
    "matplotlib": "Remove the line: a remote cell shows its figures without it.",
    "pip": "Only `%pip install` works in a remote cell; for the rest, try !pip.",
    "sh": "Write each command on a line of its own: !command",
    "uv": "Only `%uv pip install` works in a remote cell; for the rest, try !uv.",
}
_HINT = "Move it to a cell that runs here, or write it as plain Python."


@dataclass(frozen=True, slots=True)
class Translated:
    """A cell's text as plain Python.

    Attributes:
        source: The text, with as many lines as before.
        dependencies: What its ``%pip install`` lines ask for, in their order.
    """

    source: str
    dependencies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement that is not Python.

    Attributes:
        line: The number of its first line.
        before: What stays as it is: the indentation, or ``v = ``.
        text: The rest, in one line.
    """

    line: int
    before: str
    text: str

    @property
    def is_assigned(self) -> bool:
        """Whether its value goes somewhere."""
        return "=" in self.before

    def refuse(self, reason: str, hint: str) -> NoReturn:
        """Raise `UnsupportedMagicError`, with the line as typed."""
        text = (self.before + self.text).strip()
        error = UnsupportedMagicError(f"Line {self.line}, {text!r}: {reason}.", hint=hint)
        error.line = self.line
        raise error from None


def translate(source: str, *, known: Collection[str] = ()) -> Translated:
    """Turn IPython's syntax into Python. Plain Python, broken or not, comes back as it is.

    ``!command`` becomes a call of `SHELL`. As in IPython, ``{expression}`` in a command is Python. So is
    ``$name`` where the name is known; any other ``$NAME`` is left to the shell.

    Args:
        source: The body of a cell.
        known: Python names that exist before the cell runs. Those that it binds itself are found.

    Raises:
        UnsupportedMagicError: It uses a magic that a worker cannot run.
    """
    if _parse(source):
        return Translated(source)
    translated = _translate(source, known)
    tree = _parse(translated.source)
    if tree and "$" in source:  # only now can Python tell what the cell binds
        return _translate(source, {*known, *_bound_names(tree)})
    return translated


def without_magics(source: str) -> tuple[str, frozenset[str]]:
    """Return a cell that runs here as plain Python, for analysis, and the line magics that it uses.

    Lines that are not Python are blanked, and every line keeps its number; ``x = %magic`` still binds
    ``x``, and the statement after ``%time`` stays.
    """
    if _parse(source):
        return source, frozenset()
    magics: set[str] = set()

    def python_of(statement: _Statement) -> str:
        found = re.match(r"%([^\W\d]\w*)\s*(.*)", statement.text)
        if found:
            magics.add(found[1])
        if found and found[1] == "time" and _parse(found[2]):
            return found[2] or "pass"
        return "None" if statement.is_assigned else "pass"

    return _as_python(source, python_of), frozenset(magics)


def _parse(source: str) -> ast.Module | None:
    try:
        return parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # e.g. null bytes, deep nesting
        return None


def _bound_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that are bound anywhere in a cell."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name.partition(".")[0]


def _translate(source: str, known: Collection[str]) -> Translated:
    dependencies: list[str] = []

    def python_of(statement: _Statement) -> str:
        wanted = _requirements(statement)
        dependencies.extend(wanted or ())
        return _shell_call(statement, known) if wanted is None else "pass"

    return Translated(_as_python(source, python_of), tuple(dependencies))


def _as_python(source: str, python_of: Callable[[_Statement], str]) -> str:
    """Return a text with Python in place of each statement that is none; every line keeps its number."""
    lines = source.split("\n")
    start = 0
    while start < len(lines):
        end = _end_of_continued(lines, start)
        statement = _special(lines[start:end], start + 1)
        if statement is None:
            start = _end_of_statement(lines, start)
            continue
        lines[start:end] = [statement.before + python_of(statement), *[""] * (end - start - 1)]
        start = end
    return "\n".join(lines)


def _end_of_continued(lines: Sequence[str], start: int) -> int:
    """Return the index after a line and those that it goes on with by backslashes."""
    while start < len(lines) - 1 and lines[start].rstrip("\r").endswith("\\"):
        start += 1
    return start + 1


def _end_of_statement(lines: Sequence[str], start: int) -> int:
    """Return the index after the Python statement, or its first clause, that starts at a line."""
    if lines[start].strip() == "" or lines[start].lstrip().startswith("#"):
        return start + 1
    text = (f"{line}\n" for line in lines[start:])
    try:
        for token in tokenize.generate_tokens(lambda: next(text, "")):
            if token.type == tokenize.NEWLINE:
                return start + token.end[0]
    except (tokenize.TokenError, SyntaxError, ValueError):
        pass  # a bracket or string is never closed: the rest is for Python to complain about
    return len(lines)


def _special(lines: Sequence[str], number: int) -> _Statement | None:
    """Return the statement in `lines`, continued ones, if it is not Python."""
    first = lines[0]
    indent = len(first) - len(first.lstrip())
    if _SPECIAL.match(first, indent):
        at = indent
    else:
        ends = (match.end() for match in _ASSIGNED.finditer(first))
        at = next((end for end in ends if _is_assignment(first[:end])), -1)
    if at < 0:
        return None
    pieces = [line.rstrip().removesuffix("\\") for line in [first[at:], *lines[1:]]]
    return _Statement(number, first[:at], " ".join(pieces))


def _is_assignment(before: str) -> bool:
    """Tell whether a text is complete up to the value that it assigns, as ``v = `` is."""
    tree = _parse(f"{before.lstrip()}{SHELL}")
    match tree.body if tree else []:
        case [ast.Assign(value=ast.Name(id=name)) | ast.AnnAssign(value=ast.Name(id=name))]:
            return name == SHELL
    return False


def _requirements(statement: _Statement) -> list[str] | None:
    """Return what a ``pip install`` asks for, or None if it is a shell command.

    Raises:
        UnsupportedMagicError: It is neither.
    """
    text = statement.text
    install = None if statement.is_assigned else _INSTALL.fullmatch(text.lstrip("!%").strip())
    if install and not text.startswith("%%"):
        return [word for word in _words(install["arguments"], statement) if _is_requirement(word, statement)]
    if text.startswith("!"):
        return None
    magic = re.match(r"%%?([\w.]+)", text)
    if magic:
        statement.refuse("a worker has no IPython magics", _HINTS.get(magic[1], _HINT))
    return statement.refuse("a worker cannot show help", "Ask for it in a cell that runs here.")


def _words(arguments: str, statement: _Statement) -> list[str]:
    try:
        return shlex.split(arguments, comments=True)
    except ValueError as error:
        return statement.refuse(str(error), "Close the quotation mark.")


def _is_requirement(word: str, statement: _Statement) -> bool:
    """Tell a requirement from a flag that does not matter; refuse everything else."""
    if word in _IGNORED_FLAGS:
        return False
    if word.startswith("-"):
        statement.refuse(f"the option {word} is not supported", "Name the requirements, and nothing else.")
    from .requirements import requirement_name  # packaging takes longer to import than all of this

    try:
        requirement_name(word)
    except CellError as error:
        statement.refuse(error.message, error.hint or "")
    return True


def _shell_call(statement: _Statement, known: Collection[str]) -> str:
    capture = statement.is_assigned or statement.text.startswith("!!")
    command = statement.text.removeprefix("!").removeprefix("!").strip()
    return f"{SHELL}({_expression(command, known)}{', capture=True' if capture else ''})"


def _expression(command: str, known: Collection[str]) -> str:
    """Return a Python expression for the text of a command."""
    pieces = _expand(command, known)
    values = [value for _, value in pieces if value]
    if not values:
        return repr("".join(text for text, _ in pieces))
    escaped = [(text.replace("{", "{{").replace("}", "}}"), value) for text, value in pieces]
    template = "".join(text + "{}" * bool(value) for text, value in escaped)
    return f"{template!r}.format({', '.join(values)})"


def _expand(command: str, known: Collection[str]) -> list[tuple[str, str]]:
    """Split a command into texts, each with the Python expression that comes after it, or with none.

    Like IPython, leave the whole command alone if some of its braces hold no Python, as in
    ``awk '{print $1}'``.
    """
    pieces = []
    at = 0
    while match := _EXPANDED.search(command, at):
        before = command[at : match.start()]
        text, value, at = match[0], "", match.end()
        if text in {"{{", "}}", "$$"}:
            text = text[0]
        elif text in {"{", "}"}:
            ends = (brace.start() for brace in re.compile("}").finditer(command, at))
            end = next((end for end in ends if _is_value(command[at:end])), -1)
            if text == "}" or end < 0:
                return [(command, "")]
            text, value, at = "", command[at:end].strip(), end + 1
        elif _is_known(match["name"] or match["braced"], known) and not command.count("'", at) % 2:
            text, value = "", match["name"] or match["braced"]
        pieces.append((before + text, value))
    return [*pieces, (command[at:], "")]


def _is_known(name: str | None, known: Collection[str]) -> bool:
    """Tell whether a dotted name after ``$`` is Python's; the shell has others."""
    return name is not None and name.partition(".")[0] in known and _is_value(name)


def _is_value(text: str) -> bool:
    """Tell whether a text between braces is one value, unlike the shell's ``{a,b}`` and ``{}``."""
    tree = _parse(f"f({text})")
    match tree.body if tree else []:
        case [ast.Expr(ast.Call(func=ast.Name(), args=[value], keywords=[]))]:
            return not isinstance(value, ast.Starred | ast.GeneratorExp)
    return False
