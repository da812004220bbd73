"""A module of a project, followed as an import would run it: statement by statement, by its text alone.

Imports among the project's files are followed, so that a name means what Python lets it mean: an alias, a
re-export, a config of another file. A branch whose condition is not known is followed both ways; what the
two leave different is unknown after it.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from flash_nb.cells.syntax import nodes
from flash_nb.errors import did_you_mean
from flash_nb.project.declared import Place, Trouble
from flash_nb.project.scan.evaluation import NAMES, Evaluation, contains, is_ours, named, package_name
from flash_nb.project.scan.value import (
    ABSENT,
    Declaration,
    Decorator,
    Definition,
    External,
    Package,
    Remote,
    Unknown,
    is_plain,
    same,
    shown,
    unknowns,
)

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(eq=False)
class Module:
    """A module, and what following it has found so far.

    Attributes:
        name: Dotted: ``workers.gpu.endpoint``.
        file: Relative to the project; empty for a folder without ``__init__.py``.
        tree: Its syntax.
        text: As it stands in the file.
        is_package: Whether it is a folder.
        state: Whether it was followed.
        names: What its names stand for; at the end, once it is done.
        found: Decorated definitions, in the order in which Python meets them.
        troubles: What stands against a build.
        open_at: Line of a ``from … import *`` of a module that is not of the project; 0 if there is none.
    """

    name: str
    file: str
    tree: ast.Module
    is_package: bool = False
    text: str = ""
    state: Literal["new", "running", "done"] = "new"
    names: dict[str, object] = field(default_factory=dict)
    found: list[Decorated] = field(default_factory=list)
    troubles: dict[Trouble, None] = field(default_factory=dict)
    open_at: int = 0
    _lines_of: dict[str, int] | None = None

    def line_of(self, name: str) -> int | None:
        """Return the first line that binds a name, anywhere; None if none does."""
        if self._lines_of is None:
            self._lines_of = {}
            for node in nodes(self.tree):
                for bound in _bound_by(node):
                    line = getattr(node, "lineno", 1)
                    self._lines_of[bound] = min(line, self._lines_of.get(bound, line))
        return self._lines_of.get(name)

    def reset(self, state: Literal["new", "running"]) -> None:
        """Forget what was found."""
        self.state = state
        self.names = {"__name__": self.name, "__file__": External("__file__")}
        self.found = []
        self.troubles = {}


@dataclass(frozen=True, eq=False)
class Decorated:
    """A definition and the `remote` that it is decorated with."""

    definition: Definition
    decorator: Decorator


@dataclass(frozen=True)
class Late:
    """A name of a module that could not be followed yet, because both import each other."""

    module: Module
    name: str


class _NotYetError(Exception):
    """A module takes a name from one that is followed already and has not come to it."""


class Modules:
    """The modules of a project, each followed once, when the first import of it is met.

    Args:
        modules: By name.
    """

    def __init__(self, modules: Iterable[Module]) -> None:
        self._modules = {module.name: module for module in modules}
        for name in list(self._modules):
            self._add_folders(name)

    def _add_folders(self, name: str) -> None:
        while name := name.rpartition(".")[0]:
            self._modules.setdefault(name, Module(name, "", ast.Module([], []), is_package=True))

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def find(self, name: str) -> Module | None:
        """Return a module by its dotted name, as it is now."""
        return self._modules.get(name)

    def forget(self) -> None:
        """Let go of all modules."""
        for module in self._modules.values():
            module.reset("new")
        self._modules.clear()

    def follow_all(self) -> None:
        """Follow every module."""
        for module in list(self._modules.values()):
            self.follow(module.name)

    def follow(self, name: str) -> Module | None:
        """Follow a module and the packages around it, unless that was begun; None if there is none.

        Its state is still "new" afterwards if it needs a name that a module being followed has not
        come to: then it is followed once that is done.
        """
        module = self._modules.get(name)
        if module is None or module.state != "new":
            return module
        package = name.rpartition(".")[0]
        if package:
            self.follow(package)
        if module.state == "new":
            module.reset("running")
            try:
                _Run(self, module).statements(module.tree.body)
            except _NotYetError:
                module.reset("new")
                return module
            except RecursionError:
                module.troubles[_too_deep(module)] = None
            module.state = "done"
        return module

    def attribute(self, module: Module, name: str) -> object:
        """Return what a name of a module stands for, or its submodule of that name; `ABSENT` if none is."""
        if name in module.names:
            return self.settled(module.names[name])
        return self.follow(f"{module.name}.{name}") or ABSENT

    def settled(self, value: object) -> object:
        """Return what a name stands for that could not be followed when it was bound."""
        if not isinstance(value, Late):
            return value
        found = value.module.names.get(value.name)
        if found is None or isinstance(found, Late):
            why = f"{value.name} of {value.module.name} is not there yet: the two modules import each other"
            return Unknown(Place(value.module.file, 1), None, why, "Move what both need to a third module.")
        return found


class _Run:
    """One run over the statements of a module, or of a class body inside it."""

    def __init__(
        self, modules: Modules, module: Module, names: dict[str, object] | None = None, owner: str = ""
    ) -> None:
        self.file = module.file
        self.is_certain = True
        self._modules = modules
        self._module = module
        self._names = module.names if names is None else names
        self._owner = owner

    @property
    def _evaluation(self) -> Evaluation:
        """Made anew each time: kept, the two would hold each other, and with them the project's trees."""
        return Evaluation(self)

    # What an evaluation asks for

    def lookup(self, node: ast.Name) -> object:
        """Return what a name stands for."""
        for names in (self._names, self._module.names):
            if node.id in names:
                return self._modules.settled(names[node.id])
        return Unknown(Place(self.file, node.lineno), None, *self._missing(node))

    def bind(self, name: str, value: object) -> None:
        """Let a name stand for a value."""
        self._names[name] = value

    def attribute_of(self, value: object, name: str) -> object:
        """Return an attribute of a module of the project."""
        if not isinstance(value, Module):
            return ABSENT
        found = self._modules.attribute(value, name)
        if found is ABSENT and value.state == "running" and value is not self._module:
            raise _NotYetError
        return found

    def decorated(self, decorator: Decorator, definition: Definition) -> None:
        """Take note of a decorated definition."""
        if self._owner:
            self.trouble(
                Trouble(
                    definition.place,
                    f"{definition.name} is decorated inside the class {self._owner}",
                    f"Decorate {self._owner}, or move {definition.name} to the top level of the module.",
                )
            )
            return
        self._module.found.append(Decorated(definition, decorator))

    def trouble(self, trouble: Trouble) -> None:
        """Take note of something that stands against a build."""
        self._module.troubles[trouble] = None

    def _missing(self, node: ast.Name) -> tuple[str, str]:
        """Return why a name stands for nothing, and what to do."""
        name = node.id
        if hasattr(builtins, name):
            return f"{name} is known only when the code runs", "Write the value itself."
        line = self._module.line_of(name)
        if line is not None and line >= node.lineno:
            return (
                f"{name} is used before its definition at {Place(self.file, line)}",
                f"Move the definition of {name} above line {node.lineno}.",
            )
        if line is not None:
            return f"{name} is not bound there in each case", f"Bind {name} at the top level of the module."
        if self._module.open_at:
            star = Place(self.file, self._module.open_at)
            return f"{name} may come from the import * at {star}", f"Import {name} by its name."
        near = did_you_mean(name, [*self._names, *self._module.names])
        return f"{name} is not defined in {self.file}{near}", f"Define or import {name} above this line."

    # Statements

    def statements(self, body: Iterable[ast.stmt]) -> None:
        """Follow statements one after the other."""
        for statement in body:
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:  # noqa: C901, PLR0912 - one `match` over Python's statements
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._define(node)
            case ast.Import():
                self._import(node)
            case ast.ImportFrom():
                self._import_from(node)
            case ast.Assign():
                self._assign(node.targets, self._evaluation.value(node.value))
            case ast.AnnAssign(value=ast.expr()):
                assert node.value is not None
                self._assign([node.target], self._evaluation.value(node.value))
            case ast.AugAssign():
                self._change(node)
            case ast.Expr():
                self._evaluation.value(node.value)
            case ast.If():
                self._if(node)
            case ast.Try():
                self._try(node)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self._evaluation.value(item.context_expr)
                    if item.optional_vars is not None:
                        self._assign([item.optional_vars], self._unknown(item.context_expr))
                self.statements(node.body)
            case ast.For() | ast.AsyncFor() | ast.While():
                self._loop(node)
            case ast.Match():
                value = self._evaluation.value(node.subject)
                self._forget(node, lambda name: name not in self._names and is_plain(value))
                self._either(node, *(self._following(case.body) for case in node.cases), lambda: None)
            case ast.Delete():
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        self._names.pop(target.id, None)
                    elif isinstance(target, ast.Subscript):
                        self._evaluation.change(self._evaluation.value(target.value), None, node)
            case _:
                if type(node).__name__ == "TryStar":
                    self._try(node)  # type: ignore[arg-type]  # it has the same parts; Python 3.11 on

    def _unknown(self, node: ast.AST, why: str = "is known only when the code runs") -> Unknown:
        return Unknown(self._evaluation.place(node), node, why)

    def _following(self, body: Iterable[ast.stmt]) -> Callable[[], None]:
        return lambda: self.statements(body)

    def _define(self, node: _Definition) -> None:
        decorators = [(each, self._evaluation.value(each)) for each in node.decorator_list]
        definition = Definition(node, self._module.name, Place(self.file, node.lineno))
        if isinstance(node, ast.ClassDef):
            bases = (self._evaluation.value(base) for base in node.bases)
            definition.bases = tuple(base for base in bases if isinstance(base, Definition))
            attributes: dict[str, object] = {}
            definition.attributes = attributes
            body = _Run(self._modules, self._module, attributes, node.name)
            body.is_certain = self.is_certain
            body.statements(node.body)
        for written, decorator in reversed(decorators):
            self._decorate(definition, written, decorator)
        self._names[node.name] = definition

    def _decorate(self, definition: Definition, written: ast.expr, decorator: object) -> None:
        place = self._evaluation.place(written)
        if isinstance(decorator, Decorator):
            self.decorated(decorator, definition)
        elif isinstance(decorator, Remote):
            self.decorated(Decorator((), {}, place), definition)
        elif isinstance(decorator, Unknown) and decorator.is_remote:
            self.trouble(Trouble(place, f"{definition.name}: {decorator}", decorator.fix))
        elif isinstance(missing := self._missing_remote(written), Unknown):
            self.trouble(Trouble(place, f"{definition.name}: {missing}", "from flash_nb import remote"))
        elif package := _missing_from_package(decorator, written, self._evaluation):
            self.trouble(
                Trouble(
                    place,
                    f"{definition.name} is decorated with {shown(written)}, and {package} is not "
                    f"supported{did_you_mean(package.rpartition('.')[2], NAMES)}",
                    "Decorate it with @remote(resource_config=…).",
                )
            )

    def _missing_remote(self, decorator: ast.expr) -> object:
        """Return what `remote` stands for where that is what decorates; None if it is something else."""
        while isinstance(decorator, ast.Call):
            decorator = decorator.func
        is_remote = isinstance(decorator, ast.Name) and decorator.id == "remote"
        return self._evaluation.value(decorator) if is_remote else None

    def _assign(self, targets: Iterable[ast.expr], value: object) -> None:
        for target in targets:
            value = self._assign_one(target, value)

    def _assign_one(self, target: ast.expr, value: object) -> object:
        """Assign, and return the value as the next target of a chain gets it."""
        match target:
            case ast.Name():
                value = named(value, target.id)
                self._names[target.id] = value
            case ast.Tuple() | ast.List():
                self._unpack(target, value)
            case ast.Starred():
                self._assign_one(target.value, value)
            case ast.Subscript():
                self._assign_item(target, value)
            case ast.Attribute():
                self._assign_attribute(target, value)
        return value

    def _unpack(self, target: ast.Tuple | ast.List, value: object) -> None:
        starred = any(isinstance(element, ast.Starred) for element in target.elts)
        parts = list(value) if isinstance(value, list | tuple) and not starred else []
        if len(parts) != len(target.elts):
            parts = [next(unknowns(value), self._unknown(element)) for element in target.elts]
        for element, part in zip(target.elts, parts, strict=True):
            self._assign_one(element, part)

    def _assign_item(self, target: ast.Subscript, value: object) -> None:
        base = self._evaluation.value(target.value)
        key = self._evaluation.value(target.slice)
        if not isinstance(base, dict | list):
            return
        certain = is_plain(key) and not contains(value, base)
        changed: Any = base

        def change() -> None:
            try:
                changed[key] = value
            except (TypeError, IndexError, ValueError):
                self._evaluation.change(base, None, target)

        self._evaluation.change(base, change if certain else None, target)

    def _assign_attribute(self, target: ast.Attribute, value: object) -> None:
        base = self._evaluation.value(target.value)
        if isinstance(base, Declaration):
            self.trouble(
                Trouble(
                    self._evaluation.place(target),
                    f"{shown(target)} cannot be set: a {type(base.value).__name__} does not change",
                    f"Write {target.attr} where it is declared, at {base.place}.",
                )
            )
        elif isinstance(base, Module):
            base.names[target.attr] = value if self.is_certain else self._unknown(target)
        elif isinstance(base, Definition) and isinstance(base.attributes, dict):
            base.attributes[target.attr] = value if self.is_certain else self._unknown(target)

    def _change(self, node: ast.AugAssign) -> None:
        if not isinstance(node.target, ast.Name):
            if isinstance(node.target, ast.Subscript):
                self._evaluation.change(self._evaluation.value(node.target.value), None, node)
            return
        before = self.lookup(node.target)
        # A list or dict is changed for all of its names; here it gets a new value,
        # and what the others show is unknown.
        result = self._evaluation.value(ast.copy_location(ast.BinOp(node.target, node.op, node.value), node))
        if isinstance(before, list | dict | set):
            self._evaluation.change(before, None, node)
        self._names[node.target.id] = result

    # Branches

    def _if(self, node: ast.If) -> None:
        test = self._evaluation.value(node.test)
        if is_plain(test):
            self.statements(node.body if test else node.orelse)
        else:
            self._either(node, self._following(node.body), self._following(node.orelse))

    def _try(self, node: ast.Try) -> None:
        before = dict(self._names)
        self.statements(node.body)
        self.statements(node.orelse)
        after = dict(self._names)
        certain, self.is_certain = self.is_certain, False
        for handler in node.handlers:
            # What the body binds first may be missing there, or not.
            self._replace({**after, **before})
            if handler.name:
                self._names[handler.name] = self._unknown(handler)
            self.statements(handler.body)
            for name, value in self._names.items():
                if name not in after:
                    after[name] = value
                elif not same(value, after[name]) and not _is_code(value) and not _is_code(after[name]):
                    after[name] = Unknown(
                        self._evaluation.place(node),
                        None,
                        f"{name} depends on whether the try at {self._evaluation.place(node)} succeeds",
                    )
        self.is_certain = certain
        self._replace(after)
        self.statements(node.finalbody)

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While) -> None:
        if isinstance(node, ast.While):
            test = self._evaluation.value(node.test)
            if is_plain(test) and not test:
                return self.statements(node.orelse)
        else:
            self._evaluation.value(node.iter)
        self._forget(node, lambda _: True)
        certain, self.is_certain = self.is_certain, False
        self.statements(node.body)
        self.is_certain = certain
        self.statements(node.orelse)
        return None

    def _forget(self, node: ast.stmt, is_forgotten: Callable[[str], bool]) -> None:
        """Let the names that a statement binds be unknown: a loop binds them again and again."""
        for inner in ast.walk(node):
            for name in _bound_by(inner):
                if is_forgotten(name) and not isinstance(inner, (*_DEFINITIONS, ast.alias)):
                    self._names[name] = Unknown(
                        self._evaluation.place(inner), None, f"{name} is set in a loop or by a pattern"
                    )

    def _either(self, node: ast.stmt, *ways: Callable[[], None]) -> None:
        """Follow several ways from here, of which Python takes one."""
        before = dict(self._names)
        certain, self.is_certain = self.is_certain, False
        results: list[dict[str, object]] = []
        for way in ways:
            self._replace(before)
            way()
            results.append(dict(self._names))
        self.is_certain = certain
        joined: dict[str, object] = {}
        for result in results:
            for name, value in result.items():
                joined[name] = value if name not in joined else self._joined(node, name, joined[name], value)
        self._replace(joined)

    def _joined(self, node: ast.stmt, name: str, one: object, other: object) -> object:
        if same(one, other):
            return one
        if isinstance(one, Definition) and isinstance(other, Definition):
            return one
        return Unknown(
            self._evaluation.place(node),
            None,
            f"{name} depends on a condition that is known only when the code runs",
            "Bind it once, or give each case a name of its own.",
            is_remote=any(
                isinstance(each, Remote | Decorator | Package)
                or (isinstance(each, Unknown) and each.is_remote)
                for each in (one, other)
            ),
        )

    def _replace(self, names: Mapping[str, object]) -> None:
        self._names.clear()
        self._names.update(names)

    # Imports

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            head = alias.name.partition(".")[0]
            found = self._module_called(alias.name)
            if alias.asname is None:
                if head != alias.name:
                    found = self._module_called(head)
                self._names[head] = found
            else:
                self._names[alias.asname] = found

    def _module_called(self, name: str) -> object:
        if is_ours(name):
            return Package(name)
        return self._modules.follow(name) or External(name)

    def _import_from(self, node: ast.ImportFrom) -> None:
        source = absolute(node, self._module)
        if source is None:
            for alias in node.names:
                self._names[alias.asname or alias.name] = self._unknown(node, "leads out of the project")
            return
        if is_ours(source) and not node.level:
            self._from_package(source, node)
            return
        module = self._modules.follow(source)
        for alias in node.names:
            if alias.name == "*":
                self._from_all(module, node.lineno)
            elif module is None:
                self._names[alias.asname or alias.name] = self._evaluation.attribute(
                    External(source), alias.name, node
                )
            else:
                self._names[alias.asname or alias.name] = self._name_of(module, alias.name, node)

    def _from_package(self, source: str, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self._names.update(NAMES)
            else:
                self._names[alias.asname or alias.name] = package_name(source, alias.name)

    def _name_of(self, module: Module, name: str, node: ast.ImportFrom) -> object:
        if module.state == "new":
            return Late(module, name)
        found = self._modules.attribute(module, name)
        if found is not ABSENT:
            return found
        if module.state == "running" and module is not self._module:
            raise _NotYetError
        place = self._evaluation.place(node)
        near = did_you_mean(name, module.names)
        return Unknown(
            place,
            None,
            f"{module.name} has no name {name!r}{near}",
            f"Define {name} in {module.file or module.name}, or import it from where it is.",
        )

    def _from_all(self, module: Module | None, line: int) -> None:
        if module is None:
            self._module.open_at = line
            return
        if module.state == "running" and module is not self._module:
            raise _NotYetError
        listed: Any = module.names.get("__all__")
        if not isinstance(listed, list | tuple):
            listed = [name for name in list(module.names) if not name.startswith("_")]
        for name in listed:
            if isinstance(name, str):
                found = self._modules.attribute(module, name)
                if found is not ABSENT:
                    self._names[name] = found


def absolute(node: ast.ImportFrom, module: Module) -> str | None:
    """Return the absolute name that a ``from … import`` takes from; None if it leads out of the project."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    kept = len(parts) - node.level + (1 if module.is_package else 0)
    if kept < 1:
        return None
    return ".".join([*parts[:kept], *([node.module] if node.module else [])])


def _bound_by(node: ast.AST) -> Iterator[str]:
    """Give the names that a node binds, wherever it stands."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, _DEFINITIONS):
        yield node.name
    elif isinstance(node, ast.alias):
        yield node.asname or node.name.partition(".")[0]
    elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name


def _is_code(value: object) -> bool:
    """Say if a value is something imported or defined, not a setting.

    ``try`` … ``except ImportError`` binds such names to what does the same, so the first is taken.
    """
    return isinstance(value, Remote | Decorator | Package | External | Module | Definition | Late | Unknown)


def _missing_from_package(value: object, written: ast.expr, evaluation: Evaluation) -> str:
    """Return the name of our packages that a decorator is made of and that we do not have, if any."""
    if isinstance(value, Package):
        return value.path
    node: ast.expr = written
    while isinstance(node, ast.Call | ast.Attribute):
        node = node.func if isinstance(node, ast.Call) else node.value
        found = evaluation.value(node)
        if isinstance(found, Package) and found.path.partition(".")[2]:
            return found.path
        if isinstance(found, Unknown) and isinstance(found.node, ast.Call):
            return _missing_from_package(found, found.node, evaluation)
    return ""


def _too_deep(module: Module) -> Trouble:
    return Trouble(
        Place(module.file, 1), "the code is nested too deep to be read", "Split it, or leave the file out."
    )
