"""Calls: which remote functions the code of a project may call, read from the names in it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from .evaluation import is_ours
from .module import Module, Modules, absolute
from .value import Definition


class Calls:
    """Finds what definitions and modules may call.

    A name counts wherever it stands in a body, called or not: it may be handed on. Functions and classes
    of the project that a body names are looked into as well.

    Args:
        modules: All followed.
        remote: The names of the remote functions by their definition.
    """

    def __init__(self, modules: Modules, remote: Mapping[Definition, str]) -> None:
        self._modules = modules
        self._remote = remote
        self._named: dict[Definition, tuple[Definition, ...]] = {}

    def of(self, definition: Definition) -> frozenset[str]:
        """Return the remote functions that a definition may call."""
        found: set[str] = set()
        seen: set[Definition] = {definition}
        waiting = [*definition.bases, *self._names_of(definition)]
        while waiting:
            each = waiting.pop()
            if each in self._remote:
                found.add(self._remote[each])
            elif each not in seen:
                seen.add(each)
                waiting += [*each.bases, *self._names_of(each)]
        return frozenset(found)

    def of_modules(self, modules: Iterable[Module]) -> frozenset[str]:
        """Return the remote functions that modules may call, outside of the remote functions themselves."""
        found: set[str] = set()
        for module in modules:
            inside = {id(each.node) for each in self._remote if each.module == module.name}
            nodes = [node for node in module.tree.body if id(node) not in inside]
            for each in self._definitions(nodes, module):
                found |= {self._remote[each]} if each in self._remote else self.of(each)
        return frozenset(found)

    def _names_of(self, definition: Definition) -> tuple[Definition, ...]:
        if definition not in self._named:
            module = self._modules.find(definition.module)
            assert module is not None
            self._named[definition] = tuple(self._definitions([definition.node], module))
        return self._named[definition]

    def _definitions(self, nodes: Iterable[ast.stmt], module: Module) -> Iterator[Definition]:
        """Give the definitions of the project that some statements of a module name."""
        names = _Names(self._modules, module)
        for node in nodes:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    names.take(inner)
        for node in nodes:
            hidden = _locals(node) - set(names.imported)
            for inner in ast.walk(node):
                if isinstance(inner, ast.Name | ast.Attribute) and isinstance(inner.ctx, ast.Load):
                    yield from _definitions_in(names.value(inner, hidden))


class _Names:
    """What names stand for when a function is called: its own imports, and the module's names at the end."""

    def __init__(self, modules: Modules, module: Module) -> None:
        self._modules = modules
        self._module = module
        self.imported: dict[str, object] = {}

    def take(self, node: ast.Import | ast.ImportFrom) -> None:
        """Let the names of an import inside a function stand for what it imports."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                self._bind(alias.asname or name, self._modules.find(name))
            return
        source = absolute(node, self._module)
        module = self._modules.find(source) if source and not is_ours(source) else None
        for alias in node.names:
            if module is not None and alias.name != "*":
                self._bind(alias.asname or alias.name, self._modules.attribute(module, alias.name))

    def _bind(self, name: str, value: object) -> None:
        if value is not None:
            self.imported[name] = value

    def value(self, node: ast.expr, hidden: set[str]) -> object:
        """Return what a name, or an attribute of a module or class, stands for; None if that is unclear."""
        if isinstance(node, ast.Name):
            if node.id in self.imported:
                return self.imported[node.id]
            return None if node.id in hidden else self._modules.settled(self._module.names.get(node.id))
        if isinstance(node, ast.Attribute):
            base = self.value(node.value, hidden)
            if isinstance(base, Module):
                return self._modules.attribute(base, node.attr)
            if isinstance(base, Definition):
                return base.attributes.get(node.attr)
        return None


def _locals(node: ast.stmt) -> set[str]:
    """Return the names that a function binds itself: they are not the module's."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return set()
    found = {argument.arg for inner in ast.walk(node) if isinstance(inner, ast.arguments)
             for argument in ast.walk(inner) if isinstance(argument, ast.arg)}  # fmt: skip
    shared: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            found.add(inner.id)
        elif isinstance(inner, ast.Global):
            shared.update(inner.names)
    return found - shared


def _definitions_in(value: object) -> Iterator[Definition]:
    if isinstance(value, Definition):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _definitions_in(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _definitions_in(item)
