"""Origins: what of a notebook becomes a function of a project, and where it runs."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flash_nb.cells.reading import Cell
from flash_nb.project.declared import Trouble, TroubleError
from flash_nb.project.export.constant import value_of
from flash_nb.project.export.place import place_of
from flash_nb.project.export.program import (
    Definition,
    Program,
    RemoteCell,
    Statement,
    nothing,
    resource_class,
)
from flash_nb.project.export.resource import Declaration, declared, literal, of_cell, of_variable

_DROPPED = frozenset({"local", "strict", "resource_config", "dependencies", "system_dependencies"})


@dataclass(frozen=True, eq=False)
class Origin:
    """A function, a class or a whole cell that runs on a resource.

    Attributes:
        kind: What it is.
        name: Of the function or class; of a cell empty, for it gets one.
        cell: Where it stands.
        order: Its place in the notebook.
        resource: What it runs on.
        statement: Its definition, unless it is a cell.
        remote_cell: It, or the cell that makes it remote; None for ``@remote``.
        dependencies, system_dependencies: As its decorator or its cell asks for them.
        words: Further arguments of its decorator, as they are written.
        timeout_s: Longest run; None if nobody said it.
        places: Where the names that it reads when it runs are looked up.
    """

    kind: Literal["function", "class", "cell"]
    name: str
    cell: Cell
    order: int
    resource: Declaration
    statement: Statement | None = None
    remote_cell: RemoteCell | None = None
    dependencies: tuple[str, ...] = ()
    system_dependencies: tuple[str, ...] = ()
    words: tuple[tuple[str, str], ...] = ()
    timeout_s: float | None = None
    places: tuple[int, ...] = ()

    @property
    def method(self) -> str:
        """Of a route."""
        return dict(self.words).get("method", "").strip("\"'")

    @property
    def path(self) -> str:
        """Of a route."""
        return dict(self.words).get("path", "").strip("\"'")


@dataclass(frozen=True)
class Origins:
    """All that a notebook has to export.

    Attributes:
        found: In their order.
        troubles: What cannot be exported, by the name of the function or the cell's number.
        notes: What is worth knowing.
    """

    found: tuple[Origin, ...]
    troubles: Mapping[str, Sequence[Trouble]]
    notes: tuple[str, ...]


def origins_of(program: Program) -> Origins:
    """Find everything in a notebook that runs on a resource."""
    found: dict[str, Origin] = {}
    cells: list[Origin] = []
    troubles: dict[str, list[Trouble]] = {}
    notes: list[str] = []
    texts: dict[str, Cell] = {}
    for statement in program.statements:
        for line, name in statement.hidden:
            place = place_of(program.name, statement.cell, line)
            message = f"{name} is made remote below the top level of its cell"
            troubles[f"{name} {statement.order}"] = [
                Trouble(place, message, "write it at the top level, with @remote above its def")
            ]
        if statement.kind != "remote":
            continue
        node = statement.node
        assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        if program.in_force(node.name, len(program.statements)) is not statement:
            later = program.in_force(node.name, len(program.statements))
            if later is not None and later.kind == "remote":
                both = f"cells {statement.cell.number} and {later.cell.number}"
                if statement.cell == later.cell:
                    both = f"cell {later.cell.number} twice"
                notes.append(f"{node.name} is defined in {both}: the last one is exported")
                continue
        try:
            found[node.name] = _of_definition(program, statement, node)
        except TroubleError as error:
            troubles[node.name] = error.troubles
    for cell in program.remote_cells:
        if cell.reading.only_defines or not cell.reading.tree.body:
            continue
        key = f"cell {cell.cell.number}"
        text = cell.cell.source.strip()
        if text in texts:
            notes.append(
                f"cell {cell.cell.number} is the same as cell {texts[text].number}: one function for both"
            )
            continue
        texts[text] = cell.cell
        try:
            cells.append(_of_cell(program, cell))
        except TroubleError as error:
            troubles[key] = error.troubles
    every = sorted([*found.values(), *cells], key=lambda origin: origin.order)
    return Origins(tuple(every), troubles, tuple(notes))


def _of_cell(program: Program, cell: RemoteCell) -> Origin:
    first = program.statements[cell.order] if cell.order < len(program.statements) else None
    at = first if first is not None and first.cell == cell.cell else nothing(cell.cell, cell.order)
    options = cell.options
    resource = of_cell(program, options, cell.default, at)
    deps = (*options.deps, *cell.reading.text.dependencies)
    if options.is_bare and cell.default is not None:
        deps = (*deps, *cell.default.deps)
    return Origin(
        kind="cell",
        name="",
        cell=cell.cell,
        order=cell.order,
        resource=resource,
        remote_cell=cell,
        dependencies=tuple(dict.fromkeys(deps)),
        system_dependencies=options.system_deps,
        timeout_s=options.timeout,
        places=(cell.order,),
    )


def _of_definition(program: Program, statement: Statement, node: Definition) -> Origin:
    kind: Literal["function", "class"] = "class" if isinstance(node, ast.ClassDef) else "function"
    for cell in program.remote_cells:
        if cell.cell == statement.cell and cell.reading.only_defines:
            made = _of_cell(program, cell)
            return Origin(
                kind=kind,
                name=node.name,
                cell=statement.cell,
                order=statement.order,
                resource=made.resource,
                statement=statement,
                remote_cell=cell,
                dependencies=made.dependencies,
                system_dependencies=made.system_dependencies,
                timeout_s=made.timeout_s,
                places=program.uses(statement),
            )
    decorator = statement.decorator
    call = decorator if isinstance(decorator, ast.Call) else ast.Call(ast.Name("remote"), [], [])
    words = {str(word.arg): word.value for word in call.keywords}
    resource = words.get("resource_config", call.args[0] if call.args else None)
    names = ("resource_config", "dependencies", "system_dependencies", "accelerate_downloads", "local")
    words |= dict(zip(names[1:], call.args[1:], strict=False))
    return Origin(
        kind=kind,
        name=node.name,
        cell=statement.cell,
        order=statement.order,
        resource=_resource(program, statement, resource),
        statement=statement,
        dependencies=_texts(program, statement, words.get("dependencies")),
        system_dependencies=_texts(program, statement, words.get("system_dependencies")),
        words=tuple(
            (name, _word(program, statement, value)) for name, value in words.items() if name not in _DROPPED
        ),
        places=program.uses(statement),
    )


def _resource(program: Program, statement: Statement, node: ast.expr | None) -> Declaration:
    if isinstance(node, ast.Name):
        return of_variable(program, node.id, statement, statement.order)
    if isinstance(node, ast.Call) and resource_class(
        node, lambda name: program.resolve_at(name, statement.order)
    ):
        return declared(node, "", statement.order, program, bound=None, at=statement)
    said = "nothing" if node is None else ast.unparse(node)
    raise _refused(
        program,
        statement,
        f"@remote runs it on {said}, and the text does not show what that is",
        'bind it in a cell above: gpu = LiveServerless(name="…"), and @remote(gpu)',
    )


def _texts(program: Program, statement: Statement, node: ast.expr | None) -> tuple[str, ...]:
    if node is None:
        return ()
    try:
        value = value_of(node, lambda name: literal(program, name, statement.order))
    except (ValueError, TypeError):
        value = None
        if isinstance(node, ast.Constant) and node.value is None:
            return ()
    if value is None or isinstance(value, str) or not all(isinstance(each, str) for each in value):
        raise _refused(
            program,
            statement,
            f"its dependencies are computed: {ast.unparse(node)}",
            'write them as a list of texts: dependencies=["numpy"]',
        )
    return tuple(value)


def _word(program: Program, statement: Statement, node: ast.expr) -> str:
    """Return an argument as a literal: builders read no names."""
    try:
        return _quoted(value_of(node, lambda name: literal(program, name, statement.order)))
    except (ValueError, TypeError):
        raise _refused(
            program,
            statement,
            f"an argument of @remote is computed: {ast.unparse(node)}",
            "write it as a text or a number",
        ) from None


def _quoted(value: object) -> str:
    text = repr(value)
    return f'"{value}"' if isinstance(value, str) and '"' not in value and "\\" not in value else text


def _refused(program: Program, statement: Statement, message: str, fix: str) -> TroubleError:
    node = statement.node
    name = getattr(node, "name", "it")
    place = place_of(program.name, statement.cell, statement.line)
    return TroubleError([Trouble(place, f"{name}: {message}", fix)])


def listed(texts: Sequence[str]) -> str:
    """Return texts as a list in Python."""
    return f"[{', '.join(_quoted(text) for text in texts)}]"
