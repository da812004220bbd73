"""A notebook as one program: its statements from top to bottom, and which binding of a name is in force.

Nothing is executed. Each statement of the top level of a cell has a kind:

::

    import       ``import numpy as np``
    definition   a function or class that is not remote
    constant     an assignment that gives the same value wherever it is evaluated; see `constant`
    resource     ``gpu = LiveServerless(…)``, and ``%flash use --gpu … gpu``
    remote       a function or class that runs on a resource
    run          everything else: what it binds, or changes in place, exists only where it has run

Cells are taken as run once, from top to bottom. What a function reads as a global is what the name is bound
to when it is called, as in Python: that is judged at its first and its last mention.
"""

from __future__ import annotations
import __future__

import ast
import re
import shlex
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from flash_nb import resources
from flash_nb.cells.definitions import Names, names_of
from flash_nb.cells.finding import Finding
from flash_nb.cells.options import CellOptions
from flash_nb.cells.reading import Cell, Reading, magic_at, read
from flash_nb.cells.syntax import nodes
from flash_nb.errors import ResourceError
from flash_nb.project.export.constant import (
    FLASH,
    OWN,
    PLAIN_CLASS,
    Resolve,
    changed_names,
    dotted,
    is_constant,
    is_plain_class,
)
from flash_nb.project.export.imported import imported, imports_of
from flash_nb.sdk.selection import code, typed

Kind = Literal["import", "definition", "constant", "resource", "remote", "run"]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_RESOURCES = frozenset(name for name in resources.__all__ if "Serverless" in name or "LoadBalancer" in name)
_RESOURCES -= {"ServerlessType"}
_USE = re.compile(r"\s*%flash\s+(use|pick)\b(.*)")
_NOTHING = Names(frozenset(), frozenset(), frozenset(), frozenset())


@dataclass(frozen=True, eq=False)
class Statement:
    """A statement of the top level of a cell.

    Attributes:
        order: Its place in the notebook.
        cell: Where it stands.
        node: It, parsed.
        source: It, as typed, with the comments directly above and the one behind it.
        line: Its first line, as the cell counts.
        kind: What it is.
        names: The names that it reads and binds.
        flags: The ``from __future__`` imports that hold for it.
        imports: Of an import: each name that it binds, with the line that binds it alone.
        decorator: Of `remote`: the decorator that makes it so; None in a cell that only defines.
        is_plain: Of a class: making an instance runs no code of the user's.
        hidden: What it makes remote below the top level: the line, and what that is.
        note: Of `run`: why its value is not known, for people.
    """

    order: int
    cell: Cell
    node: ast.stmt
    source: str
    line: int
    kind: Kind
    names: Names
    flags: int = 0
    imports: Mapping[str, str] = field(default_factory=dict)
    decorator: ast.expr | None = None
    is_plain: bool = False
    hidden: tuple[tuple[int, str], ...] = ()
    note: str = ""

    @property
    def value(self) -> ast.expr | None:
        """The expression that it binds to one name; None if it does something else."""
        node = self.node
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            return node.value
        return node.value if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else None


@dataclass(frozen=True)
class Default:
    """What ``%flash use`` has chosen for bare cells: a variable, and packages for each cell."""

    variable: str
    deps: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class RemoteCell:
    """A cell that runs on a worker.

    Attributes:
        cell, reading: The cell.
        order: Of its first statement.
        default: What it runs on, if it is bare.
    """

    cell: Cell
    reading: Reading
    order: int
    default: Default | None

    @property
    def options(self) -> CellOptions:
        """Of its magic line."""
        assert self.reading.options is not None
        return self.reading.options


class Program:
    """A notebook's statements.

    Args:
        name: Of its file.
        cells: Its code cells.

    Attributes:
        name: The same.
        statements: In their order.
        remote_cells: Cells that run on a worker, and those that make functions remote.
        unread: Cells that could not be read, with the reason.
        opaque: Cells that may bind names that their text does not show.
    """

    def __init__(self, name: str, cells: Sequence[Cell]) -> None:
        self.name = name
        self.statements: list[Statement] = []
        self.remote_cells: list[RemoteCell] = []
        self.unread: list[tuple[Cell, Finding]] = []
        self.opaque: list[Cell] = []
        self._scope: dict[str, Statement] = {}
        self._flags = 0
        self._default: Default | None = None
        for cell in cells:
            self._add(cell)
        self._bindings: dict[str, list[Statement]] = {}
        self._readers: dict[str, list[Statement]] = {}
        for statement in self.statements:
            for bound in statement.names.binds:
                self._bindings.setdefault(bound, []).append(statement)
            for read_name in statement.names.reads:
                self._readers.setdefault(read_name, []).append(statement)
        self.names = frozenset(self._bindings)

    # --- what is in force -----------------------------------------------------------------------

    def in_force(self, name: str, at: int) -> Statement | None:
        """Return what a name is bound to above a place; if nothing, the first binding below it."""
        found = self._bindings.get(name)
        if not found:
            return None
        return found[max(bisect_left(found, at, key=lambda each: each.order) - 1, 0)]

    def bindings(self, name: str) -> Sequence[Statement]:
        """Return all that binds or changes a name, in order."""
        return self._bindings.get(name, ())

    @cached_property
    def stars(self) -> Sequence[Statement]:
        """Its imports of all that a module has."""
        return [
            each for each in self.statements if isinstance(each.node, ast.ImportFrom) and not each.imports
        ]

    def import_lines(self, name: str, bound: Statement) -> tuple[str, ...]:
        """Return the lines that import what a name stands for: with ``import a.b``, also ``import a.c``."""
        line = bound.imports[name]
        if not line.startswith("import ") or " as " in line:
            return (line,)
        others = (each.imports.get(name, "") for each in self._bindings[name])
        return tuple(sorted({line, *(o for o in others if o.startswith("import ") and " as " not in o)}))

    def uses(self, statement: Statement) -> tuple[int, ...]:
        """Return the places of the first and the last mention of a definition; the end if there is none.

        A mention in another function counts where that function is mentioned.
        """
        assert isinstance(statement.node, _DEFINITIONS)
        own = statement.node.name
        places: set[int] = set()
        seen = {statement.order}
        waiting = [statement]
        while waiting:
            current = waiting.pop()
            assert isinstance(current.node, _DEFINITIONS)
            name = current.node.name
            for reader in self._readers.get(name, ()):
                is_later = reader.kind in {"definition", "remote"} and name not in reader.names.eager
                if is_later and reader.order not in seen:
                    seen.add(reader.order)
                    waiting.append(reader)
                elif not is_later and self.in_force(name, reader.order) is current:
                    places.add(reader.order)
        places = {place for place in places if self.in_force(own, place) is statement}
        return (min(places), max(places)) if places else (len(self.statements),)

    # --- reading cells --------------------------------------------------------------------------

    def _add(self, cell: Cell) -> None:
        reading, findings = read(cell)
        if reading is None:
            self.unread += [(cell, finding) for finding in findings[:1]]
            return
        if reading.opaque:
            self.opaque.append(cell)
        remote = RemoteCell(cell, reading, len(self.statements), self._default)
        if reading.options is not None:
            self.remote_cells.append(remote)
        chooses = self._choosing_lines(cell) if reading.options is None else {}
        source = Lines(reading.text.source)
        for node in reading.tree.body:
            chosen = chooses.get(node.lineno) if isinstance(node, ast.Pass) else None
            if chosen is not None:
                self._choose(cell, node.lineno, chosen)
            else:
                self._take(cell, reading, node, source)

    @staticmethod
    def _choosing_lines(cell: Cell) -> Mapping[int, str]:
        found = ((number, _USE.fullmatch(line)) for number, line in enumerate(cell.source.split("\n"), 1))
        return {number: match[0].strip() for number, match in found if match}

    def _take(self, cell: Cell, reading: Reading, node: ast.stmt, source: Lines) -> None:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            self._flags |= future_flags(node)
            return
        if isinstance(node, ast.Pass) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and reading.options is None
        ):
            return
        names = names_of(node, flags=self._flags)
        kind = self._kind(node, reading)
        if kind == "run":
            known = {name for name in changed_names(node) if self._is_value(name)}
            names = replace(names, binds=names.binds | known)
        if reading.options is not None and not reading.only_defines:
            names = replace(names, binds=names.binds & reading.binds - set(reading.item_names))
        statement = Statement(
            order=len(self.statements),
            cell=cell,
            node=node,
            source=source.of(node),
            line=source.first_line(node) + _shift(cell, source.first_line(node)),
            kind=kind,
            names=names,
            flags=self._flags,
            imports=imports_of(node) if kind == "import" else {},
            decorator=self._decorator(node) if isinstance(node, _DEFINITIONS) else None,
            hidden=tuple(self._hidden(node)),
            is_plain=isinstance(node, ast.ClassDef) and is_plain_class(node, self.resolve),
        )
        self._bind(statement)

    def _bind(self, statement: Statement) -> None:
        self.statements.append(statement)
        for name in statement.names.binds:
            self._scope[name] = statement

    def _is_value(self, name: str) -> bool:
        bound = self._scope.get(name)
        return bound is not None and bound.kind in {"constant", "definition", "run"}

    # --- what a statement is --------------------------------------------------------------------

    def _kind(self, node: ast.stmt, reading: Reading) -> Kind:
        if isinstance(node, _IMPORTS):
            return "import" if imports_of(node) else "run"
        if isinstance(node, _DEFINITIONS):
            is_remote = reading.only_defines or self._decorator(node) is not None
            return "remote" if is_remote else "definition"
        if reading.items is not None:
            return "run"
        value = _assigned(node)
        if isinstance(value, ast.Call) and self._is_resource(value):
            return "resource"
        if value is not None:
            is_same = is_constant(value, self.resolve)
        else:
            is_same = type(node).__name__ == "TypeAlias" or self._only_declares(node, reading)
        return "constant" if is_same else "run"

    def _only_declares(self, node: ast.stmt, reading: Reading) -> bool:
        """Tell whether a compound statement only chooses between imports, definitions and constants."""
        match node:
            case ast.If(test=test, body=body, orelse=orelse):
                if not is_constant(test, self.resolve):
                    return False
                parts = [*body, *orelse]
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=finalbody):
                parts = [*body, *orelse, *finalbody, *(part for each in handlers for part in each.body)]
            case _:
                return False
        kinds = {self._kind(part, reading) for part in parts if not isinstance(part, ast.Pass)}
        return kinds <= {"import", "definition", "constant"}

    def _is_resource(self, call: ast.Call) -> bool:
        return bool(resource_class(call, self.resolve))

    def resolve(self, name: str) -> str:
        """Say what a name is at the place that is being read; see `constant.Resolve`."""
        return self._resolved(name, self._scope.get(name))

    def resolve_at(self, name: str, at: int) -> str:
        """Say what a name is at a place."""
        return self._resolved(name, self.in_force(name, at))

    def _resolved(self, name: str, bound: Statement | None) -> str:
        if bound is None:
            return f"flash_nb.{name}" if name in resources.__all__ or name == "remote" else ""
        if bound.kind == "import":
            return imported(bound.imports[name])
        if bound.is_plain and bound.kind == "definition":
            return PLAIN_CLASS
        return OWN if bound.kind in {"definition", "remote"} else ""

    def _decorator(self, node: Definition) -> ast.expr | None:
        """Return the decorator that makes a definition remote; None if none does, or it says local=True."""
        for decorator in node.decorator_list:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            name = dotted(target, self.resolve)
            package, _, last = name.rpartition(".")
            if last == "remote" and package.partition(".")[0] in FLASH and not _is_local(decorator):
                return decorator
        return None

    def _hidden(self, node: ast.stmt) -> Iterator[tuple[int, str]]:
        for part in nodes(node):
            if isinstance(part, _DEFINITIONS) and part is not node and self._decorator(part) is not None:
                yield part.lineno, part.name
            elif isinstance(part, ast.Call) and isinstance(part.func, ast.Call):
                package, _, last = dotted(part.func.func, self.resolve).rpartition(".")
                if last == "remote" and package.partition(".")[0] in FLASH:
                    yield part.lineno, ast.unparse(part)

    # --- %flash use -----------------------------------------------------------------------------

    def _choose(self, cell: Cell, line: int, text: str) -> None:
        """Take a line with ``%flash use`` or ``%flash pick`` as run."""
        try:
            words = shlex.split(text)
        except ValueError:
            return
        chosen = _Choice(words[2:])
        if words[1] == "pick":
            self._bind(self._unknown(cell, line, text, chosen.name or "resource", "chosen by hand"))
            return
        if "--none" in words:
            self._default = None
        elif chosen.is_machine:
            try:
                made = code(typed(**chosen.options, name=chosen.name))
            except (ValueError, ResourceError) as error:
                self._bind(self._unknown(cell, line, text, chosen.name or "resource", str(error)))
                return
            *_, node = ast.parse(made).body
            assert isinstance(node, ast.Assign)
            variable = ast.unparse(node.targets[0])
            source = made[made.index(f"{variable} = ") :].partition("\n\n")[0].rstrip()
            names = names_of(node)
            self._bind(Statement(len(self.statements), cell, node, source, line, "resource", names))
            self._default = Default(variable, tuple(filter(None, chosen.options["deps"].split(","))))
        elif chosen.name:
            self._default = Default(chosen.name, tuple(filter(None, chosen.options["deps"].split(","))))

    def _unknown(self, cell: Cell, line: int, text: str, name: str, note: str) -> Statement:
        made = nothing(cell, len(self.statements))
        binds = replace(made.names, binds=frozenset({name}))
        return replace(made, source=text, line=line, names=binds, note=note)


class _Choice:
    """The words of ``%flash use``."""

    def __init__(self, words: Sequence[str]) -> None:
        self.name = ""
        self.options: dict[str, Any] = {"deps": ""}
        waiting = iter(words)
        for word in waiting:
            option, equals, value = word.partition("=")
            if not option.startswith("--"):
                self.name = word
                continue
            value = value if equals else next(waiting, "")
            key = option[2:].replace("-", "_")
            if key in {"gpu", "env"}:
                self.options[key] = [*self.options.get(key, ()), value]
            elif key in {"gpu_count", "idle"}:
                self.options[key] = int(value) if value.isdigit() else 0
            else:
                self.options[key] = value

    @property
    def is_machine(self) -> bool:
        return bool(self.options.get("gpu") or self.options.get("cpu"))


class Lines:
    """A cell's text, from which the sources of its statements are cut."""

    def __init__(self, source: str) -> None:
        self._lines = source.split("\n")

    def first_line(self, node: ast.stmt) -> int:
        """Return the number of the first line of a statement, its decorators included."""
        decorators = getattr(node, "decorator_list", ())
        line: int = min([node.lineno, *(each.lineno for each in decorators)])
        while decorators and not self._lines[line - 1].lstrip().startswith("@"):
            line -= 1
        return line

    def of(self, node: ast.stmt) -> str:
        """Return the source of a statement, with the comments directly above and the one behind it."""
        first, last = self.first_line(node), node.end_lineno or node.lineno
        lines = self._lines[first - 1 : last]
        rest = _cut(lines[-1], node.end_col_offset or 0, None)
        comment = rest if re.fullmatch(r"\s*(#.*)?", rest) else ""
        lines[-1] = _cut(lines[-1], 0, node.end_col_offset or 0) + comment.rstrip()
        lines[0] = _cut(lines[0], 0 if first < node.lineno else node.col_offset, None)
        above = first - 1
        while above and self._lines[above - 1].startswith("#"):
            above -= 1
        own_line = not _cut(self._lines[first - 1], 0, node.col_offset).strip()
        return "\n".join([*(self._lines[above : first - 1] if own_line else ()), *lines])


def _cut(line: str, start: int, end: int | None) -> str:
    """Return a part of a line by the offsets of `ast`, which count bytes."""
    return line.encode()[start:end].decode()


def _shift(cell: Cell, line: int) -> int:
    """Return by how much a line moves when comments stand above the magic line."""
    above = magic_at(cell.source.split("\n"))
    return -1 if above and 1 < line <= above + 1 else 0


def _assigned(node: ast.stmt) -> ast.expr | None:
    """Return the value of an assignment to plain names."""
    if isinstance(node, ast.AnnAssign):
        return node.value if isinstance(node.target, ast.Name) else None
    if not isinstance(node, ast.Assign):
        return None
    parts = [part for target in node.targets for part in ast.walk(target)]
    allowed = (ast.Name, ast.Tuple, ast.List, ast.Starred, ast.expr_context)
    return node.value if all(isinstance(part, allowed) for part in parts) else None


def _is_local(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and any(
        word.arg == "local" and isinstance(word.value, ast.Constant) and word.value.value is True
        for word in decorator.keywords
    )


def resource_class(call: ast.Call, resolve: Resolve) -> str:
    """Return the name of the class of a resource that a call makes; empty if it makes none."""
    package, _, name = dotted(call.func, resolve).rpartition(".")
    return name if name in _RESOURCES and package.partition(".")[0] in FLASH else ""


def nothing(cell: Cell, order: int) -> Statement:
    """Return a statement that does nothing, to say a place by."""
    return Statement(order, cell, ast.Pass(), "", 1, "run", _NOTHING)


def future_flags(node: ast.ImportFrom) -> int:
    """Return the compiler flags of a ``from __future__ import``."""
    flags = 0
    for alias in node.names:
        flags |= int(getattr(getattr(__future__, alias.name, None), "compiler_flag", 0))
    return flags
