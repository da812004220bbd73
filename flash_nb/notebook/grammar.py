"""The grammar of a magic line, read from its parser: argparse's of a cell magic, Typer's of ``%flash``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_CHOICES = re.compile(r"\[?([\w.-]+(?:\|[\w.-]+)+)\]?")  # a metavar such as [local|runpod|auto]


@dataclass(frozen=True)
class Parameter:
    """An option, or an argument.

    Attributes:
        options: How the option is written; nothing for an argument.
        takes: What its value is, as its parser calls it, say ``GROUP``; empty for a flag.
        choices: All values there are, if that is a closed set.
        repeats: It may be given more than once.
    """

    options: tuple[str, ...] = ()
    takes: str = ""
    choices: tuple[str, ...] = ()
    repeats: bool = False

    @property
    def is_list(self) -> bool:
        """True if its value is a list with commas."""
        return "," in self.takes


@dataclass(frozen=True)
class Command:
    """What a parser understands.

    Attributes:
        parameters: Its options and arguments, the arguments in order.
        commands: Its subcommands by name; one with subcommands has no arguments.
    """

    parameters: tuple[Parameter, ...] = ()
    commands: Mapping[str, Command] = field(default_factory=dict)

    def option(self, word: str) -> Parameter | None:
        """Return the option that is written like this."""
        return next((each for each in self.parameters if word in each.options), None)

    def argument(self, place: int) -> Parameter | None:
        """Return the argument at a place, from 0."""
        arguments = [each for each in self.parameters if not each.options]
        if place < len(arguments):
            return arguments[place]
        return arguments[-1] if arguments and arguments[-1].repeats else None


CLAUSE = (Parameter(takes="x"), Parameter(takes="in", choices=("in",)), Parameter(takes="xs"))
"""The clause of ``%%flash_map``, which is read before its parser sees the rest."""


def from_argparse(parser: argparse.ArgumentParser, *, first: Sequence[Parameter] = ()) -> Command:
    """Return the grammar of a parser of argparse's.

    Args:
        parser: The parser.
        first: The arguments that stand before what it parses.
    """
    return Command((*first, *map(_of_action, parser._actions)))


def _of_action(action: argparse.Action) -> Parameter:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return Parameter(
        options=tuple(action.option_strings),
        takes="" if action.nargs == 0 else metavar,
        choices=tuple(map(str, action.choices or ())),
        repeats=isinstance(action, argparse._AppendAction) or action.nargs in ("*", "+"),
    )


def from_typer(command: Any) -> Command:
    """Return the grammar of a command of Typer's, and of all below it."""
    below = getattr(command, "commands", {})
    return Command(
        parameters=(*(_of_click(each) for each in command.params if not _hidden(each)), _HELP),
        commands={name: from_typer(each) for name, each in below.items() if not _hidden(each)},
    )


_HELP = Parameter(options=("--help",))


def _hidden(part: Any) -> bool:
    return bool(getattr(part, "hidden", False))


def _of_click(parameter: Any) -> Parameter:
    # Not its type: that has another place in each version of Typer.
    is_argument = parameter.param_type_name == "argument"
    metavar = parameter.metavar or str(parameter.name).upper()
    choices = _CHOICES.fullmatch(metavar)
    return Parameter(
        options=() if is_argument else (*parameter.opts, *parameter.secondary_opts),
        takes="" if getattr(parameter, "is_flag", False) else metavar.strip("[]."),
        choices=tuple(choices[1].split("|")) if choices else (),
        repeats=bool(getattr(parameter, "multiple", False)) or parameter.nargs == -1,
    )
