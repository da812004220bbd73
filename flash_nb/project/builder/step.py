"""A step of a build, and going through all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """Where a build stands. One is yielded when a step begins, and whenever there is news of it.

    Attributes:
        name: What is done: ``sources``, ``scan``, ``install``, ``check``, ``archive``.
        done: How much of it, in `unit`.
        total: Of how much; None if that is not known.
        unit: ``files``, ``packages`` or ``bytes``.
        note: What is done just now, or was found, for people.
    """

    name: str
    done: int = 0
    total: int | None = None
    unit: str = ""
    note: str = ""


def run(steps: Generator[Step, None, T], tell: Callable[[Step], None] = lambda _: None) -> T:
    """Go through steps to their end, and return what they made.

    Args:
        steps: They; they are ended also when `tell` raises, or the user interrupts.
        tell: Is told of each.
    """
    made: list[T] = []

    def through() -> Iterator[Step]:
        made.append((yield from steps))

    with contextlib.closing(steps):
        for step in through():
            tell(step)
    return made[0]


def counted(number: int, thing: str) -> str:
    """Return ``1 file`` or ``3 files``."""
    return f"{number} {thing}{'s' * (number != 1)}"
