"""The notebook's names, rebuilt for one job: modules, definitions from source, values.

Both ends use it. On a worker the target is a fresh ``__main__`` module; in the notebook the target
is the user's namespace, which gets back what a cell bound. Each name is one *item*, a JSON object:

``{"name": "np", "module": "numpy"}``
    Imported. Optional: ``parts`` (modules inside it that are imported too).
``{"name": "f", "source": "def f(): …", "filename": "…", "first_line": 3}``
    Executed, with the line numbers it had in its cell, when something first needs it. Optional:
    ``eager`` (names that it needs to be executed), ``flags`` (``from __future__`` imports of its
    cell).
``{"name": "df", "value": true}``
    The next value of the encoded stream.
"""

from __future__ import annotations

import importlib
import linecache
import sys
import types
from collections.abc import Sequence
from typing import Any

from .codec import MAIN, Decoder
from .frames import Buffer

Item = dict[str, Any]


class MissingModuleError(ImportError):
    """A module that the notebook uses does not exist where the job runs."""


class Definitions:
    """Definitions that are executed in a namespace when they are first needed."""

    def __init__(self, namespace: dict[str, Any], items: Sequence[Item]) -> None:
        self._namespace = namespace
        self._pending = {item["name"]: item for item in items}

    @property
    def names(self) -> tuple[str, ...]:
        """Names that were not executed yet."""
        return tuple(self._pending)

    def define(self, name: str) -> None:
        """Execute the definition of `name`, and first those that it needs to be executed."""
        item = self._pending.pop(name, None)
        if item is None:
            return
        for needed in item.get("eager", ()):
            self.define(needed)
        exec(compile_item(item), self._namespace)

    def resolve(self, qualname: str) -> Any:
        """Return what ``__main__`` holds under a dotted name; pickles ask for it."""
        root, *path = qualname.split(".")
        self.define(root)
        try:
            found = self._namespace[root]
        except KeyError:
            raise AttributeError(f"module '__main__' has no attribute {root!r}") from None
        return attribute(found, path)


def fill(namespace: dict[str, Any], items: Sequence[Item], buffers: Sequence[Buffer]) -> dict[str, Any]:
    """Bind every item in `namespace`; return the values that came as bytes, by name.

    Raises:
        MissingModuleError: A module cannot be imported here, or a value needs one.
    """
    for item in items:
        if "module" in item:
            namespace[item["name"]] = import_module(item)
    definitions = Definitions(namespace, [item for item in items if "source" in item])
    values: dict[str, Any] = {}
    encoded = [item for item in items if "value" in item]
    if encoded:
        decoder = Decoder(buffers, definitions.resolve)
        for item in encoded:
            namespace[item["name"]] = values[item["name"]] = _load(decoder, item)
    for name in definitions.names:
        definitions.define(name)
    return values


def _load(decoder: Decoder, item: Item) -> Any:
    try:
        return decoder.load()
    except (ImportError, AttributeError) as error:
        raise MissingModuleError(f"{item['name']} needs what is not installed: {error}") from error


def attribute(found: Any, path: Sequence[str]) -> Any:
    """Return ``found.a.b`` for the path ``["a", "b"]``."""
    for name in path:
        found = getattr(found, name)
    return found


def compile_item(item: Item) -> types.CodeType:
    """Compile a definition with the file name, the line numbers and the future flags of its cell."""
    source = "\n" * (item["first_line"] - 1) + item["source"]
    _remember_lines(item["filename"], source.splitlines())
    return compile(source, item["filename"], "exec", flags=item.get("flags", 0), dont_inherit=True)


def new_main() -> types.ModuleType:
    """Return a fresh module called ``__main__`` and make it the one that pickles look into."""
    module = types.ModuleType(MAIN)
    module.__dict__["__builtins__"] = __builtins__
    sys.modules[MAIN] = module
    return module


def remember_source(filename: str, text: str) -> None:
    """Let tracebacks and ``inspect`` show the text of a cell that has no file."""
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)


def _remember_lines(filename: str, lines: list[str]) -> None:
    """Add lines to what is known of a cell: its definitions come one by one."""
    known = [line.rstrip("\n") for line in linecache.getlines(filename)]
    known += [""] * (len(lines) - len(known))
    merged = [line if line.strip() else old for line, old in zip(lines, known, strict=False)]
    remember_source(filename, "\n".join([*merged, *known[len(lines) :], ""]))


def import_module(item: Item) -> types.ModuleType:
    """Import the module of an item.

    Raises:
        MissingModuleError: It does not exist here, or something that it imports does not.
    """
    try:
        module = importlib.import_module(item["module"])
        for part in item.get("parts", ()):
            importlib.import_module(part)
    except ImportError as error:
        raise MissingModuleError(f"{item['name']}: {error}", name=item["module"]) from error
    return module
