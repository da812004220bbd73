"""The options of ``%%flash_remote`` and ``%%flash_map``: text to values, and what each means."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

from IPython.core.error import UsageError

from flash_nb.cells import clause
from flash_nb.errors import did_you_mean

BACKENDS = ("local", "runpod")


@dataclass(frozen=True)
class CellOptions:
    """What a cell's magic line says. Empty means not given."""

    resource: str = ""
    gpus: tuple[str, ...] = ()
    cpu: str = ""
    name: str = ""
    deps: tuple[str, ...] = ()
    system_deps: tuple[str, ...] = ()
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    timeout: float | None = None
    detach: bool = False
    run: bool = False
    define: bool = False
    allow_apt: bool = False
    backend: str = ""
    max_cost: float | None = None
    allowed_secrets: tuple[str, ...] = ()
    cache: bool = False
    refresh: bool = False
    max_parallel: int | None = None
    magic: str = "%%flash_remote"
    items: clause.Clause | None = None

    @property
    def is_bare(self) -> bool:
        """True if it does not say what the cell runs on."""
        return not (self.resource or self.gpus or self.cpu or self.name)


class _Parser(argparse.ArgumentParser):
    """Reports mistakes as IPython does: one line, no traceback, no exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog.split()[0]}: {message}")

    def _check_value(self, action: argparse.Action, value: str) -> None:
        if action.choices is not None and value not in action.choices:
            known = [*map(str, action.choices)]
            near = did_you_mean(value, known) or f"; choose from {', '.join(known)}"
            raise argparse.ArgumentError(action, f"{value!r} is unknown{near}")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        parsed, unknown = self.parse_known_args(words)
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            self.error(f"no such option: {unknown[0]}{did_you_mean(unknown[0], known)}")
        return parsed


def names(text: str) -> tuple[str, ...]:
    """Return the words of a comma list."""
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _identifiers(text: str) -> tuple[str, ...]:
    found = names(text)
    for name in found:
        if not name.isidentifier():
            raise argparse.ArgumentTypeError(f"{name!r} is not a name")
    return found


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0 seconds")
    return seconds


def _usd(text: str) -> float:
    try:
        value = float(text.removeprefix("$"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount in USD") from None
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not more than $0")
    return value


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} lets nothing run")
    return count


@cache  # they are never changed, and every cell of a notebook asks for one
def parser() -> argparse.ArgumentParser:
    """Return the parser of ``%%flash_remote``; its help is the magic's usage text."""
    made = _parser("%%flash_remote")
    how = made.add_argument_group("how it runs")
    how.add_argument("--timeout", type=_seconds, metavar="S", help="longest run, in seconds")
    how.add_argument("--max-cost", type=_usd, metavar="USD", help="cancel it when it has cost so much")
    how.add_argument("--detach", action="store_true", help="do not wait; names come with a later cell")
    how.add_argument("--cache", action="store_true", help="reuse the result of the same cell and values")
    how.add_argument("--refresh", action="store_true", help="run it all the same, and keep the new result")
    how.add_argument("--run", action="store_true", help="run the cell, even if it only defines functions")
    how.add_argument("--define", action="store_true", help="make its functions remote, and run nothing")
    return made


@cache
def map_parser() -> argparse.ArgumentParser:
    """Return the parser of what follows the clause of ``%%flash_map``."""
    made = _parser("%%flash_map x in xs")
    how = made.add_argument_group("how it runs")
    how.add_argument(
        "--max-parallel",
        type=_count,
        metavar="N",
        help="items submitted and unfinished at once; eight for each worker by default",
    )
    how.add_argument("--timeout", type=_seconds, metavar="S", help="longest run of one item, in seconds")
    return made


def _parser(prog: str) -> _Parser:
    made = _Parser(
        prog=prog,
        add_help=False,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=88),
    )
    where = made.add_argument_group("where it runs")
    where.add_argument(
        "-r", "--resource", default="", metavar="RESOURCE", help="a variable that holds a resource"
    )
    where.add_argument(
        "--gpu",
        action="append",
        default=[],
        metavar="GROUP",
        help="a GPU group such as AMPERE_80; repeat it for alternatives, the best first",
    )
    where.add_argument("--cpu", default="", metavar="INSTANCE", help="a CPU instance such as cpu5c-4-8")
    where.add_argument("--name", default="", metavar="N", help="the endpoint's name")
    where.add_argument(
        "--backend", choices=BACKENDS, default="", metavar="B", help="local or runpod, for this cell alone"
    )
    moves = made.add_argument_group("what moves")
    moves.add_argument(
        "--deps",
        type=names,
        default=(),
        metavar="a,b",
        help="packages to install, beside those that the cell imports",
    )
    moves.add_argument("--system-deps", type=names, default=(), metavar="a,b", help="system packages")
    moves.add_argument("--allow-apt", action="store_true", help="install missing system packages with apt")
    moves.add_argument(
        "--in", dest="inputs", type=_identifiers, metavar="a,b", help="names to send, instead of those found"
    )
    moves.add_argument(
        "--out",
        dest="outputs",
        type=_identifiers,
        metavar="x,y",
        help="names to bring back, instead of all that the cell binds",
    )
    moves.add_argument(
        "--allow-secret",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that may be sent though it looks like a secret; repeat it for others",
    )
    return made


_OF_A_MAP = """
`x in xs` is what a for statement takes: (name, size) in pairs, n in range(10). The items are made
here, one after the other as workers become free, and may be endless.

Each name that the cell binds becomes a list with one value for each item, in their order, and so
does the value of its last line; x itself is left alone. Where an item failed there is None, and
`%flash retry` runs only what is not done. All other values that the cell reads are sent with each
item, so let it load what is large; what it changes in them in place is not brought back.
"""


def usage() -> str:
    """Return what ``%%flash_remote?`` shows."""
    return f"Run this cell on a worker.\n\n{parser().format_help()}"


def map_usage() -> str:
    """Return what ``%%flash_map?`` shows."""
    return f"Run this cell once for each item, on workers.\n\n{map_parser().format_help()}{_OF_A_MAP}"


def parse(line: str) -> CellOptions:
    """Return the options of a line of ``%%flash_remote``.

    Raises:
        UsageError: The line makes no sense; one sentence says why.
    """
    made = parser()
    found = _parse(made, line)
    if found.run and found.define:
        made.error("--run and --define exclude each other")
    if found.define and (found.cache or found.refresh):
        made.error("--define excludes --cache and --refresh: nothing runs")
    return _options(
        found,
        detach=found.detach,
        run=found.run,
        define=found.define,
        max_cost=found.max_cost,
        cache=found.cache or found.refresh,
        refresh=found.refresh,
    )


def parse_magic(line: str) -> CellOptions:
    """Return the options of a whole line with one of the magics.

    Raises:
        UsageError: The line makes no sense; one sentence says why.
    """
    magic, _, rest = line.partition(" ")
    return parse_map(rest)[1] if magic == "%%flash_map" else parse(rest)


def parse_map(line: str) -> tuple[clause.Clause, CellOptions]:
    """Return the clause and the options of a line of ``%%flash_map``.

    Raises:
        UsageError: The line makes no sense; one sentence says why.
    """
    made = map_parser()
    text, rest = clause.split(line)
    try:
        items = clause.parse(text)
    except clause.ClauseError as error:
        made.error(str(error))
    found = _parse(made, rest)
    return items, _options(found, magic="%%flash_map", max_parallel=found.max_parallel, items=items)


def _parse(made: argparse.ArgumentParser, line: str) -> argparse.Namespace:
    assert isinstance(made, _Parser)
    try:
        words = shlex.split(line)
    except ValueError as error:
        made.error(f"{error}: {line}")
    found = made.parse(words)
    if found.cpu and found.gpu:
        made.error("--gpu and --cpu exclude each other")
    if found.resource and (found.cpu or found.gpu or found.name):
        made.error("--resource excludes --gpu, --cpu and --name: the resource says them")
    return found


def _options(found: argparse.Namespace, **others: Any) -> CellOptions:
    return CellOptions(
        resource=found.resource,
        gpus=tuple(found.gpu),
        cpu=found.cpu,
        name=found.name,
        deps=found.deps,
        system_deps=found.system_deps,
        inputs=found.inputs,
        outputs=found.outputs,
        timeout=found.timeout,
        allow_apt=found.allow_apt,
        backend=found.backend,
        allowed_secrets=tuple(found.allow_secret),
        **others,
    )
