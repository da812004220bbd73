"""``%%flash_remote`` and ``%%flash_map`` below comments and blank lines.

IPython knows a cell magic by the first line of a cell, so a comment above it makes it a syntax error.
It is moved up, and what stood above it down, before IPython looks at the cell: all other lines keep
their numbers.
"""

from __future__ import annotations

MAGICS = ("%%flash_remote", "%%flash_map")


def hoist(lines: list[str]) -> list[str]:
    """Return a cell's lines with the magic line first, if only comments and blank lines are above it."""
    for number, line in enumerate(lines):
        if line.startswith(MAGICS):
            return [line, *lines[:number], *lines[number + 1 :]]
        if line.strip() and not line.startswith("#"):
            break
    return lines
