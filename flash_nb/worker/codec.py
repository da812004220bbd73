"""Values to bytes and back: pickle protocol 5 with out-of-band buffers.

Two rules make values of a notebook cross processes:

* Functions and classes of ``__main__`` travel as *source*, so a pickle only names them. Whether a
  name can be resolved on the other side is the caller's knowledge: the `Portable` predicate.
  Everything else that pickle cannot name (lambdas, closures) is cloudpickled by value.
* The values of one cell share one pickle memo, one dump for each name. So two names for one object
  are still one object on the other side, and every name still has its own size and its own error.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cloudpickle

from .frames import Buffer

Portable = Callable[[Any], bool]
Watch = Callable[[Any], None]
Resolve = Callable[[str], Any]

MAIN = "__main__"
IN_BAND_BYTES = 16_384
# This package's names in a notebook, on a worker, and on a foreign one.
_ISLAND = ("flash_nb.worker.", "flash_worker.", "flash_guest.")
_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})


class EncodeError(Exception):
    """A value cannot be pickled.

    Attributes:
        name: The name it has in the notebook, or its position among the arguments.
        cause: What pickle said.
    """

    def __init__(self, name: str, cause: BaseException) -> None:
        super().__init__(f"{name}: {type(cause).__name__}: {cause}")
        self.name = name
        self.cause = cause


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def __init__(
        self,
        file: io.BytesIO,
        buffers: list[Buffer] | None,
        portable: Portable,
        modules: set[str],
        watch: Watch | None,
    ) -> None:
        keep = None if buffers is None else (lambda b: self._keep(b, buffers))
        super().__init__(file, protocol=5, buffer_callback=keep)
        self._portable = portable
        self._modules = modules
        self._watch = watch

    @staticmethod
    def _keep(buffer: pickle.PickleBuffer, buffers: list[Buffer]) -> bool:
        raw = buffer.raw()
        if raw.nbytes < IN_BAND_BYTES:
            return True
        buffers.append(raw)
        return False

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (type, types.FunctionType)):
            self._modules.add(obj.__module__ or "")
            if obj.__module__ == MAIN and self._portable(obj):
                return obj.__qualname__
        else:
            self._modules.add(type(obj).__module__)
            if self._watch is not None:
                self._watch(obj)
        return super().reducer_override(obj)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, buffers: Iterable[Buffer], resolve: Resolve) -> None:
        super().__init__(file, buffers=iter(buffers))
        self._resolve = resolve

    def find_class(self, module: str, name: str) -> Any:
        if module == MAIN:
            return self._resolve(name)
        if module.startswith(_ISLAND):
            module = f"{__package__}.{module.rpartition('.')[2]}"
        return super().find_class(module, name)


class _PatientUnpickler(_Unpickler):
    """Goes on with a stand-in where a class does not exist here, and keeps the error.

    A load that breaks off would leave the memo out of step with the stream, and every later value
    would be wrong.
    """

    missing: Exception | None = None

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except Exception as error:  # noqa: BLE001 - a definition may fail where it is executed again
            self.missing = self.missing or error
            return _StandIn


class _StandIn:
    """Takes everything that a pickle does to an object, and holds nothing."""

    def __new__(cls, *_: object, **__: object) -> _StandIn:  # noqa: PYI034 - Self is newer than Python 3.10
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None: ...

    def __setitem__(self, _: object, __: object) -> None: ...

    def append(self, _: object) -> None: ...

    def extend(self, _: object) -> None: ...

    def add(self, _: object) -> None: ...


class Encoder:
    """Dumps named values into one stream that shares a memo.

    Args:
        portable: What a pickle may call by name.
        in_band: Make one pickle that anybody can load, without buffers beside it.
        watch: Told of every object that pickle takes apart, before it does: of all but functions, classes,
            and what it knows itself, such as numbers, texts, lists and dicts.

    Attributes:
        items: The values' namespace items (see `namespace`).
        sizes: Bytes of each name, out-of-band buffers included.
        modules: Modules whose types and functions the values use.
    """

    def __init__(self, portable: Portable, *, in_band: bool = False, watch: Watch | None = None) -> None:
        self.items: list[dict[str, Any]] = []
        self.sizes: dict[str, int] = {}
        self.modules: set[str] = set()
        self._file = io.BytesIO()
        self._out_of_band: list[Buffer] = []
        beside = None if in_band else self._out_of_band
        self._pickler = _Pickler(self._file, beside, portable, self.modules, watch)

    def add(self, name: str, value: Any) -> None:
        """Append one value.

        Raises:
            EncodeError: It cannot be pickled. The encoder cannot be used further.
        """
        before = self._file.tell() + self._out_of_band_bytes()
        try:
            self._pickler.dump(value)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a class's __reduce__ may raise anything
            raise EncodeError(name, error) from error
        self.items.append({"name": name, "value": True})
        self.sizes[name] = self._file.tell() + self._out_of_band_bytes() - before

    def buffers(self) -> list[Buffer]:
        """Return the stream followed by its out-of-band buffers."""
        return [self._file.getbuffer(), *self._out_of_band]

    def _out_of_band_bytes(self) -> int:
        return sum(memoryview(b).nbytes for b in self._out_of_band)


class _StandInFinder(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Finds stand-ins anywhere in a value: a later one may share a part with the one that failed."""

    found = False

    def __init__(self) -> None:
        super().__init__(_Nowhere(), protocol=5, buffer_callback=lambda _: False)

    def reducer_override(self, obj: Any) -> Any:
        if obj is _StandIn or isinstance(obj, _StandIn):
            self.found = True
            return "_StandIn" if obj is _StandIn else (_StandIn, ())
        return super().reducer_override(obj)


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Buffer) -> int:
        return len(data)


def _holds_stand_in(value: Any) -> bool:
    finder = _StandInFinder()
    with contextlib.suppress(Exception):  # what cannot be pickled again was loaded all the same
        finder.dump(value)
    return finder.found


class Decoder:
    """Loads the values of an `Encoder`, in the order in which they were added.

    A value whose class does not exist here does not spoil those after it. One whose own code fails
    while it is loaded does: the stream cannot be followed any further.
    """

    def __init__(self, buffers: Sequence[Buffer], resolve: Resolve) -> None:
        self._unpickler = _PatientUnpickler(io.BytesIO(buffers[0]), buffers[1:], resolve)
        self._broken: Exception | None = None

    def load(self) -> Any:
        """Return the next value.

        Raises:
            Exception: Why its class cannot be had here; or what its own code raised, and then it is
                raised for all after it too.
        """
        if self._broken is not None:
            raise self._broken
        try:
            value = self._unpickler.load()
        except Exception as error:
            self._broken = error
            raise
        missing = self._unpickler.missing
        if missing is not None and _holds_stand_in(value):
            raise missing
        return value


def encode(
    value: Any, portable: Portable, modules: set[str] | None = None, *, in_band: bool = False
) -> list[Buffer]:
    """Return one value as a pickle followed by its out-of-band buffers; with `in_band` there are none.

    Raises:
        EncodeError: It cannot be pickled.
    """
    if type(value) in _ATOMS:
        return [pickle.dumps(value, protocol=5)]
    encoder = Encoder(portable, in_band=in_band)
    encoder.add("the value", value)
    if modules is not None:
        modules |= encoder.modules
    return encoder.buffers()


def decode(buffers: Sequence[Buffer], resolve: Resolve) -> Any:
    """Return the value that `encode` was given."""
    return _Unpickler(io.BytesIO(buffers[0]), buffers[1:], resolve).load()


def never_portable(_: Any) -> bool:
    """Say that nothing of ``__main__`` is known on the other side."""
    return False
