"""An evaluation: an expression of a project -> its value, without running anything of the user's.

What is computed is what settings are written with: literals, names, enum members, resources, f-strings, a
little arithmetic. Sizes are bounded, so that no file can make a scan slow. All else is `Unknown`, and says so
where it is used.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from flash_nb import resources
from flash_nb.errors import did_you_mean
from flash_nb.project.declared import Place, Trouble
from flash_nb.project.scan.construction import copied, declared
from flash_nb.project.scan.value import (
    ABSENT,
    PACKAGES,
    Application,
    Argument,
    Broken,
    Declaration,
    Decorator,
    Definition,
    External,
    Package,
    Remote,
    Unknown,
    Variable,
    is_plain,
    shown,
    unknowns,
)
from flash_nb.resources.choice import Choice
from flash_nb.resources.declared import Declared
from flash_nb.resources.gpu import GpuGroup
from flash_nb.resources.serverless import ServerlessScalerType

MAX_ITEMS = 10_000
"""Items in a list or dict, and characters in a text, that an expression may make."""
MAX_BITS = 256
MAX_DEPTH = 50

NAMES: Mapping[str, object] = {
    **{name: getattr(resources, name) for name in resources.__all__},
    "ServerlessScalerType": ServerlessScalerType,
    "remote": Remote(),
}
"""What the names of our packages stand for, wherever in them they are found."""

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitOr: operator.or_,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
}
_BUILTINS: Mapping[str, type] = {
    kind.__name__: kind for kind in (bool, dict, float, frozenset, int, list, set, str, tuple)
}
_WRITTEN: Mapping[int, Callable[[object], str]] = {-1: format, 97: ascii, 114: repr, 115: str}
"""What an f-string does with a value, by `ast.FormattedValue.conversion`."""
_FASTAPI = frozenset({"fastapi.FastAPI", "fastapi.applications.FastAPI"})
_ROUTING = frozenset(
    {
        "add_api_route",
        "add_api_websocket_route",
        "add_route",
        "add_websocket_route",
        "api_route",
        "delete",
        "get",
        "head",
        "host",
        "include_router",
        "mount",
        "options",
        "patch",
        "post",
        "put",
        "route",
        "trace",
        "websocket",
        "websocket_route",
    }
)
_KNOWN_EXTERNALS: Mapping[str, object] = {
    "typing.TYPE_CHECKING": False,
    "typing_extensions.TYPE_CHECKING": False,
}
_READS = frozenset({"os.getenv", "os.environ.get", "os.environ.setdefault"})
_CHANGES = frozenset(
    {
        "append",
        "clear",
        "extend",
        "insert",
        "pop",
        "popitem",
        "remove",
        "reverse",
        "setdefault",
        "sort",
        "update",
    }
)


class Names(Protocol):
    """Where the names of an expression are looked up."""

    file: str
    is_certain: bool
    """Whether what is evaluated surely runs: False inside a branch or a loop."""

    def lookup(self, node: ast.Name) -> object:
        """Return what a name stands for; an `Unknown` that says why, if nothing is known."""
        ...

    def bind(self, name: str, value: object) -> None:
        """Let a name stand for a value."""
        ...

    def attribute_of(self, value: object, name: str) -> object:
        """Return an attribute of a module of the project; `ABSENT` if it is none, or has none."""
        ...

    def decorated(self, decorator: Decorator, definition: Definition) -> None:
        """Take note of a decorated definition."""
        ...

    def trouble(self, trouble: Trouble) -> None:
        """Take note of something that stands against a build."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """Evaluates expressions at one place of a project.

    Args:
        names: What their names stand for.
    """

    names: Names

    def value(self, node: ast.expr) -> object:
        """Return what an expression stands for."""
        try:
            return self._value(node)
        except RecursionError:
            return self._unknown(node, "is nested too deep to be read")

    def place(self, node: ast.AST) -> Place:
        """Return where a node stands."""
        return Place(self.names.file, getattr(node, "lineno", 1))

    def change(self, target: object, change: Callable[[], object] | None, node: ast.AST) -> None:
        """Change a list or dict as a statement does, or forget what is in it where that is unclear."""
        if change is not None and self.names.is_certain:
            change()
            if _size(target) <= MAX_ITEMS:
                return
        poison = Unknown(self.place(node), None, "it is changed there, after its definition")
        if isinstance(target, list):
            target[:] = [poison]
        elif isinstance(target, dict):
            target.clear()
            target[poison] = poison
        elif isinstance(target, set):
            target.add(poison)

    def _value(self, node: ast.expr) -> object:
        kind = _KINDS.get(type(node))
        return kind(self, node) if kind else self._unfollowed(node)

    def _constant(self, node: ast.Constant) -> object:
        return node.value

    def _name(self, node: ast.Name) -> object:
        return self.names.lookup(node)

    def _binary(self, node: ast.BinOp) -> object:
        left, right = self._value(node.left), self._value(node.right)
        return self._computed(node, _BINARY.get(type(node.op)), left, right)

    def _unary(self, node: ast.UnaryOp) -> object:
        return self._computed(node, _UNARY.get(type(node.op)), self._value(node.operand))

    def _choice(self, node: ast.IfExp) -> object:
        test = self._value(node.test)
        if not is_plain(test):
            return self._unknown(node)
        return self._value(node.body if test else node.orelse)

    def _named(self, node: ast.NamedExpr) -> object:
        value = named(self._value(node.value), node.target.id)
        self.names.bind(node.target.id, value)
        return value

    def _unknown(self, node: ast.AST, why: str = "is known only when the code runs") -> Unknown:
        return Unknown(self.place(node), node, why)

    def _unfollowed(self, node: ast.expr) -> Unknown:
        """Return what an expression is that runs code of its own: `remote` in it would not be seen."""
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(self.names.lookup(inner), Remote | Decorator):
                self.names.trouble(unfollowed(self.place(inner), inner))
        return self._unknown(node)

    def _attribute(self, node: ast.Attribute) -> object:
        return self.attribute(self._value(node.value), node.attr, node)

    def attribute(self, base: object, name: str, node: ast.AST) -> object:
        """Return an attribute of a value."""
        found: object
        if isinstance(base, Unknown | Broken):
            found = base
        elif isinstance(base, Package):
            found = package_name(base.path, name)
        elif isinstance(base, External):
            path = f"{base.path}.{name}"
            found = _KNOWN_EXTERNALS.get(path, External(path))
        elif isinstance(base, type) and issubclass(base, Choice):
            found = base.__members__.get(name) or self._refused(
                node, f"{base.__name__} has no member {name!r}{did_you_mean(name, base.__members__)}"
            )
        elif isinstance(base, Choice) and name in ("name", "value"):
            found = getattr(base, name)
        elif isinstance(base, Definition):
            found = base.attribute(name)
        elif isinstance(base, Declaration):
            return self._field(base, name, node)
        else:
            found = self.names.attribute_of(base, name)
        return self._unknown(node) if found is ABSENT else found

    def _field(self, base: Declaration, name: str, node: ast.AST) -> object:
        if name not in type(base.value).model_fields:
            return self._unknown(node)
        if name in ("env", "template") and base.env_from:
            return self._unknown(node, "holds variables of whoever deploys")
        value = getattr(base.value, name)
        if isinstance(value, Declared):
            return Declaration(value, base.place)
        if name == "env":
            return dict(value)
        return list(value) if isinstance(value, tuple) else value

    def _items(self, node: ast.List | ast.Tuple | ast.Set) -> object:
        found: list[object] = []
        for element in node.elts[: MAX_ITEMS + 1]:
            if isinstance(element, ast.Starred):
                more = self._value(element.value)
                found += more if isinstance(more, list | tuple) else [self._unknown(element)]
            else:
                found.append(self._value(element))
        if _size(found) > MAX_ITEMS:
            return self._unknown(node, "is too long to be a setting")
        if isinstance(node, ast.List):
            return found
        try:
            return tuple(found) if isinstance(node, ast.Tuple) else set(found)
        except TypeError:
            return self._unknown(node)

    def _dict(self, node: ast.Dict) -> object:
        found: dict[object, object] = {}
        for key, item in list(zip(node.keys, node.values, strict=True))[: MAX_ITEMS + 1]:
            if key is None:
                more = self._value(item)
                if not isinstance(more, dict):
                    return self._unknown(item)
                found.update(more)
                continue
            name, value = self._value(key), self._value(item)
            try:
                found[name] = value
            except TypeError:
                return self._unknown(node)
        return found if _size(found) <= MAX_ITEMS else self._unknown(node, "is too long to be a setting")

    def _text(self, node: ast.JoinedStr) -> object:
        text = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                text += str(part.value)
                continue
            assert isinstance(part, ast.FormattedValue)
            value = self._value(part.value)
            if not is_plain(value) or part.format_spec is not None or _size(value) > MAX_ITEMS:
                return next(unknowns(value), self._unknown(node))
            written = self._computed_by(node, _WRITTEN[part.conversion], [value], {})
            if not isinstance(written, str):
                return written
            text += written
            if len(text) > MAX_ITEMS:
                return self._unknown(node, "is too long to be a setting")
        return text

    def _computed(self, node: ast.AST, compute: Callable[..., Any] | None, *values: object) -> object:
        for value in values:
            if isinstance(value, Unknown | Broken):
                return value
            if not is_plain(value) and not isinstance(value, list | tuple | dict):
                return self._unknown(node)
        if compute is None or not _stays_small(compute, *values):
            return self._unknown(node)
        try:
            result = compute(*values)
        except Exception as error:  # noqa: BLE001 - whatever Python raises there, it raises for the user too
            return self._refused(node, f"{shown(node)} raises {type(error).__name__}: {error}")
        return result if _size(result) <= MAX_ITEMS else self._unknown(node, "is too long to be a setting")

    def _bool(self, node: ast.BoolOp) -> object:
        is_or = isinstance(node.op, ast.Or)
        value: object = None
        for index, operand in enumerate(node.values):
            value = self._value(operand)
            last = index == len(node.values) - 1
            if isinstance(value, Variable) and is_or and not last:
                default = self._value(node.values[index + 1])
                return replace(value, default=default) if isinstance(default, str) else self._unknown(node)
            if last:
                return value
            if not is_plain(value):
                # `unknown and False` is False, whatever is unknown.
                rest = [self._value(other) for other in node.values[index + 1 :]]
                if any(is_plain(other) and bool(other) is is_or for other in rest):
                    return is_or
                return next(unknowns(value), self._unknown(node))
            if bool(value) is is_or:
                return value
        return value

    def _compare(self, node: ast.Compare) -> object:
        left = self._value(node.left)
        result: object = True
        for sign, operand in zip(node.ops, node.comparators, strict=True):
            right = self._value(operand)
            result = self._computed(node, _COMPARE[type(sign)], left, right)
            if not is_plain(result) or not result:
                return result
            left = right
        return result

    def _item(self, node: ast.Subscript) -> object:
        base, key = self._value(node.value), self._value(node.slice)
        if isinstance(base, Unknown | Broken):
            return base
        if base == External("os.environ") and isinstance(key, str):
            return Variable(key, self.place(node))
        if isinstance(base, type) and issubclass(base, Choice) and isinstance(key, str):
            return self.attribute(base, key, node)
        if isinstance(base, list | tuple | dict | str) and is_plain(key):
            return self._taken(base, key, node)
        return self._unknown(node)

    def _taken(self, base: Any, key: object, node: ast.Subscript) -> object:
        try:
            return base[key]
        except (KeyError, IndexError, TypeError) as error:
            if (unknown := next(unknowns(base), None)) is not None:
                return unknown
            return self._refused(node, f"{shown(node)} raises {type(error).__name__}: {error}")

    def _call(self, node: ast.Call) -> object:
        function, target = self._function(node)
        positional = [Argument(self._value(each), self.place(each)) for each in node.args]
        keywords = dict(self._keywords(node))
        values = [each.value for each in positional]
        if isinstance(function, Remote):
            return Decorator(
                (*function.positional, *positional), {**function.keywords, **keywords}, self.place(node)
            )
        if isinstance(function, Decorator):
            return self._applied(function, values, node)
        if function == External("functools.partial") and values and isinstance(values[0], Remote):
            first = values[0]
            return Remote((*first.positional, *positional[1:]), {**first.keywords, **keywords})
        if isinstance(function, Unknown) and function.is_remote:
            return function
        for each in [*positional, *keywords.values()]:
            if isinstance(each.value, Remote | Decorator):
                self.names.trouble(unfollowed(each.place, node))
            elif isinstance(each.value, Application):
                each.value.has_routes = True  # ``add_routes(app)``: whoever takes it most likely does
        return self._called(function, target, positional, keywords, node)

    def _called(
        self,
        function: object,
        target: object,
        positional: list[Argument],
        keywords: Mapping[str, Argument],
        node: ast.Call,
    ) -> object:
        """Return what a call gives that has nothing to do with `remote`."""
        values = [each.value for each in positional]
        if isinstance(function, type):
            return self._made(function, positional, keywords, node)
        if isinstance(function, External):
            return self._external(function, values, keywords, node)
        if target is not None and isinstance(node.func, ast.Attribute):
            return self._method(target, node.func.attr, values, keywords, node)
        if isinstance(node.func, ast.Name) and isinstance(function, Unknown):
            kind = _BUILTINS.get(node.func.id)
            return function if kind is None else self._builtin(kind, values, keywords, node)
        return self._unknown(node)

    def _made(
        self, kind: type, positional: list[Argument], keywords: Mapping[str, Argument], node: ast.Call
    ) -> object:
        """Return what calling a class of ours gives."""
        if issubclass(kind, Declared):
            return self._told(declared(kind, positional, keywords, self.place(node)))
        values = [each.value for each in positional]
        if len(values) != 1 or not is_plain(values[0]):
            return next(unknowns(values), self._unknown(node))
        return self._computed(node, kind, values[0])

    def _told(self, made: Declaration | Broken) -> Declaration | Broken:
        """Report what a resource's own validation has said: Python would stop there."""
        if isinstance(made, Broken) and made.is_refused:
            for trouble in made.troubles:
                self.names.trouble(trouble)
        return made

    def _function(self, node: ast.Call) -> tuple[object, object]:
        """Return what is called, and the value that it is an attribute of."""
        if not isinstance(node.func, ast.Attribute):
            return self._value(node.func), None
        target = self._value(node.func.value)
        if isinstance(target, Application | list | dict | set | str | Declaration):
            return None, target
        if target is GpuGroup and node.func.attr == "all":
            return None, target
        return self.attribute(target, node.func.attr, node.func), target

    def _keywords(self, node: ast.Call) -> Iterator[tuple[str, Argument]]:
        for keyword in node.keywords:
            value, place = self._value(keyword.value), self.place(keyword.value)
            if keyword.arg is not None:
                yield keyword.arg, Argument(value, place)
            elif isinstance(value, dict) and all(isinstance(name, str) for name in value):
                yield from ((str(name), Argument(item, place)) for name, item in value.items())
            else:
                yield "**", Argument(next(unknowns(value), self._unknown(keyword.value)), place)

    def _applied(self, decorator: Decorator, values: list[object], node: ast.Call) -> object:
        """Decorate by a call: ``f = remote(gpu)(g)``."""
        if len(values) == 1 and isinstance(values[0], Definition):
            self.names.decorated(decorator, values[0])
            return values[0]
        self.names.trouble(unfollowed(self.place(node), node))
        return self._unknown(node)

    def _external(
        self, function: External, values: list[object], keywords: Mapping[str, Argument], node: ast.Call
    ) -> object:
        if function.path in _FASTAPI:
            return Application(self.place(node))
        if function.path in _READS and values and isinstance(values[0], str):
            default = values[1] if len(values) > 1 else keywords["default"].value if keywords else None
            if default is None or isinstance(default, str):
                return Variable(values[0], self.place(node), default)
        return self._unknown(node)

    def _builtin(
        self, kind: type, values: list[object], keywords: Mapping[str, Argument], node: ast.Call
    ) -> object:
        """Return what a call of a builtin type gives."""
        given = {name: each.value for name, each in keywords.items()}
        for value in [*values, *given.values()]:
            is_odd = not is_plain(value) and kind in (int, float, bool, str)
            if is_odd or isinstance(value, Unknown | Broken):
                return next(unknowns(value), self._unknown(node))
        is_odd = "**" in given or (kind is not dict and (bool(given) or len(values) > 1))
        if is_odd or _size([values, given]) > MAX_ITEMS:
            return self._unknown(node)
        return self._computed_by(node, kind, values, given)

    def _computed_by(
        self, node: ast.AST, kind: Callable[..., Any], values: list[object], given: dict[str, object]
    ) -> object:
        try:
            return kind(*values, **given)
        except Exception as error:  # noqa: BLE001 - whatever Python raises there, it raises for the user too
            return self._refused(node, f"{shown(node)} raises {type(error).__name__}: {error}")

    def _method(
        self,
        target: object,
        name: str,
        values: list[object],
        keywords: Mapping[str, Argument],
        node: ast.Call,
    ) -> object:
        if isinstance(target, Application) and name in _ROUTING:
            target.has_routes = True
        elif isinstance(target, Declaration) and name == "model_copy":
            made = copied(target, values, keywords, self.place(node))
            return self._unknown(node) if made is None else self._told(made)
        elif target is GpuGroup and name == "all":
            return list(GpuGroup.all())
        elif isinstance(target, dict) and name == "get" and is_plain(values) and values:
            return self._computed(node, lambda found: found.get(*values), target)
        elif isinstance(target, list | dict | set) and name in _CHANGES:
            self._changed_by(target, values, keywords, node)
            return None
        return self._unknown(node)

    def _changed_by(
        self, target: Any, values: list[object], keywords: Mapping[str, Argument], node: ast.Call
    ) -> None:
        assert isinstance(node.func, ast.Attribute)
        method = node.func.attr
        given = {key: each.value for key, each in keywords.items()}
        simple = method in {"append", "extend", "update", "insert"} and "**" not in given
        if not simple or any(contains(value, target) for value in [*values, *given.values()]):
            return self.change(target, None, node)

        def change() -> None:
            try:
                getattr(target, method)(*values, **given)
            except (AttributeError, TypeError, ValueError):
                self.change(target, None, node)

        return self.change(target, change, node)

    def _refused(self, node: ast.AST, message: str) -> Broken:
        return Broken((Trouble(self.place(node), message, "Correct it: Python refuses it too."),))


def named(value: object, name: str) -> object:
    """Return a value as it is once a name is bound to it: the first name is a resource's variable."""
    if isinstance(value, Declaration) and not value.variable:
        return replace(value, variable=name)
    return value


def package_name(path: str, name: str) -> object:
    """Return what a name of one of our packages stands for."""
    if name == "flash_nb" or name not in NAMES:
        return Package(f"{path}.{name}")
    return NAMES[name]


def is_ours(module: str) -> bool:
    """Say if a module belongs to one of our packages."""
    return module.partition(".")[0] in PACKAGES


def unfollowed(place: Place, node: ast.AST) -> Trouble:
    """Return what to say of a use of `remote` that cannot be followed."""
    return Trouble(
        place,
        f"what {shown(node)} decorates is known only when the code runs",
        "Write @remote(…) above a function or class at the top level of a module.",
    )


def contains(value: object, target: object) -> bool:
    """Say if a value is a list or dict, or has it somewhere inside."""
    if value is target:
        return True
    if isinstance(value, dict):
        return any(contains(item, target) for item in value.values())
    return isinstance(value, list | tuple) and any(contains(item, target) for item in value)


def _stays_small(compute: Callable[..., Any], *values: object) -> bool:
    """Say if a result cannot be much larger than what a setting is."""
    for value in values:
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            return False
        if isinstance(value, str | bytes) and len(value) > MAX_ITEMS:
            return False
    if compute is operator.mod:
        return not isinstance(values[0], str | bytes)  # a format may ask for any width
    if compute is operator.mul:
        one, other = values
        for many, times in ((one, other), (other, one)):
            if isinstance(many, str | bytes | list | tuple) and isinstance(times, int):
                return len(many) * times <= MAX_ITEMS
    return True


def _size(value: object) -> int:
    """Return about how many items and characters are in a value, counted no further than needed.

    What is nested too deep counts as too large.
    """
    total = 0
    waiting = [(value, 0)]
    while waiting and total <= MAX_ITEMS:
        each, depth = waiting.pop()
        total += 1
        if depth > MAX_DEPTH:
            return MAX_ITEMS + 1
        if isinstance(each, dict):
            waiting += [(item, depth + 1) for item in list(each.values())[: MAX_ITEMS + 1]]
        elif isinstance(each, list | tuple | set | frozenset):
            waiting += [(item, depth + 1) for item in list(each)[: MAX_ITEMS + 1]]
        elif isinstance(each, str | bytes):
            total += len(each)
    return total


_KINDS: Mapping[type[ast.expr], Callable[[Evaluation, Any], object]] = {
    ast.Attribute: Evaluation._attribute,
    ast.BinOp: Evaluation._binary,
    ast.BoolOp: Evaluation._bool,
    ast.Call: Evaluation._call,
    ast.Compare: Evaluation._compare,
    ast.Constant: Evaluation._constant,
    ast.Dict: Evaluation._dict,
    ast.IfExp: Evaluation._choice,
    ast.JoinedStr: Evaluation._text,
    ast.List: Evaluation._items,
    ast.Name: Evaluation._name,
    ast.NamedExpr: Evaluation._named,
    ast.Set: Evaluation._items,
    ast.Subscript: Evaluation._item,
    ast.Tuple: Evaluation._items,
    ast.UnaryOp: Evaluation._unary,
}
