"""The options of ``%%flash_remote``: text to values, and what each means."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from IPython.core.error import UsageError

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


class _Parser(argparse.ArgumentParser):
    """Reports mistakes as IPython does: one line, no traceback, no exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"%%flash_remote: {message}")

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


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _identifiers(text: str) -> tuple[str, ...]:
    names = _names(text)
    for name in names:
        if not name.isidentifier():
            raise argparse.ArgumentTypeError(f"{name!r} is not a name")
    return names


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


def parser() -> argparse.ArgumentParser:
    """Return the parser; its help is the magic's usage text."""
    made = _Parser(
        prog="%%flash_remote",
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
        type=_names,
        default=(),
        metavar="a,b",
        help="packages to install, beside those that the cell imports",
    )
    moves.add_argument("--system-deps", type=_names, default=(), metavar="a,b", help="system packages")
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
    how = made.add_argument_group("how it runs")
    how.add_argument("--timeout", type=_seconds, metavar="S", help="longest run, in seconds")
    how.add_argument("--max-cost", type=_usd, metavar="USD", help="cancel it when it has cost so much")
    how.add_argument("--detach", action="store_true", help="do not wait; names come with a later cell")
    how.add_argument("--run", action="store_true", help="run the cell, even if it only defines functions")
    how.add_argument("--define", action="store_true", help="make its functions remote, and run nothing")
    return made


def usage() -> str:
    """Return what ``%%flash_remote?`` shows."""
    return f"Run this cell on a worker.\n\n{parser().format_help()}"


def parse(line: str) -> CellOptions:
    """Return the options of a magic line.

    Raises:
        UsageError: The line makes no sense; one sentence says why.
    """
    made = parser()
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
    if found.run and found.define:
        made.error("--run and --define exclude each other")
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
        detach=found.detach,
        run=found.run,
        define=found.define,
        allow_apt=found.allow_apt,
        backend=found.backend,
        max_cost=found.max_cost,
        allowed_secrets=tuple(found.allow_secret),
    )
