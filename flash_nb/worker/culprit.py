"""The part of a value that cannot be pickled, with the path to it: ``df.attrs['lock']``."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .codec import EncodeError, Encoder


class SerializationError(TypeError):
    """A result cannot be sent back. Its caller raises the error of `flash_nb.errors` of this name."""


def find_culprit(path: str, value: Any, depth: int = 6) -> tuple[str, Any]:
    """Walk into the part of a value that cannot be pickled; stop where no part is at fault.

    Args:
        path: What the value is called.
        value: It cannot be pickled.
        depth: How far to go.
    """
    for step, part in _parts(value) if depth else ():
        if not _can_pickle(part):
            return find_culprit(path + step, part, depth - 1)
    return path, value


def find_part(path: str, value: Any, wanted: Callable[[Any], bool], most: int = 50_000) -> str:
    """Return the path to the nearest part of a value that is wanted; an empty text if none is found.

    Args:
        path: What the value is called.
        value: What to look in; it may be what is wanted.
        wanted: Tells it.
        most: How many parts to look at.
    """
    seen = {id(value)}
    level = [(path, value)]
    while level and len(seen) < most:
        below = []
        for at, each in level:
            if wanted(each):
                return at
            for step, part in _parts(each):
                if id(part) not in seen:
                    seen.add(id(part))
                    below.append((at + step, part))
        level = below
    return ""


def type_name(value: Any) -> str:
    """Return the full name of a value's type."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


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
