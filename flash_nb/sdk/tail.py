"""The end of what a job printed, kept for its errors."""

from __future__ import annotations

from collections import deque

MAX_CHARACTERS = 4_000


class Tail:
    """Keeps the last characters of a text that comes in pieces."""

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

    def __str__(self) -> str:
        return "".join(self._pieces)[-self._limit :]
