"""Secrets in values: by the name that a text goes by, or by its form. None of them is ever told."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

from flash_nb.cells.secret import MOST_SEARCHED, form_of, says_secret
from flash_nb.worker.codec import MAIN

_MOST_PARTS = 200  # of a value are looked at
_HARMLESS = frozenset({type(None), bool, int, float, complex})


def secret_in(name: str, value: Any) -> str:
    """Say that a value is a secret, or holds one; empty if it does not. The secret itself is not told."""
    level: list[tuple[str, str, Any]] = [(name, name, value)]
    left = _MOST_PARTS
    while level and left > 0:
        below: list[tuple[str, str, Any]] = []
        for path, called, part in level[:left]:
            if said := _says(path, called, part):
                return said
            if len(below) < left:
                below += _named_parts(path, called, part)
        left -= len(level)
        level = below
    return ""


def _says(path: str, called: str, value: Any) -> str:
    if callable(getattr(type(value), "get_secret_value", None)):  # pydantic's
        return f"{path} is a {type(value).__name__}"
    text = value[:MOST_SEARCHED].decode(errors="replace") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        return ""
    if says_secret(called, text[:MOST_SEARCHED]):
        return f"{path} has the name of a secret"
    form = form_of(text)
    return f"{path} looks like {form}" if form else ""


def _named_parts(path: str, called: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield the path, the name and the value of each part, of plain containers and plain objects."""
    if isinstance(value, dict):
        for key, part in islice(value.items(), _MOST_PARTS):
            if type(part) not in _HARMLESS:
                shown = "…" if isinstance(key, str) and form_of(key) else reprlib.repr(key)
                yield f"{path}[{shown}]", str(key), part
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value[:_MOST_PARTS]):
            if type(part) not in _HARMLESS:
                yield f"{path}[{index}]", called, part
    elif type(value).__module__ == MAIN and isinstance(attributes := getattr(value, "__dict__", None), dict):
        for attribute, part in attributes.items():
            yield f"{path}.{attribute}", attribute, part
