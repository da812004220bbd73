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

import ast
import inspect
import linecache
import sys
import textwrap
import types
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from flash_nb.cells.definitions import Definition, find_definitions, names_remote, without_decorators
from flash_nb.cells.shell import translate
from flash_nb.errors import CellError, PayloadTooLargeError, SerializationError
from flash_nb.jobs import Carried
from flash_nb.sdk.dependencies import is_published
from flash_nb.sdk.modules import ModuleFiles, find_modules
from flash_nb.sdk.obstacle import Obstacle, kind_of
from flash_nb.sdk.secret import secret_in
from flash_nb.worker.codec import MAIN, EncodeError, Encoder
from flash_nb.worker.culprit import find_culprit, type_name
from flash_nb.worker.frames import Buffer
from flash_nb.worker.namespace import Item

MAX_PAYLOAD_BYTES = 10 * 1024 * 1024  # Flash's limit for one request, base64 included
LARGE_VALUE_BYTES = 1_000_000
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
        sources: Its definitions, by name.
        absent: Names that the code reads and that do not exist here.
        notes: What is worth knowing of the values.
        obstacles: What stands against sending it, or may; see `Collector.survey`.
        via: The name through which each other name came in: what reads it.
        brought: The name that brought each module in.
        files: Modules that travel as source; see `take_files`.
    """

    items: list[Item] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    sources: Mapping[str, Source] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    via: Mapping[str, str] = field(default_factory=dict)
    brought: Mapping[str, str] = field(default_factory=dict)
    files: ModuleFiles = field(default_factory=ModuleFiles)

    def take_files(
        self, modules: Iterable[str] = (), guesses: Iterable[str] = (), near: Iterable[str | Path] = ()
    ) -> None:
        """Find the modules that are files of this machine: they travel as their source.

        Args:
            modules: What is imported beside what the namespace needs.
            guesses: What may be a module; see `flash_nb.sdk.modules.find_modules`.
            near: Folders where the code stands, beside those of its sources.
        """
        files = dict.fromkeys(source.filename for source in self.sources.values())
        folders = [path.parent for path in map(Path, files) if path.is_file()]
        parts = {item["name"]: item["parts"] for item in self.items if "parts" in item}
        guesses = {*guesses, *chain.from_iterable(parts.values())}
        for source in self.sources.values():
            guesses |= source.definition.guesses
        self.files = find_modules({*self.modules, *modules}, guesses, [*folders, *near])
        for item in self.items:
            if "parts" in item:
                item["parts"] = [part for part in item["parts"] if part in self.files.names]

    def refuse_files(self) -> None:
        """Refuse what cannot travel of the modules' files, or not with these values.

        Raises:
            CellError: A module cannot be sent.
            PayloadTooLargeError: All is over the limit.
        """
        self.files.refuse()
        if self.files.items:
            check_size({**self.sizes, **self.files.sizes})

    def carried(self, own: str, doubts: Iterable[str] = ()) -> Carried:
        """Say what travels, for people.

        Args:
            own: The code that is called: not worth a word.
            doubts: Further notes.
        """
        modules, definitions = [], []
        for item in self.items:
            if "module" in item:
                name, module = item["name"], item["module"]
                modules.append(name if name == module else f"{module} as {name}")
            elif "source" in item and item["name"] != own:
                definitions.append(item["name"])
        values = tuple(sorted(self.sizes.items(), key=lambda pair: -pair[1]))
        notes = (*self.notes, *(doubt.message for _, doubt in self.files.doubts), *doubts)
        return Carried(
            tuple(sorted(modules)), tuple(sorted(definitions)), values, notes, files=self.files.names
        )


def survey(names: Iterable[str], namespace: Mapping[str, Any]) -> Capture:
    """Collect `names` of `namespace`, and all that they need of it; see `Collector.survey`."""
    collector = Collector(namespace)
    collector.add(names)
    return collector.survey()


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


class Closure(Mapping[str, Any]):
    """The variables of functions around a function or class, as they are at each moment."""

    def __init__(self, obj: Any) -> None:
        self._cells = dict(_cells(obj))

    def __getitem__(self, name: str) -> Any:
        try:
            return self._cells[name].cell_contents
        except ValueError:  # it is bound further down
            raise KeyError(name) from None

    @property
    def names(self) -> frozenset[str]:
        """All of them, bound or not."""
        return frozenset(self._cells)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._cells if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def namespace_of(obj: Any) -> Mapping[str, Any]:
    """Return the names that a function or the methods of a class see from outside."""
    if isinstance(obj, type):
        names = vars(sys.modules[obj.__module__])
    else:
        obj = inspect.unwrap(obj)
        names = obj.__globals__
    closure = Closure(obj)
    return ChainMap(closure, names) if closure.names else names  # type: ignore[arg-type]  # only read


def _cells(obj: Any) -> Iterator[tuple[str, types.CellType]]:
    """Return the cells of a function, or of the methods of a class, but for its own name."""
    for function in _methods(obj) if isinstance(obj, type) else [obj]:
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        yield from ((name, cell) for name, cell in cells if name not in (obj.__name__, "__class__"))


def _methods(cls: type) -> Iterator[types.FunctionType]:
    for member in vars(cls).values():
        for part in (member, *(getattr(member, name, None) for name in ("__func__", "fget", "fset"))):
            function = inspect.unwrap(part) if callable(part) else None
            if isinstance(function, types.FunctionType) and function.__module__ == cls.__module__:
                yield function


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

    Names that the namespace does not hold are only noted (`Capture.absent`): the code may bind them itself.

    Args:
        namespace: Where the names are.
        there: What is collected already, and will be where this is used.
    """

    def __init__(self, namespace: Mapping[str, Any], there: Capture | None = None) -> None:
        self._namespace = namespace
        there = there or Capture()
        self._there = frozenset(item["name"] for item in there.items)
        self._sources_there = there.sources
        self._modules: dict[str, types.ModuleType] = {}
        self._sources: dict[str, Source] = {}
        self._values: dict[str, Any] = {}
        self._waiting: list[str] = []
        self._absent: set[str] = set()
        self._obstacles: dict[tuple[str, str], Obstacle] = {}
        self._via: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._brought: dict[str, str] = {}
        self._encoded = ""  # the name whose value is being encoded
        self._met: Any = None  # the part of it that was met last

    def add(self, names: Iterable[str], via: str = "") -> None:
        """Note names to collect, and what reads them."""
        names = sorted(names)
        self._waiting += names
        if via:
            for name in names:
                self._via.setdefault(name, via)

    def add_source(self, name: str, source: Source) -> None:
        """Note a definition to collect, with the names that it reads."""
        self._sources[name] = source
        self.add(source.reads, via=name)

    def portable(self, obj: Any) -> bool:
        """Tell a pickler which functions and classes travel as source; note new ones."""
        root: str = obj.__qualname__.split(".")[0]
        if root in self._sources or root in self._sources_there:
            return self._resolves(obj)
        if root in self._values or not self._resolves(obj):
            return False
        source = find_source(self._namespace[root])
        if source is None:
            return False
        self._via.setdefault(root, self._encoded)
        self.add_source(root, source)
        return True

    def collect(self) -> Capture:
        """Return everything noted, and all that it needs.

        Raises:
            SerializationError: A value cannot be pickled.
            CellError: A name is a remote function: those cannot be called from a worker.
        """
        captured = self.survey()
        for obstacle in captured.obstacles:
            if obstacle.kind == "remote":
                raise _no_remote(obstacle.name)
            if obstacle.kind == "unpicklable":
                raise unpicklable(obstacle.name, self._values[obstacle.name], obstacle.said)
        return captured

    def survey(self) -> Capture:
        """Return everything noted, and all that it needs, with what stands against sending it.

        Every value is encoded once. What can't be encoded is an obstacle, and nothing may be sent then.
        """
        self._sort_waiting()
        encoder, done = None, list[str]()
        while (order := self._ordered_values()) != done:
            encoder, done = self._encode(order), order
            self._sort_waiting()
        return self._finish(encoder)

    def _sort_waiting(self) -> None:
        while self._waiting:
            name = self._waiting.pop()
            if self._has(name):
                continue
            if name in self._namespace:
                self._sort(name, self._namespace[name])
            else:
                self._absent.add(name)

    def _has(self, name: str) -> bool:
        held = (self._there, self._modules, self._sources, self._values)
        return any(name in names for names in held)

    def _sort(self, name: str, value: Any) -> None:
        if getattr(type(value), "__flash_remote__", False):
            self._note(Obstacle(name, "remote", value))
            return
        if isinstance(value, types.ModuleType):
            self._modules[name] = value
            return
        source = find_source(value) if self._is_own_definition(value) else None
        if source is None or source.definition.name != name:  # a second name is a value: it names the first
            self._values[name] = value
        else:
            self.add_source(name, source)

    def _is_own_definition(self, value: Any) -> bool:
        """True for what ``__main__`` defines, or a file beside it that holds the code itself."""
        inner = inspect.unwrap(value) if callable(value) else value
        if not isinstance(inner, (type, types.FunctionType)):
            return False
        module = inner.__module__
        return module == MAIN or (module == self._namespace.get("__name__") and not is_published(module))

    def _resolves(self, obj: Any) -> bool:
        """Tell whether the namespace holds a function or class under its own name; note outdated classes."""
        root, *path = obj.__qualname__.split(".")
        found = self._namespace.get(root)
        for attribute in path:
            found = getattr(found, attribute, None)
        if isinstance(obj, type) and isinstance(found, type) and found is not obj:
            self._note(Obstacle(self._encoded, "redefined", obj))
        return found is obj

    def _encode(self, order: Iterable[str]) -> Encoder:
        encoder = Encoder(self.portable, watch=self._watch)
        for name in order:
            if (name, "unpicklable") in self._obstacles:
                continue
            self._encoded, self._met = name, self._values[name]
            try:
                encoder.add(name, self._values[name])
            except EncodeError as error:
                self._note(Obstacle(name, "unpicklable", self._met, said(error)))
                encoder = Encoder(self.portable, watch=self._watch)  # for the others' obstacles and sizes
            else:
                self._sizes[name] = encoder.sizes[name]
            for module in encoder.modules - self._brought.keys():
                self._brought[module] = name
        return encoder

    def _watch(self, obj: Any) -> None:
        """Note an obstacle that is being pickled, and what was met last: if pickle stops, it is at fault."""
        self._met = obj
        kind = kind_of(obj)
        if kind is not None:
            self._note(Obstacle(self._encoded, kind, obj))

    def _note(self, obstacle: Obstacle) -> None:
        """Keep the first obstacle of its kind in each name."""
        self._obstacles.setdefault((obstacle.name, obstacle.kind), obstacle)

    def _ordered_values(self) -> list[str]:
        first: set[str] = set().union(*(source.definition.eager for source in self._sources.values()))
        return sorted(self._values, key=lambda name: name not in first)

    def _finish(self, encoder: Encoder | None) -> Capture:
        captured = Capture(
            sources=self._sources,
            absent=frozenset(self._absent),
            obstacles=tuple(self._obstacles.values()),
            via=self._via,
            brought=self._brought,
        )
        for name, module in self._modules.items():
            item: Item = {"name": name, "module": module.__name__}
            if parts := _loaded_parts(module):
                item["parts"] = parts
            captured.items.append(item)
            captured.modules.add(module.__name__)
            self._brought[module.__name__] = name
        for name, source in self._sources.items():
            captured.items.append(source.item)
            captured.modules |= source.definition.imports
            for imported in source.definition.imports:
                self._brought.setdefault(imported, name)
        if encoder is not None:
            captured.items += encoder.items
            captured.buffers = encoder.buffers()
            captured.sizes = self._sizes
            captured.modules |= encoder.modules
            captured.notes = tuple(_notes(self._values, self._sizes))
        return captured


def _loaded_parts(module: types.ModuleType) -> list[str]:
    """Return the modules inside a package of the user's that are loaded here: its name gives them too."""
    path = getattr(module, "__path__", None)
    if path is None or any("site-packages" in folder or "dist-packages" in folder for folder in path):
        return []
    return sorted(name for name in sys.modules if name.startswith(f"{module.__name__}."))


def _no_remote(name: str) -> CellError:
    return CellError(
        f"{name} is a remote function: code on a worker cannot call it.",
        hint=f"Call it from the notebook and use its result: result = await {name}(…)",
    )


def _notes(values: Mapping[str, Any], sizes: Mapping[str, int]) -> Iterator[str]:
    for name, size in sizes.items():
        if size > LARGE_VALUE_BYTES:
            yield (
                f"{name} is large, and sent with every call: "
                "pass a URL or a path, or load it on the worker and keep it there"
            )
        elif isinstance(values[name], types.FunctionType) and "<" in values[name].__qualname__:
            yield f"{name} travels as bytecode: give it a name with def, for workers of other Python versions"
        elif secret_in(name, values[name]):
            yield f"{name} looks like a secret, and goes with every call: give it to the resource, env={{…}}"


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
        filename = inspect.getsourcefile(inner) or "<unknown>"
    except (OSError, TypeError):
        found = _class_lines(inner) if isinstance(inner, type) else None
        if found is None:
            return None
        lines, first_line, filename = found
    text = textwrap.dedent("".join(lines))
    definition = _definitions(text).get(inner.__name__)
    if definition is None:
        return None
    moved = replace(definition, first_line=definition.first_line + first_line - 1)
    return Source(without_decorators(moved, names_remote), filename)


def _class_lines(cls: type) -> tuple[list[str], int, str] | None:
    """Find a class of a cell around one of its methods, which say where they stand."""
    for method in _methods(cls):
        filename, line = method.__code__.co_filename, method.__code__.co_firstlineno
        text = _plain("".join(linecache.getlines(filename)))
        around = [
            node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ClassDef) and node.name == cls.__name__
            if node.lineno <= line <= (node.end_lineno or 0)
        ]
        if around:
            node = max(around, key=lambda node: node.lineno)
            first_line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return text.splitlines(keepends=True)[first_line - 1 : node.end_lineno], first_line, filename
    return None


def _filenames(obj: Any) -> Iterable[str]:
    if isinstance(obj, types.FunctionType):
        yield obj.__code__.co_filename
        return
    for member in vars(obj).values():
        function = inspect.unwrap(member) if callable(member) else member
        if isinstance(function, types.FunctionType) and function.__qualname__.startswith(obj.__qualname__):
            yield function.__code__.co_filename
    file = getattr(sys.modules.get(obj.__module__), "__file__", None)
    if file:
        yield file
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
    try:
        return find_definitions(_plain(text))
    except (SyntaxError, CellError):
        return {}


def _plain(text: str) -> str:
    """Return a cell's text as plain Python."""
    body = "\n" + text.partition("\n")[2] if text.startswith("%%") else text
    return translate(body).source


def unpicklable(name: str, value: Any, said: str) -> SerializationError:
    """Return the error for a value that cannot be pickled, with the path to the part at fault."""
    path, culprit = find_culprit(name, value)
    return SerializationError(
        f"{path} cannot be sent: {type_name(culprit)} objects cannot be pickled ({said}).",
        hint="Make it on the worker instead, or send the plain data that it is made from.",
    )


def said(error: EncodeError) -> str:
    """Return what pickle said, in a line."""
    return (str(error.cause).splitlines() or [type(error.cause).__name__])[0]


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MB"
