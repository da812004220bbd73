"""What is sure at a point of a run (`Flow`), and whose a name is (`Scope`); `walk` carries both."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import Literal

Mark = tuple[ast.expr, bool]
"""A read before it is known whether anybody cares: its node, and whether it is guarded."""

Marks = dict[str, Mark]


def merge(into: Marks, marks: Marks) -> None:
    """Add the marks of names that `into` does not have: the first read counts."""
    for name, mark in marks.items():
        into.setdefault(name, mark)


class Flow:
    """What is sure at one point of a run.

    Attributes:
        settled: Names whose value from outside cannot be seen any more: on every way to this point
            the cell has bound or deleted them. Names of class bodies are in it too, see `Scope.key`.
        live: Names of the module that the cell has bound, and not deleted since, on some way here.
        dead: No way leads here.
    """

    __slots__ = ("dead", "live", "settled")

    def __init__(self, settled: set[str], live: set[str], *, dead: bool = False) -> None:
        self.settled = settled
        self.live = live
        self.dead = dead

    def copy(self) -> Flow:
        """Return a flow of its own for a branch."""
        return Flow(self.settled.copy(), self.live.copy(), dead=self.dead)


def join(flows: Sequence[Flow]) -> Flow:
    """Return the flow of a point to which several ways lead. It may be one of them, changed."""
    alive = [flow for flow in flows if not flow.dead]
    if not alive:
        return flows[0]
    joined = alive[0]
    for flow in alive[1:]:
        joined.settled &= flow.settled
        joined.live |= flow.live
    return joined


Jump = tuple[type[ast.stmt], Flow]
"""How a turn of a loop ends early: `ast.Break` or `ast.Continue`, and the flow there."""


class Scope:
    """Whose a name is.

    Attributes:
        kind: Inline scopes are comprehensions and PEP 695 parameter lists. They run in place, and all
            their names are known on entry. Function scopes are everything that runs later.
        outer: The scope where names are looked up that are not found here. The module has none.
        inner: The scope from which functions, classes and comprehensions written here look outwards:
            names of class bodies are hidden from them.
        bound: Names bound here; for functions and classes complete only at the end.
        deleted: Names deleted here. In a class body the module's name may show again.
        declared_global, declared_nonlocal: What the statements of that name say.
        reads: Reads that may be of its own names or not: only its end shows.
        free: Reads of module names that happen when the function, or a method of the class, runs.
        prefix: Class: what tells its names from the module's and from other classes' in flows.
        private: Name of the class around, for ``__names`` that Python mangles.
    """

    __slots__ = (
        "bound",
        "declared_global",
        "declared_nonlocal",
        "deleted",
        "free",
        "inner",
        "kind",
        "outer",
        "prefix",
        "private",
        "reads",
    )

    def __init__(
        self,
        kind: Literal["module", "class", "function", "inline"],
        outer: Scope | None,
        bound: Iterable[str] = (),
        *,
        prefix: str = "",
        private: str = "",
    ) -> None:
        self.kind = kind
        self.outer = outer
        self.prefix = prefix
        self.private: str = private or (outer.private if outer else "")
        self.bound = set(map(self.mangle, bound)) if self.private else set(bound)
        self.declared_global: set[str] = set()
        self.declared_nonlocal: set[str] = set()
        self.reads: Marks = {}
        self.free: Marks = {}
        self.deleted: set[str] = set()
        self.inner = self
        if kind == "class" and outer:
            self.inner = Scope("inline", outer.inner, ("__class__",), private=private)
        elif kind == "inline" and outer and outer.inner is not outer:
            self.inner = Scope("inline", outer.inner, bound, private=self.private)

    def mangle(self, name: str) -> str:
        """Return what Python calls a private name inside a class."""
        if self.private and name.startswith("__") and not name.endswith("__"):
            return f"_{self.private}{name}"
        return name

    def is_global(self, name: str) -> bool:
        """True if the name means the module's here."""
        return self.kind == "module" or name in self.declared_global

    def key(self, name: str) -> str:
        """Return what a name of the module or of a class body is called in flows."""
        return name if self.is_global(name) else self.prefix + name
