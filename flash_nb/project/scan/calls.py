"""Calls: which remote functions the code of a project may call, read from the names in it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from flash_nb.project.scan.evaluation import is_ours
from flash_nb.project.scan.imports import only_when
from flash_nb.project.scan.module import Module, Modules, absolute
from flash_nb.project.scan.reading import Reading, read
from flash_nb.project.scan.value import ABSENT, Definition


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
            for node in module.tree.body:
                is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                if id(node) in inside or is_function or (isinstance(node, ast.If) and only_when(node.test)):
                    continue
                for each in self._definitions(node, module):
                    found |= {self._remote[each]} if each in self._remote else self.of(each)
            # A function may be called by whoever imports it, and a route by the framework.
            for value in module.names.values():
                if isinstance(value, Definition) and value not in self._remote:
                    found |= self.of(value)
        return frozenset(found)

    def _names_of(self, definition: Definition) -> tuple[Definition, ...]:
        if definition not in self._named:
            module = self._modules.find(definition.module)
            assert module is not None
            self._named[definition] = tuple(self._definitions(definition.node, module))
        return self._named[definition]

    def _definitions(self, node: ast.stmt, module: Module) -> Iterator[Definition]:
        """Give the definitions of the project that a statement of a module names."""
        for reading in read(node):
            imported = dict(self._imported(reading, module))
            for name in reading.names:
                yield from _definitions_in(self._value(name, reading, imported, module))

    def _value(self, name: str, reading: Reading, imported: Mapping[str, object], module: Module) -> object:
        """Return what a dotted name stands for when the code runs; None if that is unclear.

        That is by the code's own imports, or by the module's names at the end.
        """
        first, *rest = name.split(".")
        value = imported.get(first)
        if value is None and first not in reading.bound:
            value = self._modules.settled(module.names.get(first))
        for word in rest:
            if isinstance(value, Module):
                value = self._modules.attribute(value, word)
            elif isinstance(value, Definition) and (found := value.attribute(word)) is not ABSENT:
                value = found
            else:
                break  # `function.submit` and the like: an attribute of what is named
        return value

    def _imported(self, reading: Reading, module: Module) -> Iterator[tuple[str, object]]:
        for node in reading.imports:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.name if alias.asname else alias.name.partition(".")[0]
                    yield alias.asname or name, self._modules.find(name)
                continue
            source = absolute(node, module)
            owner = self._modules.find(source) if source and not is_ours(source) else None
            for alias in node.names:
                if owner is not None and alias.name != "*":
                    yield alias.asname or alias.name, self._modules.attribute(owner, alias.name)


def _definitions_in(value: object) -> Iterator[Definition]:
    if isinstance(value, Definition):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _definitions_in(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _definitions_in(item)
