"""Imports: what the modules that run on workers import, from the project and from outside."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from flash_nb.errors import did_you_mean
from flash_nb.project.declared import Import, Place, Trouble
from flash_nb.project.scan.evaluation import is_ours
from flash_nb.project.scan.module import Module, Modules, absolute

_GOES_ON = frozenset({"BaseException", "Exception", "ImportError", "ModuleNotFoundError"})
_DEFINITIONS = frozenset({ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef})
_SIMPLE = frozenset({ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return})
"""Most statements are one of these, and have no import inside."""


@dataclass(frozen=True)
class Statement:
    """An import statement, one of its modules.

    Attributes:
        module: Absolute; empty if it leads out of the project.
        names: What is taken from it; None for ``import module``.
        line: Where.
        guarded: See `flash_nb.project.declared.Import`.
    """

    module: str
    names: tuple[str, ...] | None
    line: int
    guarded: bool


@dataclass(frozen=True)
class Found:
    """What some modules import, directly or by each other.

    Attributes:
        modules: Modules of the project, those asked for included, in the order they were met.
        imports: By module, what is imported from outside.
        troubles: Imports that cannot work on a worker.
    """

    modules: tuple[Module, ...]
    imports: Mapping[str, tuple[Import, ...]]
    troubles: tuple[Trouble, ...]


def find_imports(modules: Modules, first: Iterable[str], why_left_out: Callable[[str], str]) -> Found:
    """Follow imports from some modules on.

    Args:
        modules: The project's.
        first: Names of the modules that workers import.
        why_left_out: Says why a file of this path, relative to the project, is in its folder and not in
            the artifact; empty if that is not so.
    """
    closure = _Closure(modules, why_left_out)
    for name in first:
        closure.add(name)
    while closure.waiting:
        closure.read(closure.waiting.pop(0))
    return Found(tuple(closure.seen.values()), closure.imports, tuple(closure.troubles))


class _Closure:
    def __init__(self, modules: Modules, why_left_out: Callable[[str], str]) -> None:
        self._modules = modules
        self._why_left_out = why_left_out
        self._files: dict[str, tuple[str, str] | None] = {}
        self.seen: dict[str, Module] = {}
        self.waiting: list[Module] = []
        self.imports: dict[str, tuple[Import, ...]] = {}
        self.troubles: list[Trouble] = []

    def add(self, name: str) -> bool:
        """Follow a module and the packages around it; return whether the project has it."""
        if name in self.seen:
            return True
        module = self._modules.find(name)
        if module is None:
            return False
        while name:
            around = self._modules.find(name)
            if around is not None and name not in self.seen:
                self.seen[name] = around
                self.waiting.append(around)
            name = name.rpartition(".")[0]
        return True

    def read(self, module: Module) -> None:
        """Follow the imports of a module."""
        outside = [
            Import(
                statement.module, Place(module.file, statement.line), statement.guarded, statement.names or ()
            )
            for statement in statements_of(module)
            if not self._is_inside(statement, module)
        ]
        if outside:
            self.imports[module.name] = tuple(outside)

    def _is_inside(self, statement: Statement, module: Module) -> bool:
        """Follow an import that is of the project; return whether it is, or needs no further look."""
        place = Place(module.file, statement.line)
        if not statement.module and not statement.guarded:
            self.troubles.append(_outside(place))
        if not statement.module or is_ours(statement.module):
            return True
        inside = self.add(statement.module)
        submodules = [f"{statement.module}.{name}" for name in statement.names or () if name != "*"]
        known = [self.add(name) for name in submodules]
        if statement.guarded:
            return inside
        missing = [name for name, is_known in zip(submodules, known, strict=True) if not is_known]
        for name in [statement.module, *missing] if not inside else missing:
            if left_out := self._left_out(name):
                self.troubles.append(_excluded(name, *left_out, place))
                return True
        if inside:
            source = self._modules.find(statement.module)
            return bool(source and source.file) or all(known) or not submodules
        owner = self._modules.find(statement.module.partition(".")[0])
        if owner is not None and owner.file:
            self.troubles.append(_missing(statement.module, place, self._modules))
            return True
        return False

    def _left_out(self, name: str) -> tuple[str, str] | None:
        """Return the file of a module that lies in the project's folder but not in the artifact, and why."""
        if name not in self._files:
            path = name.replace(".", "/")
            files = () if self._modules.find(name) else (f"{path}.py", f"{path}/__init__.py")
            found = ((file, why) for file in files if (why := self._why_left_out(file)))
            self._files[name] = next(found, None)
        return self._files[name]


def _excluded(name: str, file: str, why: str, place: Place) -> Trouble:
    return Trouble(
        place,
        f"{name} is imported, but its file {file} is left out {why}",
        f"Take {file} out of the ignore rules, or do not import it.",
    )


def _outside(place: Place) -> Trouble:
    return Trouble(
        place,
        "the relative import leads out of the project: workers start in the project's folder",
        "Import it by its name from there: from configs import gpu",
    )


def _missing(name: str, place: Place, modules: Modules) -> Trouble:
    near = did_you_mean(name, [module.name for module in modules])
    return Trouble(
        place, f"{name} is imported, but the project has no such module{near}", "Correct the name."
    )


def statements_of(module: Module) -> Iterator[Statement]:
    """Give the imports of a module, those inside functions too, in order of lines."""
    yield from _statements(module.tree.body, module, guarded=False)


def _statements(body: Iterable[ast.stmt], module: Module, *, guarded: bool) -> Iterator[Statement]:
    for node in body:
        kind = type(node)
        if kind in _SIMPLE:
            continue
        if kind in _DEFINITIONS:
            yield from _statements(node.body, module, guarded=guarded)  # type: ignore[attr-defined]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield Statement(alias.name, None, node.lineno, guarded)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            yield Statement(absolute(node, module) or "", names, node.lineno, guarded)
        elif isinstance(node, ast.If) and (only := only_when(node.test)):
            if only == "TYPE_CHECKING":
                yield from _statements(node.body, module, guarded=True)
            yield from _statements(node.orelse, module, guarded=guarded)
        elif isinstance(node, ast.Try) or type(node).__name__ == "TryStar":
            caught = any(_goes_on(handler.type) for handler in node.handlers)  # type: ignore[attr-defined]
            yield from _statements(node.body, module, guarded=guarded or caught)  # type: ignore[attr-defined]
            for handler in node.handlers:  # type: ignore[attr-defined]
                # What is imported instead may be missing as well, where the first one is there.
                yield from _statements(handler.body, module, guarded=guarded or caught)
            yield from _statements(node.orelse, module, guarded=guarded)  # type: ignore[attr-defined]
            yield from _statements(node.finalbody, module, guarded=guarded)  # type: ignore[attr-defined]
        elif isinstance(node, ast.With | ast.AsyncWith):
            suppressed = guarded or any(_suppresses(item.context_expr) for item in node.items)
            yield from _statements(node.body, module, guarded=suppressed)
        elif isinstance(node, ast.Match):
            for case in node.cases:
                yield from _statements(case.body, module, guarded=guarded)
        elif isinstance(node, ast.For | ast.AsyncFor | ast.While | ast.If):
            yield from _statements([*node.body, *node.orelse], module, guarded=guarded)


def _last_name(node: ast.expr | None) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def only_when(test: ast.expr) -> str:
    """Return ``TYPE_CHECKING`` or ``__main__`` if a condition is that: no import makes it true."""
    if _last_name(test) == "TYPE_CHECKING":
        return "TYPE_CHECKING"
    match test:
        case ast.Compare(
            left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[ast.Constant("__main__")]
        ):
            return "__main__"
    return ""


def _goes_on(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(map(_goes_on, caught.elts))
    return caught is None or _last_name(caught) in _GOES_ON


def _suppresses(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call) and _last_name(node.func) == "suppress" and any(map(_goes_on, node.args))
    )
