"""A choice: one word from a set, written as a member, as its value or as its member name."""

from __future__ import annotations

import re
from enum import Enum
from typing import TypeVar

from flash_nb.errors import did_you_mean


class Choice(str, Enum):
    """A word from a set. It equals its value and reads as the code that names it."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __str__(self) -> str:
        return str(self.value)


ChoiceT = TypeVar("ChoiceT", bound=Choice)


def find(kind: type[ChoiceT], value: object) -> ChoiceT | None:
    """Return the member that `value` is, by value or by member name; None if there is none."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, str):
        return None
    return kind.__members__.get(value) or next((m for m in kind if m.value == value), None)


def parse(kind: type[ChoiceT], value: object) -> ChoiceT:
    """Return the member that `value` is.

    Raises:
        ValueError: There is none; the message reads on from "field='value'".
    """
    member = find(kind, value)
    if member is None:
        raise ValueError(refusal(kind, value))
    return member


def parse_open(kind: type[ChoiceT], value: object, shape: re.Pattern[str]) -> ChoiceT | str:
    """Return the member that `value` is, or `value` itself if it has the shape of a newer one.

    Runpod adds data centers and CUDA versions more often than we release.

    Raises:
        ValueError: `value` is neither.
    """
    if find(kind, value) is None and isinstance(value, str) and shape.fullmatch(value):
        return value
    return parse(kind, value)


def refusal(kind: type[Choice], value: object) -> str:
    """Return why `value` is refused, with the nearest member or the whole set."""
    near = ""
    if isinstance(value, str):
        near = did_you_mean(value, kind) or did_you_mean(value, kind.__members__)
    return f"is not a {kind.__name__}{near or '; known are ' + ', '.join(kind)}"
