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
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class Pending:
    """A value that is to come; using it waits for it.

    Args:
        name: The name that it is bound to.
        come: Waits for the value of a name and returns it, or raises what its job failed with.
        state: Says how the job stands, for people.
    """

    def __init__(self, name: str, come: Callable[[str], Any], state: Callable[[], str]) -> None:
        object.__setattr__(self, "_flash_name", name)
        object.__setattr__(self, "_flash_value", functools.partial(come, name))
        object.__setattr__(self, "_flash_state", state)

    def __repr__(self) -> str:
        return f"<pending {self._flash_name}: {self._flash_state()}>"

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
    """Has cells that read pending names wait for them first; one of IPython's ``ast_transformers``.

    Args:
        namespace: The user's.
    """

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace

    def visit(self, node: ast.AST) -> ast.AST:
        """Put the wait in, if the cell needs one."""
        names = [*_pending_reads(node, self._namespace)] if isinstance(node, ast.Module) else []
        if isinstance(node, ast.Module) and names:
            place = _after_future_imports(node.body)
            node.body.insert(place, _wait(names, node.body[min(place, len(node.body) - 1)]))
        return node


def wait(*names: str) -> None:
    """Wait for pending names; what `WaitBeforeReads` puts into a cell."""
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    shell._flash_magics.notebook.wait_for(names)


def _wait(names: list[str], beside: ast.stmt) -> ast.stmt:
    listed = ", ".join(map(repr, names))
    call = ast.parse(f"__import__({__name__!r}, fromlist=['wait']).wait({listed})").body[0]
    for node in ast.walk(call):
        ast.copy_location(node, beside)
    return call


def _after_future_imports(body: list[ast.stmt]) -> int:
    futures = [
        place
        for place, statement in enumerate(body)
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
    ]
    return futures[-1] + 1 if futures else 0


def _pending_reads(tree: ast.Module, namespace: Mapping[str, Any]) -> Iterator[str]:
    """Yield the pending names that a cell may read when it runs, its functions' own reads included."""
    from flash_nb.cells.plan import plan_cell

    waiting = {name for name, value in namespace.items() if isinstance(value, Pending)}
    found = plan_cell(ast.unparse(tree), frozenset(namespace)) if waiting else None
    if found is None or found.defines_only:
        return
    seen: set[str] = set()
    coming = [*found.inputs]
    while coming:
        name = coming.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in waiting:
            yield name
        elif isinstance(function := namespace.get(name), types.FunctionType):
            coming += function.__code__.co_names
