"""Modules: one file for each endpoint, with its functions and what they need, in the notebook's order."""

from __future__ import annotations
import __future__

import ast
import builtins
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flash_nb.cells.definitions import names_of
from flash_nb.cells.magic_line import digest
from flash_nb.cells.plan import PROVIDED_NAMES
from flash_nb.cells.reading import Cell
from flash_nb.cells.syntax import nodes, parse
from flash_nb.project.declared import Place, Trouble, TroubleError
from flash_nb.project.export.block import Block
from flash_nb.project.export.body import import_order, line_reading
from flash_nb.project.export.companion import COMPANION
from flash_nb.project.export.function import Work, carried_text, for_target, text_of
from flash_nb.project.export.place import place_of
from flash_nb.project.export.program import Program, Statement
from flash_nb.project.export.resource import Declaration, is_secret
from flash_nb.project.export.target import Target

HEAD = "imports"

_FLASH_IMPORT = re.compile(r"from (?:flash_nb|runpod_flash)(?:\.\S+)? import (.+)")
_ANNOTATIONS = "from __future__ import annotations"
_SUPPORT = {
    "__flash_shell__": '''def __flash_shell__(command, capture=False):
    """Run a line of the notebook that begins with "!"."""
    import subprocess

    global _exit_code
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        stdout=subprocess.PIPE if capture else None,
        stderr=subprocess.STDOUT if capture else None,
        text=True,
        check=False,
    )
    _exit_code = done.returncode
    return done.stdout.splitlines() if capture else None''',
    "display": '''def display(*values):
    """Show values, as far as a log can."""
    print(*values, sep="\\n")''',
}


@dataclass(frozen=True)
class Module:
    """The file of an endpoint.

    Attributes:
        file: Its name.
        resource: What its functions run on.
        works: Its functions, in the notebook's order.
    """

    file: str
    resource: Declaration
    works: tuple[Work, ...]

    @property
    def name(self) -> str:
        """As it is imported."""
        return self.file.removesuffix(".py")


class _Parts:
    """The statements of a module, each once."""

    def __init__(self, program: Program, module: Module, target: Target) -> None:
        self.texts: dict[int, tuple[Cell, str, str]] = {}
        self.eager: dict[str, tuple[str, ...]] = {}
        self.provided: set[str] = set()
        self.absent: set[str] = set()
        self.flags = 0
        self.troubles: list[Trouble] = []
        self._program, self._module, self._target = program, module, target
        self._inside: dict[int, dict[str, tuple[str, ...]]] = {}
        self._carried: dict[int, Statement] = {}
        self._when_run: dict[str, Statement] = {}

    def collect(self) -> None:
        """Bring together what the functions need."""
        for work in self._module.works:
            made = work.slice
            self._carried |= made.carried
            self.provided |= made.provided
            self.absent |= made.absent
            self._merge(made.eager, self.eager, work)
            for order, lines in made.inside.items():
                if order >= 0:
                    self._merge(lines, self._inside.setdefault(order, {}), work)
            for name, bound in made.when_run.items():
                before = self._when_run.setdefault(name, bound)
                if before is not bound and ast.dump(before.node) != ast.dump(bound.node):
                    self._disagree(work, name, before, bound)
        for order, statement in self._carried.items():
            self._carry(order, statement)
        for work in self._module.works:
            self._write(work)

    def _merge(
        self, new: Mapping[str, tuple[str, ...]], into: dict[str, tuple[str, ...]], work: Work
    ) -> None:
        for name, lines in new.items():
            before = into.setdefault(name, lines)
            if before != lines:
                into[name] = tuple(sorted({*before, *lines}))
                if any(" import " in line or " as " in line for line in (*before, *lines)):
                    self._refuse(
                        work,
                        f"{name} is imported in two ways for {self._module.resource.name}: "
                        f"{before[0]}, and {lines[0]}",
                        "give the two different names",
                    )

    def _disagree(self, work: Work, name: str, before: Statement, bound: Statement) -> None:
        first, last = sorted((before, bound), key=lambda each: each.order)
        self._refuse(
            work,
            f"{name} is bound in cell {first.cell.number} (line {first.line}) and in cell {last.cell.number} "
            f"(line {last.line}), and functions on {self._module.resource.name} need both",
            "give the two different names",
        )

    def _carry(self, order: int, statement: Statement) -> None:
        own = self._module.resource.bound
        if own is not None and order == own.order:
            return
        text = carried_text(self._program, statement, self._inside.get(order, {}), self._target)
        value = statement.value
        if value is not None and any(is_secret(name, value) for name in statement.names.binds):
            self.eager.setdefault("os", ("import os",))
        self.flags |= statement.flags
        self.texts[order * 2] = (statement.cell, statement.kind, text)

    def _write(self, work: Work) -> None:
        origin = work.origin
        try:
            text = text_of(self._program, work, self._module.resource, self._target)
        except TroubleError as error:
            self.troubles += error.troubles
            return
        if origin.statement is not None:
            self.flags |= origin.statement.flags
        own = [order for order, (cell, _, _) in self.texts.items() if cell is origin.cell]
        order = origin.order * 2 if origin.kind != "cell" else max([*own, origin.order * 2]) + 1
        self.texts[order] = (origin.cell, "function", text)

    def _refuse(self, work: Work, message: str, fix: str) -> None:
        place = place_of(self._program.name, work.origin.cell, 1)
        self.troubles.append(Trouble(place, message, fix))


def blocks_of(program: Program, module: Module, target: Target, ids: Mapping[int, str]) -> tuple[Block, ...]:
    """Return the blocks of a module.

    Args:
        program: The notebook.
        module: What it holds.
        target: Whose Flash it is for.
        ids: What identifies each cell, by its number.

    Raises:
        TroubleError: Its functions need the same name for different things.
    """
    parts = _Parts(program, module, target)
    parts.collect()
    resource = module.resource
    declaration = resource.text(target)
    if resource.bound is not None:
        parts.texts[resource.bound.order * 2] = (resource.bound.cell, "resource", declaration)
    elif "os.environ" in declaration:
        parts.eager.setdefault("os", ("import os",))
    by_cell: dict[int, list[tuple[str, str]]] = {}
    for _, (cell, kind, text) in sorted(parts.texts.items()):
        by_cell.setdefault(cell.number, []).append((kind, text))
    head = _head(parts, resource, target, "" if resource.bound is not None else declaration)
    made = [Block(program.name, HEAD, _safe(head))]
    for number, texts in by_cell.items():
        made.append(Block(program.name, ids[number], _safe(_joined(texts))))
    whole = "\n\n\n".join(block.text for block in made)
    parts.troubles += _judged(whole, module, parts)
    if parts.troubles:
        raise TroubleError(list(dict.fromkeys(parts.troubles)))
    return tuple(made)


def _head(parts: _Parts, resource: Declaration, target: Target, declaration: str) -> str:
    flash = {"remote", resource.class_for(target)}
    lines: list[str] = []
    for line in import_order(parts.eager):
        names = _FLASH_IMPORT.fullmatch(line)
        if names:
            flash.add(names[1])
        else:
            lines.append(for_target(line, target))
    lines.append(f"from {target.package} import {', '.join(sorted(flash))}")
    lines.sort(key=lambda line: (line.startswith("from "), line))
    pieces = [_ANNOTATIONS] if parts.flags & __future__.annotations.compiler_flag else []
    pieces.append("\n".join(lines))
    if declaration:
        pieces.append(declaration)
    text = "\n\n".join(pieces)
    support = [code for name, code in sorted(_SUPPORT.items()) if name in parts.provided]
    if "__flash_shell__" in parts.provided or "_exit_code" in parts.provided:
        support.insert(0, "_exit_code = 0")
    return "\n\n\n".join([text, *support])


def _joined(texts: Sequence[tuple[str, str]]) -> str:
    """Join statements: two blank lines around functions and classes, none between constants."""
    made = ""
    before = ""
    for kind, text in texts:
        tall = {"function", "definition"}
        if made:
            made += "\n\n\n" if kind in tall or before in tall else "\n"
        made += text
        before = kind
    return made


def _safe(text: str) -> str:
    """Return a text without lines that look like the marks around it."""
    return re.sub(r"^# %% (?=end$|flash )", "# # %% ", text, flags=re.MULTILINE)


def _judged(text: str, module: Module, parts: _Parts) -> list[Trouble]:
    """Find what a module reads and does not have: the compiler is the judge."""
    try:
        tree = parse(text)
        whole = names_of(*tree.body, flags=parts.flags)
    except SyntaxError as error:
        said = f"what would be exported is not Python: {error.msg}"
        return [Trouble(Place(module.file, error.lineno or 1), said, "say so: it is a defect of the export")]
    there = {*dir(builtins), *PROVIDED_NAMES, *parts.absent, *whole.binds}
    found = []
    for name in sorted((whole.eager | whole.lazy) - there):
        reader = next(node for node in tree.body if name in _names_in(node))
        found.append(
            Trouble(
                Place(module.file, line_reading(reader, name)),
                f"{getattr(reader, 'name', module.file)} would read {name}, which its module does not have",
                "define it in the same cell, or pass it as an argument",
            )
        )
    return found


def _names_in(tree: ast.AST) -> set[str]:
    return {node.id for node in nodes(tree) if isinstance(node, ast.Name)}


def ids_of(cells: Sequence[Cell]) -> dict[int, str]:
    """Return what identifies each cell, by its number: its id, else its text."""
    made: dict[int, str] = {}
    taken: set[str] = set()
    for cell in cells:
        base = re.sub(r"\s+", "-", cell.id) or f"text-{digest(cell.source)[:8]}"
        name, number = base, 1
        while name in taken or name in {HEAD, COMPANION}:
            number += 1
            name = f"{base}-{number}"
        taken.add(name)
        made[cell.number] = name
    return made


def with_timeout(resource: Declaration, works: Sequence[Work]) -> Declaration:
    """Return a resource with the longest time that its functions ask for, if all of them ask."""
    times = [work.origin.timeout_s for work in works]
    longest = [time for time in times if time is not None]
    if not longest or len(longest) < len(times):
        return resource
    return resource.with_field("executionTimeoutMs", ast.Constant(round(max(longest) * 1000)))
