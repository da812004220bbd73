"""A value: what a name of a project stands for, as far as the text says it.

Numbers, texts, lists, dicts, enum members and so on are themselves. Everything else that matters to a scan
is one of the classes here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from flash_nb.project.declared import Place, Trouble
from flash_nb.resources.declared import Declared
from flash_nb.resources.serverless import ServerlessResource

PACKAGES = ("flash_nb", "runpod_flash")
"""The packages whose `remote` and resources are ours: our own, and the official one's name."""

MAX_TEXT = 80


class Absent(Enum):
    """What an attribute is that there is not: None may be one."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


@dataclass(frozen=True, eq=False)
class Unknown:
    """What only running the code tells.

    Attributes:
        place: Of the expression.
        node: The expression, if the whole of it is unknown.
        why: Follows the expression in a sentence: "is known only when it runs".
        fix: What to do about it.
        is_remote: Whether it may be `remote`, so that what it decorates must not be passed over.
    """

    place: Place
    node: ast.AST | None = None
    why: str = "is known only when the code runs"
    fix: str = "Write the value itself, or a name that is set to one: nothing is run to build a project."
    is_remote: bool = False

    def __str__(self) -> str:
        return f"{shown(self.node)} {self.why}" if self.node else self.why


@dataclass(frozen=True, eq=False)
class Broken:
    """What cannot be had, with what there is to say about it.

    Attributes:
        troubles: Why.
        is_refused: Whether Python would stop there, used or not.
    """

    troubles: tuple[Trouble, ...]
    is_refused: bool = False


@dataclass(frozen=True)
class Variable:
    """A variable of the environment, by its name: ``os.environ["HF_TOKEN"]``.

    Attributes:
        name: Its name.
        place: Where it is read.
        default: What it is where it is not set; None if it has to be.
    """

    name: str
    place: Place
    default: str | None = None


@dataclass(frozen=True)
class Package:
    """A package of ours, a module of it, or a name in it that is neither `remote` nor a resource."""

    path: str


@dataclass(frozen=True)
class External:
    """A module that is no file of the project, or something in it: ``fastapi.FastAPI``."""

    path: str


@dataclass(frozen=True, eq=False)
class Declaration:
    """A resource, template or volume, as an expression of the project makes it.

    Attributes:
        value: What it is.
        place: Of the call that makes it.
        env_from: Variables that are taken from whoever deploys; see `flash_nb.project.declared.Group`.
        variable: The first name that it is bound to; empty if there is none yet.
    """

    value: Declared
    place: Place
    env_from: Mapping[str, str] = field(default_factory=dict)
    variable: str = ""


@dataclass(frozen=True, eq=False)
class Argument:
    """An argument of a call.

    Attributes:
        value: What it is.
        place: Where it stands.
    """

    value: object
    place: Place


@dataclass(frozen=True, eq=False)
class Remote:
    """`remote` itself, or with some arguments by `functools.partial`."""

    positional: tuple[Argument, ...] = ()
    keywords: Mapping[str, Argument] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Decorator:
    """What a call of `remote` gives, with its arguments."""

    positional: tuple[Argument, ...]
    keywords: Mapping[str, Argument]
    place: Place


@dataclass(eq=False)
class Definition:
    """A function or class of the project.

    Attributes:
        node: Its definition.
        module: Dotted.
        place: Of its ``def`` or ``class``.
        attributes: What the body of a class binds.
        bases: Of a class, as far as they are classes of the project.
    """

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    module: str
    place: Place
    attributes: Mapping[str, object] = field(default_factory=dict)
    bases: tuple[Definition, ...] = ()

    @property
    def name(self) -> str:
        """Its name."""
        return self.node.name

    def attribute(self, name: str) -> object:
        """Return what a class or its bases bind; `ABSENT` if they do not."""
        if name in self.attributes:
            return self.attributes[name]
        return next((found for base in self.bases if (found := base.attribute(name)) is not ABSENT), ABSENT)


@dataclass(eq=False)
class Application:
    """A FastAPI application.

    Attributes:
        place: Of the call that makes it.
        has_routes: Whether anything is served by it.
    """

    place: Place
    has_routes: bool = False


def unknowns(value: object) -> Iterator[Unknown | Broken]:
    """Give what is not known in a value: itself, or inside lists and dicts."""
    if isinstance(value, Unknown | Broken):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from unknowns(key)
            yield from unknowns(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from unknowns(item)


def is_resource(value: object) -> bool:
    """Say if a value is a resource that `remote` takes."""
    return isinstance(value, Declaration) and isinstance(value.value, ServerlessResource)


def is_plain(value: object) -> bool:
    """Say if a value is a constant: nothing of the classes here is in it."""
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(is_plain, value))
    return value is None or isinstance(value, str | int | float | complex | bytes | Enum)


def same(one: Any, other: Any) -> bool:
    """Say if two values are surely the same."""
    if one is other:
        return True
    if isinstance(one, Declaration) and isinstance(other, Declaration):
        return one.value == other.value and one.env_from == other.env_from
    if isinstance(one, Variable | Package | External):
        return bool(one == other)
    if not is_plain(one) or not is_plain(other):
        return False
    return type(one) is type(other) and bool(one == other)


def shown(node: ast.AST) -> str:
    """Return the text of an expression, cut if it is long."""
    try:
        text = " ".join(ast.unparse(node).split())
    except (RecursionError, ValueError):
        text = "it"
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def brief(value: object) -> str:
    """Return the repr of a constant, cut if it is long."""
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python writes
        return "…"
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
