"""Blocks: the parts of a project's files that an export writes, apart from what a user writes around them.

::

    # %% flash train.ipynb#cell-03 1f0a9c3b77de      the notebook, the cell, and the digest of what follows
    scale = 3
    # %% end

A block that somebody has changed no longer has its digest. What stands outside of all blocks is the user's:
it stays where it is, behind the block that it stood behind.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_BEGIN = re.compile(r"^(?:# %%|<!--) flash (?P<notebook>.+)#(?P<id>\S+) (?P<digest>[0-9a-f]{12})(?: -->)?$")
_END = re.compile(r"^(?:# %% end|<!-- flash end -->)$")


@dataclass(frozen=True)
class Block:
    """A part of a file that an export writes.

    Attributes:
        notebook: The name of the notebook's file.
        id: The cell's id, or a word for what belongs to no cell.
        text: Its lines, without the marks around them.
    """

    notebook: str
    id: str
    text: str

    @property
    def digest(self) -> str:
        """Tells its text from others."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    def written(self, *, markdown: bool) -> str:
        """Return it with its marks."""
        mark = f"flash {self.notebook}#{self.id} {self.digest}"
        if markdown:
            return f"<!-- {mark} -->\n{self.text}\n<!-- flash end -->"
        return f"# %% {mark}\n{self.text}\n# %% end"


@dataclass(frozen=True)
class Found:
    """A block of a file.

    Attributes:
        block: It.
        line: Of its first mark.
        is_edited: Somebody has changed it.
        is_open: Its end is missing.
        after: What stands behind it, up to the next block.
    """

    block: Block
    line: int
    is_edited: bool
    after: str = ""
    is_open: bool = False


@dataclass(frozen=True)
class Parsed:
    """A file, taken apart.

    Attributes:
        before: What stands above its first block.
        found: Its blocks.
    """

    before: str
    found: tuple[Found, ...] = field(default=())

    @property
    def blocks(self) -> Mapping[str, Found]:
        """By id."""
        return {each.block.id: each for each in self.found}

    @property
    def notebooks(self) -> frozenset[str]:
        """Whose blocks it has."""
        return frozenset(each.block.notebook for each in self.found)


def parse(text: str) -> Parsed:
    """Take a file apart."""
    lines = text.replace("\r\n", "\n").split("\n")
    before: list[str] = []
    found: list[Found] = []
    place = 0
    outside = before
    tails: list[list[str]] = []
    while place < len(lines):
        begin = _BEGIN.match(lines[place])
        if begin is None:
            outside.append(lines[place])
            place += 1
            continue
        end = place + 1
        while end < len(lines) and not _END.match(lines[end]) and not _BEGIN.match(lines[end]):
            end += 1
        is_open = end == len(lines) or not _END.match(lines[end])
        block = Block(begin["notebook"], begin["id"], "\n".join(lines[place + 1 : end]))
        edited = is_open or block.digest != begin["digest"]
        found.append(Found(block, place + 1, edited, is_open=is_open))
        outside = []
        tails.append(outside)
        place = end if is_open else end + 1
    complete = tuple(
        Found(each.block, each.line, each.is_edited, "\n".join(tail), each.is_open)
        for each, tail in zip(found, tails, strict=True)
    )
    return Parsed("\n".join(before) if found else text, complete)


def merged(old: Parsed, new: Sequence[Block], *, name: str) -> str:
    """Return a file with other blocks, and all that stands outside of them.

    Args:
        old: The file as it is.
        new: The blocks that it shall have, in their order.
        name: Of the file: Markdown and ``requirements.txt`` look different.

    Returns:
        Its text; empty if nothing is left of it.
    """
    gap = "\n\n\n" if name.endswith(".py") else "\n\n"
    kept = {block.id for block in new}
    after: dict[str, list[str]] = {"": [old.before]}
    last = ""
    for each in old.found:
        if each.block.id in kept:
            last = each.block.id
        after.setdefault(last, []).append(each.after)
    pieces = [_own(after.get("", ()))]
    for block in new:
        pieces += [block.written(markdown=name.endswith(".md")), _own(after.get(block.id, ()))]
    text = gap.join(filter(None, pieces))
    return f"{text}\n" if text else ""


def _own(texts: Sequence[str]) -> str:
    """Join what a user wrote, without the blank lines around it."""
    return "\n\n".join(text.strip("\n").rstrip() for text in texts if text.strip())
