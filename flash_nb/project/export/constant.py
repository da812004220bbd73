"""Constants: which expressions give the same value wherever they are evaluated. By their syntax alone.

Names count as constant here: whoever carries the expression carries what they are bound to, and that is
judged there. What decides is what is called.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection
from typing import Any

from flash_nb import resources
from flash_nb.cells.syntax import nodes

Resolve = Callable[[str], str]
"""Says what a name is: a dotted name for an import, `PLAIN_CLASS`, `OWN`, or empty for what holds a value."""

PLAIN_CLASS = "<plain class>"
OWN = "<own code>"
FLASH = frozenset({"flash_nb", "runpod_flash"})
"""The packages whose ``remote`` and whose resources are meant."""

_BUILTINS = frozenset(
    {"abs", "all", "any", "bool", "bytearray", "bytes", "chr", "complex", "dict", "divmod", "enumerate"}
    | {"filter", "float", "format", "frozenset", "int", "len", "list", "map", "max", "min", "ord", "pow"}
    | {"range", "repr", "reversed", "round", "set", "slice", "sorted", "str", "sum", "tuple", "zip"}
)
_MODULES = frozenset(
    {"base64", "cmath", "collections", "dataclasses", "decimal", "enum", "fractions", "functools", "hashlib"}
    | {"itertools", "json", "math", "operator", "re", "statistics", "string", "struct", "textwrap", "types"}
    | {"typing", "typing_extensions", "zlib"}
)
_CALLS = frozenset(
    {"datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta", "datetime.timezone"}
    | {"contextvars.ContextVar", "logging.getLogger", "os.environ.get", "os.getenv", "os.path.join"}
    | {"pathlib.Path", "pathlib.PurePath", "pathlib.PurePosixPath", "threading.Lock", "threading.RLock"}
)
_METHODS = frozenset(
    {"as_posix", "bit_length", "capitalize", "casefold", "center", "copy", "count", "decode", "difference"}
    | {"encode", "endswith", "format", "format_map", "get", "hex", "index", "intersection", "items", "join"}
    | {"joinpath", "keys", "ljust", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace"}
    | {"rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase"}
    | {"symmetric_difference", "title", "to_bytes", "translate", "union", "upper", "values", "with_name"}
    | {"with_suffix", "zfill"}
)
_CHANGING = frozenset(
    {"add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert"}
    | {"intersection_update", "move_to_end", "pop", "popitem", "popleft", "push", "put", "remove", "reverse"}
    | {"rotate", "setdefault", "sort", "symmetric_difference_update", "update"}
)
_INERT = (
    *(ast.Constant, ast.Name, ast.Lambda, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
    *(ast.expr_context, ast.arguments),
)
_COMPOSED = (
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Tuple, ast.List, ast.Set, ast.Dict),
    *(ast.Subscript, ast.Slice, ast.Attribute, ast.Starred, ast.JoinedStr, ast.FormattedValue),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension, ast.keyword),
)


def is_constant(node: ast.AST, resolve: Resolve) -> bool:
    """Tell whether an expression is one."""
    if isinstance(node, _INERT):
        return True
    if isinstance(node, ast.Call):
        parts: list[ast.AST] = [*node.args, *node.keywords]
        return _is_pure(node.func, resolve) and all(is_constant(part, resolve) for part in parts)
    if isinstance(node, ast.comprehension) and node.is_async:
        return False
    return isinstance(node, _COMPOSED) and all(is_constant(p, resolve) for p in ast.iter_child_nodes(node))


def _is_pure(function: ast.expr, resolve: Resolve) -> bool:
    name = dotted(function, resolve)
    if name == PLAIN_CLASS or name in _CALLS or is_declared(name):
        return True
    if isinstance(function, ast.Name):
        return (not name and function.id in _BUILTINS) or name.partition(".")[0] in _MODULES
    if name.partition(".")[0] in _MODULES:
        return True
    return (
        isinstance(function, ast.Attribute)
        and not name
        and function.attr in _METHODS
        and is_constant(function.value, resolve)
    )


def dotted(node: ast.expr, resolve: Resolve) -> str:
    """Return what an expression names: ``os.environ.get``; empty if that is not something imported."""
    if isinstance(node, ast.Name):
        return resolve(node.id)
    if isinstance(node, ast.Attribute) and (of := dotted(node.value, resolve)):
        return f"{of}.{node.attr}"
    return ""


def is_declared(name: str) -> bool:
    """Tell whether a dotted name is that of a resource, or of something that resources are made of."""
    package, *path = name.split(".")
    return package in FLASH and any(part in resources.__all__ for part in path[-2:])


Bound = Callable[[str], "tuple[ast.expr, Bound] | None"]
"""Says which expression a name stands for, and what the names of that stand for; None if it is not known."""


def value_of(node: ast.expr, bound: Bound) -> Any:
    """Return the value of an expression of texts, numbers and containers of them.

    Args:
        node: The expression.
        bound: What its names stand for.

    Raises:
        ValueError: It is something else.
    """
    match node:
        case ast.Name(id=name):
            return _value_of_name(name, bound)
        case ast.JoinedStr(values=values):
            return "".join(str(value_of(each, bound)) for each in values)
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return value_of(value, bound)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _sum(value_of(left, bound), value_of(right, bound))
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            values = [value_of(each, bound) for each in parts]
            return values if isinstance(node, ast.List) else tuple(values)
    return ast.literal_eval(node)


def _value_of_name(name: str, bound: Bound) -> Any:
    stands_for = bound(name)
    if stands_for is None:
        raise ValueError(name)
    return value_of(*stands_for)


def _sum(first: Any, second: Any) -> Any:
    if type(first) is not type(second) or not isinstance(first, (str, list, tuple, int, float)):
        raise ValueError(f"{first!r} + {second!r}")
    return first + second


def is_immutable(node: ast.expr, bound: Bound) -> bool:
    """Tell whether a constant is a text, a number, or a tuple of them: fit for a parameter's default."""
    try:
        return _is_hashable(value_of(node, bound))
    except (ValueError, TypeError, RecursionError, MemoryError):
        return False


def _is_hashable(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_hashable, value))
    return value is None or isinstance(value, (bool, int, float, complex, str, bytes))


def changed_names(tree: ast.AST, *, modules: Collection[str] | None = None) -> frozenset[str]:
    """Return the names whose values a piece of code changes in place, as far as its text shows.

    Args:
        tree: The code; functions that it defines count too.
        modules: Names that are imported. If given, what a call may change counts too whose result is
            dropped: ``shuffle(cards)``, ``random.shuffle(cards)`` and ``cards.shuffle()`` change the cards.
    """
    found: set[str] = set()
    for node in nodes(tree):
        match node:
            case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                found |= _root(node)
            case ast.AugAssign(target=target):
                found |= _root(target)
            case ast.Call(func=ast.Attribute(value=value, attr=attribute)) if attribute in _CHANGING:
                found |= _root(value)
            case ast.Expr(value=ast.Call(func=function, args=arguments)) if modules is not None:
                of = _root(function)
                if isinstance(function, ast.Attribute) and not of & set(modules):
                    found |= of
                elif not _shows(function):
                    found |= {each.id for each in arguments if isinstance(each, ast.Name)}
    return frozenset(found)


def _shows(function: ast.expr) -> bool:
    return isinstance(function, ast.Name) and function.id in {"print", "display"}


def _root(node: ast.expr) -> set[str]:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def is_plain_class(node: ast.ClassDef, resolve: Resolve) -> bool:
    """Tell whether making an instance of a class runs no code of the user: dataclass, NamedTuple, Enum."""
    own = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
    if own & {"__init__", "__post_init__", "__new__", "_missing_"}:
        return False
    decorators = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
    if any(dotted(each, resolve) == "dataclasses.dataclass" for each in decorators):
        return True
    bases = {dotted(base, resolve) for base in node.bases}
    return bool(bases) and bases <= _PLAIN_BASES


_PLAIN_BASES = frozenset(
    {"typing.NamedTuple", "typing.TypedDict", "enum.Enum", "enum.IntEnum", "enum.StrEnum", "enum.Flag"}
    | {"enum.IntFlag"}
)
