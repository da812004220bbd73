"""Code that travels: a function or class, as its source and what that source needs.

`ObjectCode` starts from a live object, as a decorator gets it. `CellCode` starts from a cell that
was never executed here: the whole cell is the source.
"""

from __future__ import annotations

import ast
import inspect
from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from flash_nb.jobs import Carried
from flash_nb.sdk import scope
from flash_nb.sdk.capture import Capture, Closure, Collector, Source, namespace_of, source_of
from flash_nb.sdk.place import place
from flash_nb.worker.namespace import attribute, compile_item


class Code(Protocol):
    """A function or class that can be sent.

    Attributes:
        name: Its name.
        definitions: Names that its source defines: pickles may mention them.
        methods: Public methods of a class; empty for a function.
    """

    name: str
    definitions: tuple[str, ...]
    methods: tuple[str, ...]

    def collector(self) -> Collector:
        """Return a collector that holds the source."""

    def check(self, captured: Capture, method: str | None = None) -> Carried:
        """Return what is carried, for people.

        Args:
            captured: What the collector found.
            method: What is called of a class; its constructor runs too.

        Raises:
            UndefinedNameError: The call cannot end well: it reads names that exist nowhere.
        """

    def resolve(self, qualname: str) -> Any:
        """Find what a pickle from a worker calls ``__main__.qualname``."""

    def parameters(self, method: str | None) -> Sequence[str]:
        """Return the names of the positional parameters, for messages."""


class ObjectCode:
    """The code of a function or class that exists here.

    Globals are read at each call, as in Python.
    """

    def __init__(self, obj: Any) -> None:
        self.name: str = obj.__name__
        self.definitions: tuple[str, ...] = (self.name,)
        self.methods: tuple[str, ...] = _public_methods(obj) if isinstance(obj, type) else ()
        self._obj = obj
        self._namespace = namespace_of(obj)
        self._source: Source | None = None

    @property
    def namespace_id(self) -> int:
        """Equal for functions that see the same names from outside."""
        function = inspect.unwrap(self._obj)
        return id(self) if function.__closure__ else id(function.__globals__)

    def collector(self) -> Collector:
        """Return a collector that holds the definition."""
        collector = Collector(self._namespace)
        self.add_to(collector)
        return collector

    @property
    def source(self) -> Source:
        """The definition."""
        if self._source is None:
            self._source = source_of(self._obj)
        return self._source

    def add_to(self, collector: Collector) -> None:
        """Have a collector of the same namespace hold the definition too."""
        collector.add_source(self.name, self.source)

    def check(self, captured: Capture, method: str | None = None) -> Carried:
        """Return what is carried; see `Code`."""
        return _check(self.name, self.source, self._namespace, captured, method)

    def check_strict(self) -> None:
        """Enforce the documented rule that everything is inside.

        Raises:
            ScopeError: Something is not.
        """
        source = self.source
        around = self._namespace.maps[0] if isinstance(self._namespace, ChainMap) else {}
        closure = around.names if isinstance(around, Closure) else ()
        outside = scope.outside_names(source.definition, self._namespace, closure=closure)
        scope.refuse_outside(_label(source), place(source.filename), outside)

    def resolve(self, qualname: str) -> Any:
        """Find a name where the object sees its globals."""
        root, *path = qualname.split(".")
        found = self._obj if root == self.name else self._namespace[root]
        return attribute(found, path)

    def parameters(self, method: str | None) -> Sequence[str]:
        """Return the names of the positional parameters."""
        target = getattr(self._obj, method) if method else self._obj
        try:
            names = list(inspect.signature(target).parameters)
        except (TypeError, ValueError):
            return ()
        return names[1:] if method else names


class CellCode:
    """A function or class of a cell that only defines; see `flash_nb.notebook.definitions`.

    Args:
        name: Which one.
        node: Its definition.
        definitions: Everything that the cell defines.
        source: The whole cell.
        namespace: The notebook's.
    """

    def __init__(
        self,
        name: str,
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
        *,
        definitions: tuple[str, ...],
        source: Source,
        namespace: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.definitions = definitions
        self._node = node
        self._source = source
        self._namespace = namespace
        self._executed: dict[str, Any] | None = None
        self.methods = tuple(
            name for name in self._functions() if not name.startswith("_") or name == "__call__"
        )

    def collector(self) -> Collector:
        """Return a collector that holds the cell."""
        collector = Collector(self._namespace)
        collector.add_source(self.name, self._source)
        return collector

    def check(self, captured: Capture, method: str | None = None) -> Carried:
        """Return what is carried; see `Code`."""
        return _check(self.name, self._source, self._namespace, captured, method)

    def resolve(self, qualname: str) -> Any:
        """Find a name in the cell, which is executed aside for it, else in the notebook."""
        root, *path = qualname.split(".")
        if root not in self.definitions:
            return attribute(self._namespace[root], path)
        if self._executed is None:
            self._executed = dict(self._namespace)
            exec(compile_item(self._source.item), self._executed)  # noqa: S102 - the user's cell
        return attribute(self._executed[root], path)

    def parameters(self, method: str | None) -> Sequence[str]:
        """Return the names of the positional parameters."""
        function = self._functions().get(method or "__init__") if self._is_class else self._node
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return ()
        names = [argument.arg for argument in [*function.args.posonlyargs, *function.args.args]]
        return names[1:] if self._is_class else names

    @property
    def _is_class(self) -> bool:
        return isinstance(self._node, ast.ClassDef)

    def _functions(self) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
        if not isinstance(self._node, ast.ClassDef):
            return {}
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        return {node.name: node for node in self._node.body if isinstance(node, kinds)}


def _check(
    name: str, source: Source, namespace: Mapping[str, Any], captured: Capture, method: str | None
) -> Carried:
    if not captured.absent:  # the usual case costs nothing
        return captured.carried(name)
    definition = source.definition
    definitions = [each.definition for each in captured.sources.values()]
    paths = [(name,)] if method is None else [(name, "__init__"), (name, method)]
    missing = scope.missing_names(definition, paths, captured.absent, definitions)
    if missing:
        label = _label(source) if method is None else f"{name}.{method}()"
        scope.refuse_missing(label, place(source.filename), definition, missing, namespace)
    return captured.carried(name, scope.doubts(definitions, captured.absent, namespace))


def _label(source: Source) -> str:
    definition = source.definition
    return definition.name if definition.kind == "class" else f"{definition.name}()"


def _public_methods(cls: type) -> tuple[str, ...]:
    return tuple(
        name
        for name in dir(cls)
        if (not name.startswith("_") or name == "__call__") and callable(getattr(cls, name))
    )
