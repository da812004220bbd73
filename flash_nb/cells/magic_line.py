"""``%%flash_remote`` and ``%%flash_map`` below comments and blank lines.

IPython knows a cell magic by the first line of a cell, so a comment above it makes it a syntax error.
It is moved up, and what stood above it down, before IPython looks at the cell: all other lines keep
their numbers.
"""

from __future__ import annotations

import hashlib

MAGICS = ("%%flash_remote", "%%flash_map")


def hoist(lines: list[str]) -> list[str]:
    """Return a cell's lines with the magic line first, if only comments and blank lines are above it."""
    for number, line in enumerate(lines):
        if line.startswith(MAGICS):
            return [line, *lines[:number], *lines[number + 1 :]]
        if line.strip() and not line.startswith("#"):
            break
    return lines


def digest(cell: str) -> str:
    """Return what tells the text of a cell from other texts, in a file as in a kernel.

    Comments above the magic line, and blank lines around the cell, make no difference to where it is read.
    """
    first, *rest = hoist(cell.splitlines(keepends=True)) or [""]
    text = f"{first.rstrip()}\n{''.join(rest)}".strip()
    return hashlib.sha256(text.encode()).hexdigest()[:16]
