"""The user's namespace: which names a cell can read, and what a cell's outcome does to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flash_nb.worker.codec import MAIN, Decoder
from flash_nb.worker.frames import Buffer
from flash_nb.worker.namespace import Definitions, Item, MissingModuleError, import_module


@dataclass
class Bound:
    """What came back.

    Attributes:
        names: Now bound here.
        unbound: ``(name, reason)`` of what could not be bound here.
        kinds: The type of each value, by name.
    """

    names: list[str] = field(default_factory=list)
    unbound: list[tuple[str, str]] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)


def known_names(namespace: Mapping[str, Any], hidden: Mapping[str, Any]) -> frozenset[str]:
    """Return the names that are the user's: what IPython put there itself is left out."""
    return frozenset(
        name for name, value in namespace.items() if name not in hidden or hidden[name] is not value
    )


def bind(
    namespace: dict[str, Any],
    *,
    items: Sequence[Item],
    definitions: Sequence[Item],
    buffers: Sequence[Buffer],
    changed: Sequence[str],
    deleted: Sequence[str],
) -> Bound:
    """Bind what a cell brought back, as if it had run here.

    A list, dict, array, table or object that the cell changed in place is changed in place here too, so
    that other names for it see the change. Other results that hold it hold a copy of it.

    Args:
        namespace: The user's.
        items: Modules and values that came back.
        definitions: Functions and classes that the cell defines; they are executed here.
        buffers: The encoded values.
        changed: Names of inputs that the cell changed in place.
        deleted: Names that the cell deleted.
    """
    bound = Bound()
    for item in items:
        if "module" in item:
            _bind_module(namespace, item, bound)
    pending = Definitions(namespace, definitions)
    encoded = [item for item in items if "value" in item]
    if encoded:
        decoder = Decoder(buffers, pending.resolve)
        for item in encoded:
            _bind_value(namespace, item, decoder, changed, bound)
    for item in definitions:
        _bind_definition(pending, item["name"], bound)
    for name in deleted:
        namespace.pop(name, None)
    return bound


def _bind_module(namespace: dict[str, Any], item: Item, bound: Bound) -> None:
    try:
        namespace[item["name"]] = import_module(item)
    except MissingModuleError:
        bound.unbound.append((item["name"], f"the module {item['module']} is not installed here"))
    else:
        bound.names.append(item["name"])


def _bind_value(
    namespace: dict[str, Any], item: Item, decoder: Decoder, changed: Sequence[str], bound: Bound
) -> None:
    name = item["name"]
    try:
        value = decoder.load()
    except Exception as error:  # noqa: BLE001 - unpickling runs code of packages, which may be absent here
        bound.unbound.append((name, f"{type(error).__name__}: {error}"))
    else:
        namespace[name] = _merge(namespace.get(name), value) if name in changed else value
        bound.names.append(name)
        bound.kinds[name] = type(value).__name__


def _bind_definition(pending: Definitions, name: str, bound: Bound) -> None:
    try:
        pending.define(name)
    except Exception as error:  # noqa: BLE001 - a definition may need what only the worker has
        bound.unbound.append((name, f"{type(error).__name__}: {error}"))
    else:
        bound.names.append(name)


def _merge(old: Any, new: Any) -> Any:
    """Give an object the content of its changed copy, where its type makes that simple."""
    kind = type(new)
    if type(old) is not kind:
        return new
    if kind in {list, bytearray}:
        old[:] = new
    elif kind in {dict, set}:
        old.clear()
        old.update(new)
    elif kind.__module__ == MAIN and kind.__base__ is object and not hasattr(kind, "__slots__"):
        vars(old).clear()
        vars(old).update(vars(new))
    elif kind.__module__.partition(".")[0] == "pandas" and hasattr(old, "_update_inplace"):
        old._update_inplace(new)  # what pandas itself does for inplace=True
    elif kind.__module__ == "numpy" and getattr(old, "shape", ()) == getattr(new, "shape", None):
        if old.dtype != new.dtype or not old.flags.writeable:
            return new
        old[...] = new
    else:
        return new
    return old
