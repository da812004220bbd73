"""A step of a build, as whoever shows it sees it."""

from __future__ import annotations

from dataclasses import dataclass


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
