"""A fingerprint of values: the same content, the same fingerprint, in every process.

It is not a hash of their pickle. Those bytes depend on the order of a set, on which equal texts happen
to be one object, and on how a table lies in memory; and pickled code is different in each session. So
values are walked, and each part is written under a tag of its own and with its length, so that no two
contents read alike:

* ``1``, ``1.0``, ``True`` and ``"1"`` differ, and so do ``0.0`` and ``-0.0``; every NaN is the same.
* The elements of a set have no order; those of a dict do, as a loop over it sees them.
* Where two places hold one list, one dict or one object, that is part of the content: a change in one
  place is seen in the other. It is not followed into the elements of a set.
* An array is its dtype, its shape and its bytes; a table its columns, its index and its attributes.
* A function or class of a package is its name; one of the notebook is its name too, and its source is
  part of what `of_capture` reads.
* Any other object is what ``__reduce_ex__`` says that it is made of.

What holds code without a name (a lambda, a function made inside another one) has no fingerprint.
"""

from __future__ import annotations

import ast
import copyreg
import hashlib
import pickle
import reprlib
import struct
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flash_nb.sdk.capture import Capture, Source
from flash_nb.worker.codec import MAIN, Portable, never_portable
from flash_nb.worker.namespace import attribute

_NAN = struct.pack(">d", float("nan"))
_NAMED = (type, types.FunctionType)
_ARRAYS = frozenset("biufcSUMmO")  # the kinds of numpy's dtypes without fields


class FingerprintError(Exception):
    """A value has no fingerprint; the text says why: ``steps[0] holds a lambda``."""


def fingerprint(value: Any, *, name: str = "the value", portable: Portable = never_portable) -> str:
    """Return 64 hexadecimal digits that stand for a value's content.

    Args:
        value: Anything that can be pickled.
        name: What an error calls it.
        portable: Which functions and classes of ``__main__`` are known by their names.

    Raises:
        FingerprintError: It holds code without a name, or what cannot be pickled.
    """
    walk = _Walk(portable)
    walk.add(name, value)
    return walk.digest().hex()


def of_capture(captured: Capture, namespace: Mapping[str, Any]) -> str:
    """Return the fingerprint of all that travels with a cell: modules, sources, and values by name.

    Args:
        captured: What travels.
        namespace: Where it was captured.

    Raises:
        FingerprintError: A value has none.
    """
    walk = _Walk(lambda obj: _is_carried(obj, captured.sources, namespace))
    modules = sorted((item["name"], item["module"]) for item in captured.items if "module" in item)
    walk.add("modules", modules)
    for name, source in sorted(captured.sources.items()):
        definition = source.definition
        walk.add(name, (name, of_source(definition.source), definition.flags))
    for name in sorted(captured.sizes):
        walk.add("name", name)
        walk.add(name, namespace[name])
    return walk.digest().hex()


def of_source(source: str) -> str:
    """Return the fingerprint of plain Python: of its syntax tree, so without comments and blank lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler says it again when the code runs
        tree = ast.parse(source)
    return hashlib.sha256(ast.dump(tree).encode("utf-8", "surrogatepass")).hexdigest()


def _is_carried(obj: Any, sources: Mapping[str, Source], namespace: Mapping[str, Any]) -> bool:
    root, *path = obj.__qualname__.split(".")
    try:
        return root in sources and attribute(namespace[root], path) is obj
    except (KeyError, AttributeError):
        return False


class _Walk:
    """Walks values in a fixed order and hashes what it meets."""

    def __init__(self, portable: Portable, path: Sequence[Any] = ()) -> None:
        self._portable = portable
        self._hasher = hashlib.sha256()
        self._path = [*path]
        self._numbers: dict[int, int] = {}  # of what can change, by id, in order of appearance
        self._constants: dict[int, bytes] = {}  # digests of tuples in which nothing can change, by id
        self._changeable = 0  # how often something was met that can change
        self._alive: list[Any] = []  # an id is only good as long as its object lives

    def add(self, name: str, value: Any) -> None:
        """Add a value, which an error calls `name`.

        Raises:
            FingerprintError: It has no fingerprint.
        """
        self._path = [name]
        try:
            self._value(value)
        except RecursionError:
            raise FingerprintError(f"{name} is nested too deeply") from None

    def digest(self) -> bytes:
        """Return the digest of all that was added."""
        return self._hasher.digest()

    def _put(self, tag: bytes, data: bytes = b"") -> None:
        self._hasher.update(tag + len(data).to_bytes(8, "big"))
        self._hasher.update(data)

    def _put_number(self, tag: bytes, number: int) -> None:
        self._put(tag, number.to_bytes(8, "big"))

    def _at(self, step: Any, value: Any) -> None:
        """Add a part of a value; `step` leads to it. After an error the path says where it was."""
        self._path.append(step)
        self._value(value)
        self._path.pop()

    def _refusal(self, what: str) -> FingerprintError:
        return FingerprintError(f"{''.join(map(_step, self._path))} {what}")

    def _value(self, value: Any) -> None:
        write = _WRITERS.get(type(value))
        if write is not None:
            write(self, value)
        elif isinstance(value, _NAMED):
            self._definition(value)
        elif isinstance(value, types.ModuleType):
            self._put(b"m", value.__name__.encode())
        elif not self._was_met(value):
            self._object(value)

    def _was_met(self, value: Any) -> bool:
        """Say if this very object was met before: then its number was written for it."""
        self._changeable += 1
        number = self._numbers.get(id(value))
        if number is None:
            self._remember(value)
            return False
        self._put_number(b"r", number)
        return True

    def _remember(self, value: Any) -> None:
        self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)

    # --- plain data ---------------------------------------------------------------------------

    def _none(self, _: None) -> None:
        self._put(b"N")

    def _bool(self, value: bool) -> None:
        self._put(b"b", b"1" if value else b"0")

    def _int(self, value: int) -> None:
        self._put(b"i", hex(value).encode())  # str() refuses more than 4,300 digits

    def _float(self, value: float) -> None:
        self._put(b"f", _NAN if value != value else struct.pack(">d", value))  # noqa: PLR0124 - NaN is not

    def _complex(self, value: complex) -> None:
        self._put(b"c")
        self._float(value.real)
        self._float(value.imag)

    def _str(self, value: str) -> None:
        self._put(b"s", value.encode("utf-8", "surrogatepass"))

    def _bytes(self, value: bytes) -> None:
        self._put(b"y", value)

    def _bytearray(self, value: bytearray) -> None:
        if not self._was_met(value):
            self._put(b"Y", bytes(value))

    def _list(self, value: list[Any]) -> None:
        if not self._was_met(value):
            self._sequence(b"l", value)

    def _dict(self, value: dict[Any, Any]) -> None:
        if not self._was_met(value):
            self._pairs(b"d", [*value.items()])

    def _set(self, value: set[Any]) -> None:
        if not self._was_met(value):
            self._elements(b"e", value)

    def _frozenset(self, value: frozenset[Any]) -> None:
        self._elements(b"z", value)

    def _tuple(self, value: tuple[Any, ...]) -> None:
        """Write a tuple; one that holds what can change may be met again, as that may."""
        if id(value) in self._constants:
            self._put(b"t", self._constants[id(value)])
        elif id(value) in self._numbers:
            self._was_met(value)
        else:
            before, outer = self._changeable, self._hasher
            self._hasher = hashlib.sha256()
            self._sequence(b"t", value)
            digest, self._hasher = self._hasher.digest(), outer
            self._put(b"t", digest)
            if before == self._changeable:
                self._constants[id(value)] = digest
                self._alive.append(value)
            else:
                self._remember(value)

    def _sequence(self, tag: bytes, values: Sequence[Any]) -> None:
        self._put_number(tag, len(values))
        for index, value in enumerate(values):
            self._at(index, value)

    def _pairs(self, tag: bytes, pairs: Sequence[tuple[Any, Any]]) -> None:
        self._put_number(tag, len(pairs))
        for key, value in pairs:
            self._value(key)
            self._at((key,), value)

    def _elements(self, tag: bytes, values: Iterable[Any]) -> None:
        digests = []
        for value in values:
            apart = _Walk(self._portable, self._path)
            apart._at("{…}", value)
            digests.append(apart.digest())
        self._put(tag, b"".join(sorted(digests)))

    # --- what has a name ----------------------------------------------------------------------

    def _definition(self, obj: Any) -> None:
        if obj.__module__ == MAIN:
            if not self._portable(obj):
                raise self._refusal(f"holds {_unnamed(obj)}")
        elif not _is_importable(obj, obj.__module__, obj.__qualname__):
            raise self._refusal(f"holds {_unnamed(obj)}")
        self._put(b"g", f"{obj.__module__}:{obj.__qualname__}".encode())

    # --- objects ------------------------------------------------------------------------------

    def _object(self, value: Any) -> None:
        kind = type(value)
        package, name = kind.__module__.partition(".")[0], kind.__name__
        if isinstance(value, (set, frozenset)):
            self._definition(kind)
            self._elements(b"x", value)
            self._value(getattr(value, "__dict__", None))
        elif package == "numpy" and name == "ndarray" and value.dtype.kind in _ARRAYS:
            self._array(value)
        elif package == "pandas" and name in {"DataFrame", "Series"}:
            self._table(value)
        else:
            self._reduced(value)

    def _array(self, array: Any) -> None:
        self._put(b"a", array.dtype.str.encode())
        self._value(array.shape)
        if array.dtype.hasobject:
            self._sequence(b"A", array.ravel().tolist())
        else:
            self._put(b"A", array.tobytes())

    def _table(self, table: Any) -> None:
        """Write a DataFrame or a Series: by what is in it, not by the blocks in which pandas keeps it."""
        self._definition(type(table))
        self._at(".index", table.index)
        self._at(".attrs", table.attrs)
        if table.ndim == 1:
            self._at(".name", table.name)
            columns = [table]
        else:
            self._at(".columns", table.columns)
            columns = [table.iloc[:, number] for number in range(table.shape[1])]
        self._put_number(b"D", len(columns))
        for column in columns:
            self._put(b"p", str(column.dtype).encode())
            in_numpy = type(column.dtype).__module__.partition(".")[0] == "numpy"
            self._at(f"[{column.name!r}]", column.to_numpy() if in_numpy else column.array)

    def _reduced(self, value: Any) -> None:
        """Write what an object says that it is made of."""
        made = self._reduce(value)
        if isinstance(made, str):
            self._put(b"g", f"{pickle.whichmodule(value, made)}:{made}".encode())  # type: ignore[attr-defined]
            return
        self._alive.append(made)
        make, args = made[:2]
        state, items, pairs = [*made[2:5], None, None, None][:3]
        self._put_number(b"o", len(args))
        for part in (make, *args):
            self._value(part)
        if type(state) is dict:  # usually its __dict__, whose order says nothing
            self._put_number(b"u", len(state))
            for name in sorted(state, key=repr):
                self._value(name)
                self._at(f".{name}", state[name])
        else:
            self._value(state)
        self._sequence(b"O", [*(items or ())])
        self._pairs(b"O", [*(pairs or ())])

    def _reduce(self, value: Any) -> Any:
        kind = type(value)
        reduce = copyreg.dispatch_table.get(kind)
        try:
            return reduce(value) if reduce else value.__reduce_ex__(4)  # 5 gives buffers
        except RecursionError:
            raise
        except Exception as error:  # a class's __reduce__ may raise anything
            raise self._refusal(f"holds a {kind.__name__}, which cannot be taken apart ({error})") from error


def _is_importable(obj: Any, module: str, qualname: str) -> bool:
    try:
        return attribute(sys.modules[module], qualname.split(".")) is obj
    except (KeyError, AttributeError):
        return False


def _unnamed(obj: Any) -> str:
    if obj.__qualname__.endswith("<lambda>"):
        return "a lambda: give it a name with def"
    if "<locals>" in obj.__qualname__:
        return f"{obj.__qualname__.replace('.<locals>', '')}, which was made inside a function"
    return f"a {obj.__name__} that is not the {obj.__name__} of now"


def _step(step: Any) -> str:
    if isinstance(step, str):
        return step
    return f"[{reprlib.repr(step[0] if isinstance(step, tuple) else step)}]"


_WRITERS: Mapping[type, Callable[[_Walk, Any], None]] = {
    type(None): _Walk._none,
    bool: _Walk._bool,
    int: _Walk._int,
    float: _Walk._float,
    complex: _Walk._complex,
    str: _Walk._str,
    bytes: _Walk._bytes,
    bytearray: _Walk._bytearray,
    list: _Walk._list,
    dict: _Walk._dict,
    set: _Walk._set,
    frozenset: _Walk._frozenset,
    tuple: _Walk._tuple,
}
