"""Pending: what stands for a name until the job of its detached cell has bound it.

A cell that reads such a name waits before its first statement, so that it sees the value itself:
`WaitBeforeReads` puts that wait into the cell. What it cannot foresee, a name that is read by a function
of an imported module or by ``eval``, finds a `Pending`, which waits when its value is used: not when it
is printed, completed or inspected.
"""

from __future__ import annotations

import ast
import functools
import operator
import os
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol


class Coming(Protocol):
    """What brings the value of a name: a job."""

    @property
    def state(self) -> str:
        """How it stands, for people."""

    def come(self, name: str) -> Any:
        """Wait for the value of a name and return it, or raise what the job failed with."""


class Pending:
    """A value that is to come; using it waits for it.

    Args:
        name: The name that it is bound to.
        job: What brings it.
    """

    def __init__(self, name: str, job: Coming) -> None:
        object.__setattr__(self, "_flash_name", name)
        object.__setattr__(self, "_flash_job", job)

    def _flash_value(self) -> Any:
        return self._flash_job.come(self._flash_name)

    def __repr__(self) -> str:
        return f"<pending {self._flash_name}: {self._flash_job.state}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("__", "_repr_", "_ipython_", "_flash_")):  # a probe: it must not wait
            raise AttributeError(f"{self!r} has no attribute {name!r}")
        return getattr(self._flash_value(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._flash_value(), name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Be pickled as the value."""
        return self._flash_value().__reduce_ex__(protocol)


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "lshift", "rshift")
_LOGIC = ("and_", "or_", "xor")
_OTHER = ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "invert", "index")
_ITEMS = ("getitem", "setitem", "delitem", "contains")
_BUILTIN = (abs, bool, bytes, complex, float, hash, int, iter, len, next, reversed, round, str)


def _numpy(value: Any, *args: Any, **kwargs: Any) -> Any:
    import numpy as np

    return np.asarray(value, *args, **kwargs)


def _call_method(method: str, value: Any, *args: Any) -> Any:
    return getattr(value, method)(*args)


def _operations() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield special methods, and what each does with the value: they are looked up on the type alone."""
    for word in (*_BINARY, *_LOGIC):
        operate = getattr(operator, word)
        yield word.strip("_"), operate
        yield f"r{word.strip('_')}", lambda value, other, operate=operate: operate(other, value)
    yield from ((word, getattr(operator, word)) for word in (*_OTHER, *_ITEMS))
    yield from ((function.__name__, function) for function in _BUILTIN)
    yield "call", lambda value, *args, **kwargs: value(*args, **kwargs)
    yield "fspath", os.fspath
    yield "array", _numpy
    for word in ("enter", "exit", "aenter", "aexit", "aiter", "anext", "await"):
        yield word, functools.partial(_call_method, f"__{word}__")


def _forward(method: str, operate: Callable[..., Any]) -> Callable[..., Any]:
    def forwarded(self: Pending, *args: Any, **kwargs: Any) -> Any:
        return operate(self._flash_value(), *args, **kwargs)

    forwarded.__name__ = method
    return forwarded


for _word, _operate in _operations():
    setattr(Pending, f"__{_word}__", _forward(f"__{_word}__", _operate))


class WaitBeforeReads(ast.NodeTransformer):
    """Has statements that read pending names wait for them first; one of IPython's ``ast_transformers``.

    Args:
        namespace: The user's.
    """

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace

    def visit(self, node: ast.AST) -> ast.AST:
        """Put waits into a cell, where it needs some."""
        pending = {name for name, value in self._namespace.items() if isinstance(value, Pending)}
        if pending and isinstance(node, ast.Module):
            _Waits(pending, _functions(node), self._namespace).put_into(node)
        return node


def wait(*names: str) -> None:
    """Wait for pending names; what `WaitBeforeReads` puts into a cell."""
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    shell._flash_magics.notebook.wait_for(names)


class _Waits:
    """Puts waits before the statements of a cell.

    Args:
        pending: The names to wait for. That one of them has been bound anew by then is seen by `wait`.
        own: What the functions that the cell defines read, by their names.
        namespace: The user's.
    """

    def __init__(
        self, pending: AbstractSet[str], own: Mapping[str, AbstractSet[str]], namespace: Mapping[str, Any]
    ) -> None:
        self._pending = pending
        self._own = own
        self._namespace = namespace

    def put_into(self, block: ast.AST) -> None:
        """Put them into the blocks of a statement, or of a module, that run where they stand."""
        for field, value in ast.iter_fields(block):
            if isinstance(block, _DEFINES) and field == "body":
                continue
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(block, field, [*self._with_waits(value)])
            elif isinstance(value, list):
                for part in value:
                    if isinstance(part, (ast.ExceptHandler, ast.match_case)):
                        self.put_into(part)

    def _with_waits(self, statements: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
        for statement in statements:
            names = sorted(self._pending & self._reads(_loads(statement, into_blocks=False)))
            if names:
                yield _wait(names, statement)
            self.put_into(statement)
            yield statement

    def _reads(self, loaded: AbstractSet[str]) -> set[str]:
        """Return names, and what the functions among them read."""
        seen: set[str] = set()
        coming = [*loaded]
        while coming:
            name = coming.pop()
            if name not in seen:
                seen.add(name)
                function = self._namespace.get(name)
                coming += self._own.get(name, ())
                if isinstance(function, types.FunctionType):
                    coming += function.__code__.co_names
        return seen


_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def _functions(tree: ast.Module) -> Mapping[str, AbstractSet[str]]:
    return {node.name: _loads(node) for node in ast.walk(tree) if isinstance(node, _DEFINES[:2])}


def _loads(node: ast.AST, *, into_blocks: bool = True) -> AbstractSet[str]:
    """Return the names that are read in a node; without the statements below it, if so wished."""
    found: set[str] = set()
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
        found.add(node.id)
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        found.add(node.target.id)
    for child in ast.iter_child_nodes(node):
        if into_blocks or not isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            found |= _loads(child, into_blocks=into_blocks)
    return found


def _wait(names: Sequence[str], before: ast.stmt) -> ast.stmt:
    listed = ", ".join(map(repr, names))
    call = ast.parse(f"__import__({__name__!r}, fromlist=['wait']).wait({listed})").body[0]
    for node in ast.walk(call):
        ast.copy_location(node, before)
    return call
