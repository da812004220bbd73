"""Completion of a magic line: the text of a cell and a cursor to what may stand there.

Pure: what a line may say is a `Command` of `grammar`, and the words of a value are asked for with a `Query`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from flash_nb.notebook.grammar import Command, Parameter

_MAGIC = re.compile(r"[ \t]*(%%?flash\w*)(?=[ \t])")
_BLANK = frozenset(" \t")


@dataclass(frozen=True)
class Completion:
    """One thing that may stand there: its text, and ``"command"``, ``"option"`` or ``"value"``."""

    text: str
    kind: str


@dataclass(frozen=True)
class Completions:
    """All that may stand in the place of ``text[start:cursor]``."""

    start: int
    items: tuple[Completion, ...]


@dataclass(frozen=True)
class Query:
    """A question for the words that a value may be.

    Attributes:
        parameter: Whose value.
        typed: How it begins.
        before: The words of the line up to here.
        cell: The lines below a cell magic.
    """

    parameter: Parameter
    typed: str
    before: tuple[str, ...]
    cell: str


Grammars = Callable[[str], Command | None]
"""The grammar of a magic, by its name with its percent signs."""

Words = Callable[[Query], Iterable[str]]


def complete(text: str, cursor: int, *, grammars: Grammars, words: Words) -> Completions | None:
    """Return what may stand at a place of a cell; None if that is not on a magic line of ours.

    Args:
        text: The cell.
        cursor: The place: how many characters are before it.
        grammars: As above.
        words: The words that a value may be; those that do not begin as typed are left out.
    """
    begin = text.rfind("\n", 0, cursor) + 1
    magic = _MAGIC.match(text[begin:cursor])
    if magic is None or (magic[1].startswith("%%") and not _is_first(text[:begin], magic[0])):
        return None
    command = grammars(magic[1])
    if command is None:
        return None
    line = _Line.of(text[begin + magic.end() : cursor])
    if line is None:
        return Completions(cursor, ())
    end = text.find("\n", cursor)
    cell = text[end + 1 :] if end >= 0 and magic[1].startswith("%%") else ""
    typed, found = _at(command, line, words, cell)
    items = (each for each in found if each.text.startswith(typed) and line.can_hold(each.text))
    return Completions(cursor - len(typed), tuple(dict.fromkeys(items)))


def _is_first(above: str, magic: str) -> bool:
    """Tell if a line may be that of a cell magic: only comments and blank lines are above it."""
    lines = above.split("\n")
    return magic[0] == "%" and all(not line.strip() or line.startswith("#") for line in lines)


@dataclass(frozen=True)
class _Line:
    """A line up to the cursor, as `shlex.split` would cut it.

    Attributes:
        words: Its words, without the one that the cursor is in.
        typed: What is there of that word.
        quote: The quote that is open around it.
    """

    words: tuple[str, ...]
    typed: str
    quote: str

    @classmethod
    def of(cls, text: str) -> _Line | None:
        """Cut a line; None if the last word is written in a way that no completion can go on with."""
        words: list[str] = []
        word, raw, quote, escaped, inside = "", "", "", False, False
        for sign in text:
            if not (quote or escaped) and sign in _BLANK:
                if inside:
                    words.append(word)
                word, raw, inside = "", "", False
                continue
            raw, inside = raw + sign, True
            if escaped:
                word, escaped = word + _unescaped(sign, quote), False
            elif sign == "\\" and quote != "'":
                escaped = True
            elif quote and sign == quote:
                quote = ""
            elif not quote and sign in "\"'":
                quote = sign
            else:
                word += sign
        return cls(tuple(words), word, quote) if raw == quote + word else None

    def can_hold(self, word: str) -> bool:
        """Tell if a word may be written here: without quotes, one with blanks may not."""
        special = "\\" + self.quote if self.quote else "\\\"' \t"
        return not any(sign in word for sign in special + "\n")


def _unescaped(sign: str, quote: str) -> str:
    return sign if not quote or sign in (quote, "\\") else "\\" + sign


def _at(command: Command, line: _Line, words: Words, cell: str) -> tuple[str, Iterator[Completion]]:
    """Return what of the last word is to be completed, and what may stand there."""
    place = _Place(command)
    if not all(map(place.step, line.words)):
        return line.typed, iter(())
    option, equals, value = line.typed.partition("=")
    expected, typed = place.expects, line.typed
    if expected is None and equals and (known := place.command.option(option)) and known.takes:
        expected, typed = known, value
    if expected is not None:
        query = Query(expected, typed, line.words, cell)
        return _last(typed, expected), _values(query, words)
    return typed, place.openings(Query(Parameter(), typed, line.words, cell), words)


def _last(typed: str, parameter: Parameter) -> str:
    return typed.rpartition(",")[2] if parameter.is_list else typed


class _Place:
    """Where in a command a line stands."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.expects: Parameter | None = None
        self._given: list[Parameter] = []
        self._arguments = 0

    def step(self, word: str) -> bool:
        """Go on by a word; False if no such command exists."""
        if self.expects is not None:
            self.expects = None
        elif word.startswith("-"):
            name, equals, _ = word.partition("=")
            option = self.command.option(name)
            if option is not None:
                self._given.append(option)
                self.expects = option if option.takes and not equals else None
        elif self.command.commands:
            below = self.command.commands.get(word)
            if below is None:
                return False
            self.command, self._given = below, []
        else:
            self._arguments += 1
        return True

    def openings(self, query: Query, words: Words) -> Iterator[Completion]:
        """Yield what may begin here: commands, values of the next argument, options."""
        for name in self.command.commands:
            yield Completion(name, "command")
        argument = self.command.argument(self._arguments)
        if argument is not None and not query.typed.startswith("-"):
            yield from _values(Query(argument, query.typed, query.before, query.cell), words)
        for option in self.command.parameters:
            if option.repeats or option not in self._given:
                yield from (Completion(each, "option") for each in option.options if _is_wanted(each, query))


def _is_wanted(option: str, query: Query) -> bool:
    """Leave short options out, until one is typed."""
    return option.startswith("--") or query.typed.startswith("-")


def _values(query: Query, words: Words) -> Iterator[Completion]:
    parameter = query.parameter
    known: Sequence[str] = query.typed.split(",")[:-1] if parameter.is_list else ()
    for word in (*parameter.choices, *words(query)):
        if word not in known:
            yield Completion(word, "value")
