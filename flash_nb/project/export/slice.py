"""Slices: the part of a notebook that one function needs, and what of it cannot leave the notebook.

It follows what `flash_nb.sdk.capture` does with live objects, by the text alone: a module becomes an import,
a function or class its source, with all that it reads. Only values are different: a constant goes along as
the assignment that makes it, and what exists only where the notebook has run cannot go at all. A whole cell
gets such values as parameters.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from flash_nb.cells.definitions import find_definitions, names_of
from flash_nb.cells.imports import imports_of
from flash_nb.cells.plan import PROVIDED_NAMES, CellPlan, plan_cell
from flash_nb.cells.preflight import import_lines
from flash_nb.cells.secret import form_of
from flash_nb.cells.syntax import nodes
from flash_nb.errors import did_you_mean
from flash_nb.project.declared import Trouble, TroubleError
from flash_nb.project.export.body import declared_global, line_reading, reading_functions
from flash_nb.project.export.companion import RESERVED, path_of, stays
from flash_nb.project.export.constant import FLASH, changed_names, dotted, is_immutable
from flash_nb.project.export.imported import imported
from flash_nb.project.export.origin import Origin
from flash_nb.project.export.place import place_of
from flash_nb.project.export.program import Program, Statement, nothing
from flash_nb.project.export.resource import is_secret, literal, named_values
from flash_nb.project.export.target import Target
from flash_nb.resources import __all__ as RESOURCE_NAMES  # noqa: N812 - a constant
from flash_nb.sdk.dependencies import unprovided
from flash_nb.sdk.modules import find_modules
from flash_nb.sdk.scope import reads_of
from flash_nb.worker.modules import ModuleItem

_BUILTINS = frozenset(dir(builtins))
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
Lines = Mapping[str, tuple[str, ...]]
"""Names, each with the lines that import it."""


@dataclass
class Slice:
    """What one function needs.

    Attributes:
        carried: Statements that stand before it, by their order.
        eager: Imports that stand at the top of its module.
        inside: Imports that go into the functions that read them: of a carried statement by its order, of
            the function itself by -1.
        siblings: Functions of its own cell that are remote too, and that it calls as plain ones.
        provided: Names that a worker gives a cell, such as ``display``.
        absent: Names that exist nowhere, and that its code expects to be so.
        parameters: Of a cell: the values that it reads.
        secrets: Of these, those that must not be written.
        modules: What is imported from packages, each with where that is asked for.
        companions: Modules that are files beside the notebook, and that it imports.
        remarks: What is worth knowing of these.
        when_run: What names stand for that are read only when it runs.
        plan: Of a cell.
    """

    carried: dict[int, Statement] = field(default_factory=dict)
    eager: dict[str, tuple[str, ...]] = field(default_factory=dict)
    inside: dict[int, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    siblings: dict[int, Statement] = field(default_factory=dict)
    provided: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    parameters: dict[str, Statement | None] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    modules: dict[str, tuple[Statement, int]] = field(default_factory=dict)
    companions: tuple[ModuleItem, ...] = ()
    remarks: tuple[str, ...] = ()
    when_run: dict[str, Statement] = field(default_factory=dict)
    plan: CellPlan | None = None


def slice_of(
    program: Program, origin: Origin, target: Target, *, folder: Path | None, into: Path | None
) -> Slice:
    """Return what a function needs of its notebook.

    Args:
        program: The notebook.
        origin: The function, class or cell.
        target: Whose Flash the project is for.
        folder: Where the notebook lies: modules that are files beside it go along; None for the
            current folder.
        into: The project's folder, where such files may lie already.

    Raises:
        TroubleError: Something of it cannot leave the notebook.
    """
    slicer = _Slicer(program, origin, target)
    slicer.run()
    slicer.find_modules(folder, into)
    if slicer.troubles:
        raise TroubleError(list(dict.fromkeys(slicer.troubles)))
    return slicer.made


class _Slicer:
    def __init__(self, program: Program, origin: Origin, target: Target) -> None:
        self.made = Slice()
        self.troubles: list[Trouble] = []
        self._program = program
        self._origin = origin
        self._target = target
        self._waiting: list[tuple[Statement, int]] = []
        self._guesses: dict[str, tuple[Statement, int]] = {}
        self._bound_in_cell: frozenset[str] = frozenset()
        self._only_defines = origin.remote_cell is not None and origin.kind != "cell"

    def run(self) -> None:
        self._resource()
        if self._origin.statement is not None:
            statement = self._origin.statement
            self._note_modules(statement, statement.node)
            self._check_secrets(statement)
            self._reads(statement, -1)
        else:
            self._cell()
        while self._waiting:
            statement, key = self._waiting.pop()
            self._reads(statement, key)
        for name in self.made.when_run.keys() & self.made.parameters.keys():
            del self.made.parameters[name]  # its functions read it too: one value for all

    # --- names ----------------------------------------------------------------------------------

    def _reads(self, statement: Statement, key: int) -> None:
        """Follow what a statement reads."""
        names, node = statement.names, statement.node
        is_definition = isinstance(node, _DEFINITIONS)
        own = {node.name} if isinstance(node, _DEFINITIONS) else set()
        decorators = self._without_ours(statement)
        for name in sorted((names.eager | names.hints) - own):
            if name in decorators:
                self._need(name, statement, self._program.in_force(name, statement.order), key, eager=True)
        for name in sorted(names.lazy - own):
            bound = self._lazily_bound(name, statement)
            if name in self._bound_in_cell and (bound is None or bound.kind != "import"):
                self._refuse(
                    statement,
                    name,
                    f"the cell binds or changes {name}, which {getattr(node, 'name', 'a function')} reads",
                    f"pass {name} as an argument",
                )
            is_import = bound is not None and bound.kind == "import"
            is_inside = not is_import or name in inside_names(statement)
            self._need(name, statement, bound, key, eager=not is_inside or not is_definition)

    def _without_ours(self, statement: Statement) -> frozenset[str]:
        """Return what is read at once, our own decorator left out: another one takes its place."""
        every = statement.names.eager | statement.names.hints
        if statement.kind != "remote" and not _says_local(statement):
            return every
        node = statement.node
        assert isinstance(node, _DEFINITIONS)
        gone = [each for each in node.decorator_list if self._is_ours(each, statement)]
        in_gone = {n.id for each in gone for n in nodes(each) if isinstance(n, ast.Name)}
        kept = [each for each in ast.iter_child_nodes(node) if each not in gone]
        elsewhere = {n.id for each in kept for n in nodes(each) if isinstance(n, ast.Name)}
        return every - (in_gone - elsewhere)

    def _is_ours(self, decorator: ast.expr, statement: Statement) -> bool:
        return is_remote_decorator(self._program, statement, decorator)

    def _lazily_bound(self, name: str, reader: Statement) -> Statement | None:
        """Return what a name is when the function runs: the same thing wherever it is called."""
        program = self._program
        if self._only_defines and (own := self._in_own_cell(name)) is not None:
            return own
        found = {
            id(bound): bound for place in self._origin.places if (bound := program.in_force(name, place))
        }
        if len(found) > 1 and len({_text(bound) for bound in found.values()}) > 1:
            first, last, *_ = sorted(found.values(), key=lambda each: each.order)
            where = " and ".join(f"cell {each.cell.number}, line {each.line}" for each in (first, last))
            self._refuse(
                reader,
                name,
                f"{self._label} reads {name}, which is not the same at the first call and the last: {where}",
                "give the two different names, or pass it as an argument",
            )
        return next(iter(found.values()), None)

    def _in_own_cell(self, name: str) -> Statement | None:
        cell = self._origin.cell
        bound = self._program.bindings(name)
        return next((each for each in reversed(bound) if each.cell is cell), None)

    def _need(self, name: str, reader: Statement, bound: Statement | None, key: int, *, eager: bool) -> None:
        """Take along what a name stands for."""
        if bound is None:
            self._unbound(name, reader)
        elif bound.kind == "import":
            self._import(name, reader, bound, key, eager=eager)
        elif bound.kind in {"definition", "constant", "resource"}:
            if not eager or name not in reader.names.eager:
                self.made.when_run[name] = bound
            self._carry(bound)
        elif bound.kind == "remote":
            self._remote(name, reader, bound, eager=eager)
        else:
            self._refuse(reader, name, *self._run_time(name, bound))

    def _unbound(self, name: str, reader: Statement) -> None:
        if name in _BUILTINS:
            return
        if name in PROVIDED_NAMES:
            self.made.provided.add(name)
        elif name in RESOURCE_NAMES or name == "remote":
            self.made.eager[name] = (f"from flash_nb import {name}",)
        elif name in self._declared_import():
            self.made.eager[name] = (f"import {name}",)
        elif self._may_be_absent(name, reader):
            self.made.absent.add(name)
        else:
            near = did_you_mean(name, self._program.names)
            fix = "define it in a cell, or pass it as an argument"
            for star in self._program.stars:
                if star.order < reader.order:
                    module = getattr(star.node, "module", "a module")
                    near = f"; perhaps `import *` of {module} binds it (cell {star.cell.number})"
                    fix = f"import it by name: from {module} import {name}"
            self._refuse(reader, name, f"{self._label} reads {name}, which is not defined{near}", fix)

    def _declared_import(self) -> frozenset[str]:
        return frozenset({"os"}) if self._origin.resource.bound is None else frozenset()

    @staticmethod
    def _may_be_absent(name: str, reader: Statement) -> bool:
        """Tell whether the code expects that a name may not exist."""
        if not isinstance(reader.node, _DEFINITIONS):
            return False
        reads = reads_of(find_definitions(reader.source, flags=reader.flags)[reader.node.name])
        return name in reads.guarded or name in reads.binds or reads.opaque

    def _import(self, name: str, reader: Statement, bound: Statement, key: int, *, eager: bool) -> None:
        lines = self._program.import_lines(name, bound)
        for line in lines:
            module = line.split()[1]
            where = reader, line_reading(reader.node, name)
            self.made.modules.setdefault(module, where)
            if line.startswith("from "):
                self._guesses.setdefault(f"{module}.{line.split()[3]}", where)
            package, _, last = imported(line).partition(".")
            if package in FLASH and last and not self._target.has(last):
                self._refuse(
                    reader,
                    name,
                    f"{self._label} reads {name}, and {self._target.package} has no {last}",
                    "export it for flash_nb, or do without it in the function",
                )
        if eager:
            self.made.eager[name] = lines
        else:
            self.made.inside.setdefault(key, {})[name] = lines

    def _carry(self, bound: Statement) -> None:
        if bound.order in self.made.carried:
            return
        self.made.carried[bound.order] = bound
        self._note_modules(bound, bound.node)
        self._check_secrets(bound)
        self._waiting.append((bound, bound.order))

    def _remote(self, name: str, reader: Statement, bound: Statement, *, eager: bool) -> None:
        own = self._origin.statement
        if bound is own or (own is not None and name == self._origin.name):
            return
        if self._only_defines and bound.cell is self._origin.cell and not eager:
            if bound.order not in self.made.siblings:
                self.made.siblings[bound.order] = bound
                self._note_modules(bound, bound.node)
                self._check_secrets(bound)
                self._waiting.append((bound, bound.order))
            return
        self._refuse(
            reader,
            name,
            f"{self._label} reads {name}, a remote function: code on a worker cannot call it",
            f"call it in the notebook and pass its result, or make {name} a plain function",
        )

    def _run_time(self, name: str, bound: Statement) -> tuple[str, str]:
        where = f"cell {bound.cell.number}, line {bound.line}"
        if bound.note:
            return f"{self._label} reads {name}: {bound.note} ({where})", "declare it in a cell"
        changes = name not in _stored(bound.node)
        does = "is changed" if changes else "exists only where the notebook has run"
        said = bound.source.strip().split("\n")[0]
        said = said if len(said) <= 60 else f"{said[:59]}…"  # noqa: PLR2004 - a line of a terminal
        return f"{self._label} reads {name}, which {does} ({where}: {said})", "pass it as an argument"

    # --- cells ----------------------------------------------------------------------------------

    def _cell(self) -> None:
        cell = self._origin.remote_cell
        assert cell is not None
        program, options, reading = self._program, cell.options, cell.reading
        above = frozenset(name for name in reading.plan.reads if self._above(name))
        hidden = frozenset(name for name in _names_in(reading.tree) if self._above(name))
        plan = plan_cell(reading.text.source, above | hidden | set(reading.item_names))
        self.made.plan = plan
        changed = changed_names(reading.tree, modules=self._modules_of(plan))
        self._bound_in_cell = frozenset(changed.union(*(s.binds for s in map(names_of, reading.tree.body))))
        self._note_modules(self._at(), reading.tree)
        self._check_tree(reading.tree, self._at(), options.allowed_secrets)
        self.made.secrets = frozenset(options.allowed_secrets)
        self._not_in_a_function(reading.tree)
        inputs = plan.inputs if options.inputs is None else options.inputs
        ordered = [name for name in plan.reads if name in inputs]
        for name in [*ordered, *(name for name in inputs if name not in ordered)]:
            if name in reading.item_names:
                continue
            bound = program.in_force(name, cell.order) if self._above(name) else None
            self._input(name, bound, plan)
        for read in plan.undefined:
            if read.name not in program.names and read.name not in PROVIDED_NAMES:
                near = did_you_mean(read.name, program.names)
                self._refuse_line(
                    read.line,
                    f"{self._label} reads {read.name}, which is not defined{near}",
                    "define it in a cell above, or in this one",
                )
            elif not self._above(read.name) and read.name not in PROVIDED_NAMES:
                self._refuse_line(
                    read.line,
                    f"{self._label} reads {read.name}, which is only defined below",
                    "move that cell up",
                )
        read_names = _names_in(reading.tree)
        self.made.provided |= (PROVIDED_NAMES & read_names) - {"__annotations__", "__builtins__"}

    def _modules_of(self, plan: CellPlan) -> frozenset[str]:
        """Return the names of modules in a cell."""
        bound = ((name, self._program.in_force(name, self._origin.order)) for name in plan.reads)
        found = {name for name, each in bound if each is not None and each.kind == "import"}
        return frozenset(found.union(plan.only_imported))

    def _not_in_a_function(self, tree: ast.Module) -> None:
        """Refuse what a cell may do and a function may not."""
        for node in nodes(tree):
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                message = f"{self._label} imports * from {node.module}: a function cannot"
                self._refuse_line(node.lineno, message, "name what it imports")
            if isinstance(node, ast.Name) and node.id in {"globals", "get_ipython"}:
                message = f"{self._label} uses {node.id}(), which means something else in a function"
                self._refuse_line(node.lineno, message, "write the names themselves")

    def _input(self, name: str, bound: Statement | None, plan: CellPlan) -> None:
        if bound is None or bound.kind in {"run", "constant"}:
            self.made.parameters[name] = bound
        elif bound.kind == "import":
            self._import(name, self._at(), bound, -1, eager=False)
        elif bound.kind == "remote":
            read = plan.reads.get(name)
            self._refuse_line(
                read.line if read else 1,
                f"{self._label} reads {name}, a remote function: code on a worker cannot call it",
                f"call it in a cell that runs here: result = await {name}(…)",
            )
        elif name in plan.outputs:
            read = plan.reads.get(name)
            self._refuse_line(
                read.line if read else 1,
                f"{self._label} reads {name} of a cell above and binds it anew",
                "give the two different names",
            )
        else:
            self.made.when_run[name] = bound
            self._carry(bound)

    def _above(self, name: str) -> bool:
        cell = self._origin.remote_cell
        assert cell is not None
        bound = self._program.in_force(name, cell.order)
        return bound is not None and bound.order < cell.order

    # --- what it runs on ------------------------------------------------------------------------

    def _resource(self) -> None:
        resource = self._origin.resource
        at = self._at()
        place = place_of(self._program.name, at.cell, at.line)
        if self._target.refuses(resource.cls):
            self.troubles.append(
                Trouble(
                    place,
                    f"{resource.name} is a {resource.cls}, which the official flash deploy cannot make",
                    "declare a LiveServerless or a LoadBalancerSlsResource, or export it for flash_nb",
                )
            )
        for name in sorted(resource.reads):
            bound = self._program.in_force(name, resource.order)
            if name in RESOURCE_NAMES:
                self.made.eager[name] = (f"from flash_nb import {name}",)
            elif bound is None and name == "os":
                self.made.eager[name] = ("import os",)
            else:
                reader = resource.bound or at
                self._need(name, reader, bound, -1, eager=True)

    # --- modules and secrets --------------------------------------------------------------------

    def _note_modules(self, statement: Statement, tree: ast.AST) -> None:
        own = tree is statement.node
        for module, line in (_imports_of(statement) if own else import_lines(tree)).items():
            self.made.modules.setdefault(module, (statement, line))
        for module, line in (_guesses_of(statement) if own else _guesses(tree)).items():
            self._guesses.setdefault(module, (statement, line))

    def find_modules(self, folder: Path | None, into: Path | None) -> None:
        """Find the modules that are files beside the notebook, and note those that cannot go along."""
        asked = {**self._guesses, **self.made.modules}
        found = find_modules(self.made.modules, self._guesses, here=folder)
        where = {name: asked[via] for name, via in found.via.items()}
        self.made.modules = {name: where[name] for name in sorted(found.outside)}
        self.made.companions = found.items
        staying = {item["name"] for item in found.items if stays(item, into)}
        for trouble in found.troubles:
            at = next((where[name] for name in (trouble.module, *where) if name in where), None)
            self._refuse_module(at, trouble.message, trouble.fix)
        for item in found.items:
            if item["name"] in RESERVED:
                message = f"{path_of(item)} beside the notebook is called as a file of the project"
                self._refuse_module(where[item["name"]], message, "give it another name")
        remarks = []
        for name, doubt in found.doubts:
            if doubt.code == "import":
                remarks.append(doubt.message)
            elif doubt.code == "secret" and name not in staying:
                message = f"{doubt.message.partition(',')[0]}: it is not copied"
                self._refuse_module(where[name], message, doubt.fix)
        self.made.remarks = tuple(remarks)
        for module in self.made.modules:
            missing = unprovided(module, folder)
            if missing is not None and not missing.package:
                self._refuse_module(where[module], missing.message, missing.fix)

    def _refuse_module(self, at: tuple[Statement, int] | None, message: str, fix: str) -> None:
        statement, line = at or (self._at(), 1)
        place = place_of(self._program.name, statement.cell, line)
        self.troubles.append(Trouble(place, f"{self._label}: {message}", fix))

    def _check_secrets(self, statement: Statement) -> None:
        value = statement.value
        if statement.kind in {"constant", "resource"} and value is not None:
            if statement.kind == "resource":
                return  # its settings are written without them
            (name,) = statement.names.binds or {""}
            if is_secret(name, value):
                return  # it is read from the environment instead
        self._check_tree(statement.node, statement, ())

    def _check_tree(self, tree: ast.AST, statement: Statement, allowed: Sequence[str]) -> None:
        for line, name, said in _secrets_of(tree):
            if name not in allowed:
                self.troubles.append(
                    Trouble(
                        place_of(self._program.name, statement.cell, line),
                        f"{self._label} holds what looks like {said}: it is not written to a file",
                        'read it from os.environ["…"], and set that in env={…} of the resource',
                    )
                )

    # --- saying it ------------------------------------------------------------------------------

    @property
    def _label(self) -> str:
        return self._origin.name or "the cell"

    def _at(self) -> Statement:
        if self._origin.statement is not None:
            return self._origin.statement
        return nothing(self._origin.cell, self._origin.order)

    def _refuse(self, reader: Statement, name: str, message: str, fix: str) -> None:
        own = self._origin.statement
        if own is not None and reader is not own and isinstance(reader.node, _DEFINITIONS):
            message = message.replace(
                f"{self._label} reads", f"{self._label} needs {reader.node.name}, which reads", 1
            )
        line = line_reading(reader.node, name)
        self.troubles.append(Trouble(place_of(self._program.name, reader.cell, line), message, fix))

    def _refuse_line(self, line: int, message: str, fix: str) -> None:
        place = place_of(self._program.name, self._origin.cell, line)
        self.troubles.append(Trouble(place, message, fix))


@lru_cache(maxsize=4096)  # one helper is carried for many functions
def _imports_of(statement: Statement) -> Mapping[str, int]:
    return import_lines(statement.node)


@lru_cache(maxsize=4096)
def _guesses_of(statement: Statement) -> Mapping[str, int]:
    return _guesses(statement.node) if "import" in statement.source else {}


def _guesses(tree: ast.AST) -> Mapping[str, int]:
    """Return what may be a module that code imports, ``a.b`` for ``from a import b``, with its line."""
    return {each.module: each.line for each in imports_of(tree) if each.is_guess}


@lru_cache(maxsize=4096)
def _secrets_of(tree: ast.AST) -> Sequence[tuple[int, str, str]]:
    """Return the line, the name and the sort of each secret that stands in code."""
    found = []
    for node in nodes(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(node, ast.Constant) and isinstance(text, str) and (said := form_of(text)):
            found.append((node.lineno, "", said))
        for name, value in named_values(node):
            if is_secret(name, value) and not form_of(ast.literal_eval(value)):
                found.append((value.lineno, name, f"the value of {name}, a secret"))
    return found


@lru_cache(maxsize=4096)
def inside_names(statement: Statement) -> frozenset[str]:
    """Return the names whose imports can go into the functions of a definition that read them."""
    if not isinstance(statement.node, _DEFINITIONS):
        return frozenset()
    if not isinstance(statement.node, ast.ClassDef) and not statement.node.decorator_list:
        return statement.names.lazy - declared_global(statement.node)
    found = (reads for _, reads in reading_functions(statement.node, statement.flags))
    return frozenset().union(*found)


def is_remote_decorator(program: Program, statement: Statement, decorator: ast.expr) -> bool:
    """Tell whether a decorator is ``remote``, with ``local=True`` or without."""
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = dotted(target, lambda each: program.resolve_at(each, statement.order))
    package, _, last = name.rpartition(".")
    return last == "remote" and package.partition(".")[0] in FLASH


def returned(program: Program, origin: Origin, made: Slice) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return what the function of a cell gives back, and which of that may not exist at its end."""
    cell, plan = origin.remote_cell, made.plan
    assert cell is not None
    assert plan is not None
    options, reading = cell.options, cell.reading
    outputs: Iterable[str] = plan.outputs if options.outputs is None else options.outputs
    dropped = {*plan.only_imported, *reading.item_names}
    if options.outputs is None:
        dropped |= set(plan.only_defined)
    names = [name for name in outputs if name not in dropped]
    if reading.items is None and options.outputs is None:
        modules = {*made.inside.get(-1, ()), *plan.only_imported}
        changed = changed_names(reading.tree, modules=modules) - _immutable(program, made)
        names += [name for name in made.parameters if name in changed and name not in names]
    order = {name: place for place, name in enumerate(_stored_in_order(reading.tree))}
    names.sort(key=lambda name: order.get(name, -1))
    known = [*names, *made.parameters]
    after = plan_cell(f"{reading.text.source}\n({', '.join(names)},)", known) if names else plan
    unsure = frozenset(names) & frozenset(after.inputs) - made.parameters.keys() - set(plan.only_defined)
    return tuple(names), unsure


def _immutable(program: Program, made: Slice) -> frozenset[str]:
    """Return the parameters whose values cannot change."""
    found = set()
    for name, bound in made.parameters.items():
        value = bound.value if bound is not None and bound.kind == "constant" else None
        if bound is not None and value is not None:
            at = bound.order
            if is_immutable(value, lambda each, at=at: literal(program, each, at)):  # type: ignore[misc]
                found.add(name)
    return frozenset(found)


def _stored_in_order(tree: ast.Module) -> Iterator[str]:
    seen = set()
    for statement in tree.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id not in seen:
                seen.add(node.id)
                yield node.id


def _stored(node: ast.AST) -> set[str]:
    found = {n.id for n in nodes(node) if isinstance(n, ast.Name) and isinstance(n.ctx, (ast.Store, ast.Del))}
    found |= {n.name for n in nodes(node) if isinstance(n, ast.ExceptHandler) and n.name}
    return found


def _names_in(tree: ast.AST) -> set[str]:
    return {node.id for node in nodes(tree) if isinstance(node, ast.Name)}


def _text(statement: Statement) -> str:
    return f"{statement.kind} {ast.dump(statement.node)}"


def _says_local(statement: Statement) -> bool:
    return isinstance(statement.node, _DEFINITIONS) and bool(statement.node.decorator_list)
