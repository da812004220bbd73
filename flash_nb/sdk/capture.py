"""What a piece of code needs of the notebook, collected so that it can travel.

Starting from the names that the code reads, each is sorted into one of three kinds (see
`flash_nb.worker.namespace`): a module becomes an import, a function or class of ``__main__`` becomes
its source, everything else an encoded value. Source brings in the names that it reads itself;
values bring in the classes and functions of ``__main__`` that their pickles mention. It ends when
nothing new comes up.

Values that a definition needs to be *executed* (defaults, decorators, bases) are encoded first:
the worker executes a definition in the middle of decoding, when a later value turns out to be an
instance of it.
"""

from __future__ import annotations
import __future__

import inspect
import linecache
import sys
import textwrap
import types
from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from flash_nb.cells.definitions import Definition, find_definitions, names_remote, without_decorators
from flash_nb.cells.shell import translate
from flash_nb.errors import CellError, PayloadTooLargeError, SerializationError
from flash_nb.worker.codec import MAIN, EncodeError, Encoder
from flash_nb.worker.frames import Buffer
from flash_nb.worker.namespace import Item

MAX_PAYLOAD_BYTES = 10 * 1024 * 1024  # Flash's limit for one request, base64 included
_FUTURE_ANNOTATIONS = __future__.annotations.compiler_flag


@dataclass(frozen=True)
class Source:
    """A definition and where it stands."""

    definition: Definition
    filename: str

    @cached_property
    def item(self) -> Item:
        """The namespace item that executes it."""
        return {
            "name": self.definition.name,
            "source": self.definition.source,
            "filename": self.filename,
            "first_line": self.definition.first_line,
            "eager": sorted(self.definition.eager),
            "flags": self.definition.flags,
        }

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The names that it reads from outside."""
        definition = self.definition
        return tuple(sorted(definition.eager | definition.lazy | definition.hints))


@dataclass
class Capture:
    """A namespace that travels.

    Attributes:
        items: Namespace items.
        buffers: The encoded values.
        sizes: Bytes of each value, by name.
        modules: Modules that must be importable where it is used.
    """

    items: list[Item] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)


def capture(names: Iterable[str], namespace: Mapping[str, Any]) -> Capture:
    """Collect `names` of `namespace`, and all that they need of it; see `Collector`."""
    collector = Collector(namespace)
    collector.add(names)
    return collector.collect()


def source_of(obj: Any) -> Source:
    """Return the source of a function or class.

    Raises:
        SerializationError: It has none: a lambda, or code made by ``exec``.
    """
    source = find_source(obj) or _nested_source(obj)
    if source is None:
        raise SerializationError(
            f"{getattr(obj, '__qualname__', obj)!s} has no source that could be sent.",
            hint="Define it with def or class, in a cell or a file.",
        )
    return source


def namespace_of(obj: Any) -> Mapping[str, Any]:
    """Return the names that a function or the methods of a class see from outside."""
    if isinstance(obj, type):
        return vars(sys.modules[obj.__module__])
    function = inspect.unwrap(obj)
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closure = {name: cell.cell_contents for name, cell in cells if name != function.__name__}
    return ChainMap(closure, function.__globals__)


def check_size(sizes: Mapping[str, int]) -> None:
    """Refuse values that would be over Flash's limit once encoded in base64.

    Raises:
        PayloadTooLargeError: They are; it names the largest.
    """
    encoded = {name: -(-size // 3) * 4 for name, size in sizes.items()}
    total = sum(encoded.values())
    if total <= MAX_PAYLOAD_BYTES:
        return
    largest = sorted(encoded.items(), key=lambda pair: -pair[1])[:5]
    listed = ", ".join(f"{name} {_megabytes(size)}" for name, size in largest)
    raise PayloadTooLargeError(
        f"The values are {_megabytes(total)} encoded, over the limit of "
        f"{_megabytes(MAX_PAYLOAD_BYTES)} for one request: {listed}.",
        hint="Send less (a slice, a smaller dtype), or make the data on the worker: "
        "pass a URL or a path and read it there.",
    )


class Collector:
    """Collects names of a namespace, and all that they need of it.

    Names that the namespace does not hold are left out: the code may bind them itself.
    """

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._modules: dict[str, types.ModuleType] = {}
        self._sources: dict[str, Source] = {}
        self._values: dict[str, Any] = {}
        self._waiting: list[str] = []

    def add(self, names: Iterable[str]) -> None:
        """Note names to collect."""
        self._waiting += sorted(names)

    def add_source(self, name: str, source: Source) -> None:
        """Note a definition to collect, with the names that it reads."""
        self._sources[name] = source
        self._waiting += source.reads

    def portable(self, obj: Any) -> bool:
        """Tell a pickler which functions and classes travel as source; note new ones."""
        root: str = obj.__qualname__.split(".")[0]
        if root in self._sources:
            return _resolves(self._namespace, obj)
        if root in self._values or not _resolves(self._namespace, obj):
            return False
        source = find_source(self._namespace[root])
        if source is None:
            return False
        self.add_source(root, source)
        return True

    def collect(self) -> Capture:
        """Return everything noted, and all that it needs.

        Raises:
            SerializationError: A value cannot be pickled.
            CellError: A name is a remote function: those cannot be called from a worker.
        """
        self._sort_waiting()
        encoder = None
        while self._values:
            known = len(self._sources)
            encoder = self._encode()
            self._sort_waiting()
            if len(self._sources) == known:
                break
        return self._finish(encoder)

    def _sort_waiting(self) -> None:
        while self._waiting:
            name = self._waiting.pop()
            if name in self._namespace and not self._has(name):
                self._sort(name, self._namespace[name])

    def _has(self, name: str) -> bool:
        return name in self._modules or name in self._sources or name in self._values

    def _sort(self, name: str, value: Any) -> None:
        if getattr(type(value), "__flash_remote__", False):
            raise CellError(
                f"{name} is a remote function: code on a worker cannot call it.",
                hint=f"Call it from the notebook and use its result: result = await {name}(…)",
            )
        if isinstance(value, types.ModuleType):
            self._modules[name] = value
            return
        source = find_source(value) if _is_main_definition(value) else None
        if source is None or source.definition.name != name:  # a second name is a value: it names the first
            self._values[name] = value
        else:
            self.add_source(name, source)

    def _encode(self) -> Encoder:
        encoder = Encoder(self.portable)
        try:
            for name in self._ordered_values():
                encoder.add(name, self._values[name])
        except EncodeError as error:
            raise unpicklable(error, self._values[error.name]) from error.cause
        return encoder

    def _ordered_values(self) -> list[str]:
        first: set[str] = set().union(*(source.definition.eager for source in self._sources.values()))
        return sorted(self._values, key=lambda name: name not in first)

    def _finish(self, encoder: Encoder | None) -> Capture:
        captured = Capture()
        for name, module in self._modules.items():
            captured.items.append({"name": name, "module": module.__name__})
            captured.modules.add(module.__name__)
        for source in self._sources.values():
            captured.items.append(source.item)
            captured.modules |= source.definition.imports
        if encoder is not None:
            captured.items += encoder.items
            captured.buffers = encoder.buffers()
            captured.sizes = encoder.sizes
            captured.modules |= encoder.modules
        return captured


def find_source(obj: Any) -> Source | None:
    """Return the source of a top-level function or class of ``__main__``; None if it has none.

    A class carries no file name before Python 3.13, so its cell is found through its methods, else
    as the last cell that defines its name.
    """
    inner = inspect.unwrap(obj) if callable(obj) else obj
    qualname: str = getattr(inner, "__qualname__", "")
    if not qualname or "." in qualname:
        return None
    for filename in _filenames(inner):
        source = _source_in(filename, qualname, getattr(inner, "__code__", None))
        if source is not None:
            return source
    return None


def _nested_source(obj: Any) -> Source | None:
    """Return the source of a function or class that is defined inside another function."""
    inner = inspect.unwrap(obj) if callable(obj) else obj
    try:
        lines, first_line = inspect.getsourcelines(inner)
    except (OSError, TypeError):
        return None
    text = textwrap.dedent("".join(lines))
    definition = _definitions(text).get(inner.__name__)
    if definition is None:
        return None
    filename = inspect.getsourcefile(inner) or "<unknown>"
    moved = replace(definition, first_line=definition.first_line + first_line - 1)
    return Source(without_decorators(moved, names_remote), filename)


def _filenames(obj: Any) -> Iterable[str]:
    if isinstance(obj, types.FunctionType):
        yield obj.__code__.co_filename
        return
    for member in vars(obj).values():
        function = inspect.unwrap(member) if callable(member) else member
        if isinstance(function, types.FunctionType) and function.__qualname__.startswith(obj.__qualname__):
            yield function.__code__.co_filename
    main_file = getattr(sys.modules.get(MAIN), "__file__", None)
    if main_file:
        yield main_file
    yield from reversed([name for name, entry in linecache.cache.items() if _is_cell(entry)])


def _is_cell(entry: Any) -> bool:
    """True for text that has no file: its modification time is None."""
    return len(entry) > 1 and entry[1] is None


def _source_in(filename: str, name: str, code: types.CodeType | None) -> Source | None:
    text = "".join(linecache.getlines(filename))
    definition = _definitions(text).get(name) if text else None
    if definition is None:
        return None
    if code is not None and not definition.first_line <= code.co_firstlineno <= definition.last_line:
        return None
    if code is not None:  # a __future__ import of an earlier cell holds on in IPython
        definition = replace(definition, flags=definition.flags | code.co_flags & _FUTURE_ANNOTATIONS)
    return Source(without_decorators(definition, names_remote), filename)


_cache: dict[str, Mapping[str, Definition]] = {}


def _definitions(text: str) -> Mapping[str, Definition]:
    found = _cache.get(text)
    if found is None:
        if len(_cache) > 512:  # noqa: PLR2004 - bounds what a long session keeps
            _cache.clear()
        found = _cache[text] = _parse(text)
    return found


def _parse(text: str) -> Mapping[str, Definition]:
    body = "\n" + text.partition("\n")[2] if text.startswith("%%") else text
    try:
        return find_definitions(translate(body).source)
    except (SyntaxError, CellError):
        return {}


def _is_main_definition(value: Any) -> bool:
    inner = inspect.unwrap(value) if callable(value) else value
    return isinstance(inner, (type, types.FunctionType)) and inner.__module__ == MAIN


def _resolves(namespace: Mapping[str, Any], obj: Any) -> bool:
    root, *path = obj.__qualname__.split(".")
    found = namespace.get(root)
    for attribute in path:
        found = getattr(found, attribute, None)
    return found is obj


def unpicklable(error: EncodeError, value: Any) -> SerializationError:
    """Return the error for a value that cannot be pickled, with the path to the part at fault."""
    path, culprit = _culprit(error.name, value)
    return SerializationError(
        f"{path} cannot be sent: {type(culprit).__module__}.{type(culprit).__qualname__} "
        f"objects cannot be pickled ({error.cause}).",
        hint="Make it on the worker instead, or send the plain data that it is made from.",
    )


def _culprit(path: str, value: Any, depth: int = 6) -> tuple[str, Any]:
    """Walk into the part of a value that cannot be pickled; stop where no part is at fault."""
    for step, part in _parts(value) if depth else ():
        if not _can_pickle(part):
            return _culprit(path + step, part, depth - 1)
    return path, value


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [("{…}", part) for part in value]
    if isinstance(value, types.FunctionType):
        variables = inspect.getclosurevars(value)
        return [(f" → {name}", part) for name, part in {**variables.globals, **variables.nonlocals}.items()]
    attributes = getattr(value, "__dict__", None)
    return [(f".{name}", part) for name, part in attributes.items()] if isinstance(attributes, dict) else []


def _can_pickle(value: Any) -> bool:
    try:
        Encoder(lambda _: True).add("", value)
    except EncodeError:
        return False
    return True


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MB"
