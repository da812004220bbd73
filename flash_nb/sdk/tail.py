"""The end of what a job printed, kept for its errors."""

from __future__ import annotations

from collections import deque

MAX_CHARACTERS = 4_000


class Tail:
    """Keeps the last characters of a text that comes in pieces.

    One thread adds; others may read meanwhile.
    """

    def __init__(self, limit: int = MAX_CHARACTERS) -> None:
        self._limit = limit
        self._pieces: deque[str] = deque()
        self._length = 0

    def add(self, text: str) -> None:
        """Append a piece."""
        self._pieces.append(text)
        self._length += len(text)
        while self._length - len(self._pieces[0]) >= self._limit:
            self._length -= len(self._pieces.popleft())

    @property
    def last_line(self) -> str:
        """The last line that is not empty; of one that was overwritten, what was written last."""
        for piece in reversed(self._pieces.copy()):
            lines = piece.replace("\r", "\n").split("\n")
            found = next((line.strip() for line in reversed(lines) if line.strip()), "")
            if found:
                return found
        return ""

    def __str__(self) -> str:
        return "".join(self._pieces.copy())[-self._limit :]
