"""Outside names: what a function or class reads from outside itself, where, and what it is there.

What is read comes from the compiler (see `flash_nb.cells.definitions`): the code is compiled without its
annotations, which no run needs, and the instructions say the name and the line.

A name that exists nowhere is refused only if no call could do without it: its read stands on *every* way
through the function to its end (`Reads.sure`). Whatever may not run (branches, loops, bodies of ``try``,
nested functions) is only noted, because plain Python would run it too. So would it run code that binds
names behind the compiler's back, through ``globals()``, ``exec`` and the like (`_DOORS`): there, nothing
is refused. Taken on trust: of the context managers, only those that are known to swallow exceptions do.
"""

from __future__ import annotations

import ast
import builtins
import dis
import sys
import types
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from flash_nb.cells.definitions import Definition
from flash_nb.cells.plan import PROVIDED_NAMES
from flash_nb.errors import ScopeError, UndefinedNameError, did_you_mean
from flash_nb.worker.codec import MAIN

Kind = Literal["module", "definition", "value", "missing"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_HARMLESS_DECORATORS = frozenset({"staticmethod", "classmethod", "property"})
_SWALLOWS = frozenset(
    {"suppress", "raises", "assertRaises", "assertRaisesRegex", "ExitStack", "AsyncExitStack"}
)
# Code that mentions these can bind names that its text does not show.
_DOORS = frozenset(
    {"globals", "locals", "vars", "exec", "eval", "setattr", "get_ipython", "install"}
    | {"modules", "f_globals", "__globals__", "__builtins__", "__main__", "builtins"}
)
_ALIASES = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot"}
_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "DELETE_GLOBAL"})


@dataclass(frozen=True, slots=True)
class Outside:
    """A name that code reads from outside.

    Attributes:
        line: Where it is first read, as its cell or file counts.
        kind: What it is there.
        text: The same for people: "a module imported outside".
        fix: How to do without it.
    """

    name: str
    line: int
    kind: Kind
    text: str
    fix: str

    def __str__(self) -> str:
        return f"line {self.line}: reads {self.name}, {self.text}: {self.fix}"


@dataclass(frozen=True, slots=True)
class Reads:
    """What the text of a definition says about outside names.

    Attributes:
        lines: The line of the first read of each name, in source order.
        guarded: Names that are first read where an exception may be caught.
        binds: Globals that it binds itself, once it runs.
        opaque: It can bind names that its text does not show.
        locals: All its other names, for "did you mean".
    """

    lines: Mapping[str, int]
    guarded: frozenset[str]
    binds: frozenset[str]
    opaque: bool
    locals: frozenset[str]


@lru_cache(maxsize=256)
def reads_of(definition: Definition) -> Reads:
    """Find the outside names that a definition reads, annotations left out."""
    tree, code = _compiled(definition)
    wanted = (definition.eager | definition.lazy) - {definition.name}
    lines: dict[str, int] = {}
    binds: set[str] = set()
    mentioned: set[str] = set()
    for part in _nested(code):
        bound: set[str] = set()
        for name, opname, line in _instructions(part):
            if opname == "STORE_GLOBAL" or (opname == "STORE_NAME" and part is code):
                binds.add(name)
            if opname == "STORE_NAME":
                bound.add(name)
            elif opname in _READS and name in wanted and name not in bound:
                lines[name] = min(line, lines.get(name, line))
        mentioned.update(part.co_names)
    guarded = [range(body[0].lineno, (body[-1].end_lineno or 0) + 1) for body in _guarded_bodies(tree)]
    return Reads(
        lines=dict(sorted(lines.items(), key=lambda pair: (pair[1], pair[0]))),
        guarded=frozenset(n for n, line in lines.items() if any(line in span for span in guarded)),
        binds=frozenset(binds),
        opaque=not _DOORS.isdisjoint(mentioned) or _has_star_import(tree),
        locals=frozenset(_names(tree)),
    )


@lru_cache(maxsize=256)
def sure_reads(definition: Definition, path: tuple[str, ...]) -> Mapping[str, int]:
    """Return the outside names, with their lines, without which no call of a function can end.

    Args:
        definition: What holds the function.
        path: Its qualified name, e.g. ``("Model", "predict")``.
    """
    tree, code = _compiled(definition)
    node: Any = tree
    for name in path:
        found = [child for child in node.body if isinstance(child, _DEFINITIONS) and child.name == name]
        if not found or any(_last_name(d) not in _HARMLESS_DECORATORS for d in found[-1].decorator_list):
            return {}  # inherited, bound in some other way, or perhaps never called by its decorator
        node = found[-1]
    if not isinstance(node, _FUNCTIONS):
        return {}
    first_lines = {node.lineno, *(decorator.lineno for decorator in node.decorator_list)}
    for part in _nested(code):
        if part.co_name == node.name and part.co_firstlineno in first_lines:
            if part.co_flags & _GENERATOR:  # calling it runs nothing
                return {}
            its_globals = {name for name, opname, _ in _instructions(part) if opname == "LOAD_GLOBAL"}
            sure = _Sure()
            sure.body(node.body)
            return {name: line for name, line in sure.lines.items() if name in its_globals}
    return {}


def outside_names(
    definition: Definition, namespace: Mapping[str, Any], *, closure: Collection[str] = ()
) -> tuple[Outside, ...]:
    """Return what a definition reads from outside, in source order.

    Args:
        definition: The code.
        namespace: What it sees outside.
        closure: Those names of it that belong to a function around.
    """
    reads = reads_of(definition)
    found = []
    for name, line in reads.lines.items():
        if name in namespace:
            kind, text, fix = _explain(name, namespace, is_global=name not in closure)
        elif name in PROVIDED_NAMES or name in reads.binds or name in reads.guarded or reads.opaque:
            continue
        else:
            meant = _meant(name, reads, namespace).removeprefix("; ")
            kind, text, fix = "missing", "which is not defined", meant or _bring(name)
        found.append(Outside(name, line, kind, text, fix))
    return tuple(found)


def refuse_outside(label: str, place: str, outside: Sequence[Outside]) -> None:
    """Refuse code that reads anything from outside: what ``strict=True`` asks for.

    Raises:
        ScopeError: It does; one line for each name.
    """
    if outside:
        listed = "".join(f"\n  {name}" for name in outside)
        raise ScopeError(
            f"{label} reads names from outside ({place}), and strict=True does not allow it:{listed}",
            hint="Without strict=True, what can be sent safely is sent along.",
        )


def missing_names(
    definition: Definition,
    paths: Iterable[tuple[str, ...]],
    absent: Collection[str],
    carried: Iterable[Definition],
) -> Mapping[str, int]:
    """Return those of the absent names that surely make a call fail, with their lines.

    Args:
        definition: The code that is called.
        paths: The qualified names of the functions that will run.
        absent: Names that the code or its helpers read, and that do not exist here.
        carried: What is executed with it, itself included: it may bind names.
    """
    possible = _unbound(absent, carried)
    found: dict[str, int] = {}
    for path in paths if possible else ():
        for name, line in sure_reads(definition, path).items():
            if name in possible:
                found[name] = min(line, found.get(name, line))
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def doubts(
    carried: Sequence[Definition], absent: Collection[str], namespace: Mapping[str, Any]
) -> Iterator[str]:
    """Say which absent names may be read, for whoever looks for the reason of a failure."""
    possible = _unbound(absent, carried)
    for definition in carried if possible else ():
        reads = reads_of(definition)
        for name, line in reads.lines.items():
            if name in possible and name not in reads.guarded:
                meant = _meant(name, reads, namespace)
                yield f"{definition.name} reads {name} (line {line}), which is not defined{meant}"


def _unbound(absent: Collection[str], carried: Iterable[Definition]) -> frozenset[str]:
    """Return the absent names that no code binds and that nobody provides."""
    bound: set[str] = set()
    for definition in carried:
        reads = reads_of(definition)
        if reads.opaque:
            return frozenset()
        bound |= reads.binds
    return frozenset(name for name in absent if name not in bound and not _exists_anyway(name))


def refuse_missing(
    label: str, place: str, definition: Definition, missing: Mapping[str, int], namespace: Mapping[str, Any]
) -> None:
    """Refuse a call that cannot end well.

    Raises:
        UndefinedNameError: There are missing names; it names each with its line.
    """
    if not missing:
        return
    reads = reads_of(definition)
    meant = {name: _meant(name, reads, namespace) for name in missing}
    fixes = dict.fromkeys(_bring(name) for name in missing)
    listed = [f"line {line}: {name}{meant[name]}" for name, line in missing.items()]
    what = f" reads a name that is not defined ({place}, {listed[0]})."
    if len(listed) > 1:
        what = f" reads names that are not defined ({place}):" + "".join(f"\n  {each}" for each in listed)
    raise UndefinedNameError(label + what, hint=f"{_sentence('; '.join(fixes))} Nothing was sent.")


# --- what a name is ------------------------------------------------------------------------------


def _explain(name: str, namespace: Mapping[str, Any], *, is_global: bool) -> tuple[Kind, str, str]:
    value = namespace[name]
    if isinstance(value, types.ModuleType):
        return "module", "a module imported outside", f"import it inside: {_import(name, value.__name__)}"
    if getattr(type(value), "__flash_remote__", False):
        return "definition", "a remote function", "call it outside and pass its result as an argument"
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        origin = getattr(value, "__module__", None) or ""
        if origin in (MAIN, namespace.get("__name__", MAIN)):
            if isinstance(value, type):
                return "definition", "a class defined outside", "define it inside"
            fix = "define it inside or pass its result as an argument"
            return "definition", "a function defined outside", fix
        known_as = getattr(value, "__name__", "")
        if getattr(sys.modules.get(origin), known_as, None) is value:
            renamed = "" if known_as == name else f" as {name}"
            fix = f"import it inside: from {origin} import {known_as}{renamed}"
            return "module", f"imported outside from {origin}", fix
    text = "a global value" if is_global else "a value of the function around"
    return "value", text, "pass it as an argument"


def _import(name: str, module: str) -> str:
    return f"import {module}" if module == name else f"import {module} as {name}"


def _bring(name: str) -> str:
    module = _ALIASES.get(name, name)
    if module in sys.stdlib_module_names or module in sys.modules or module != name:
        return f"import it inside: {_import(name, module)}"
    return "define it, or pass it as an argument"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _meant(name: str, reads: Reads, namespace: Mapping[str, Any]) -> str:
    public = (key for key in namespace if not key.startswith("_"))
    return did_you_mean(name, {*public, *reads.locals, *dir(builtins)} - {name})


def _exists_anyway(name: str) -> bool:
    """True for names that workers provide, and for what somebody made a builtin of this process."""
    return name in PROVIDED_NAMES or hasattr(builtins, name)


# --- the compiled code ---------------------------------------------------------------------------

_GENERATOR = 0x20 | 0x200  # inspect.CO_GENERATOR, CO_ASYNC_GENERATOR


def _compiled(definition: Definition) -> tuple[ast.Module, types.CodeType]:
    """Return the tree and the code of a definition without annotations, with the lines of its cell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler has said it when the cell ran
        tree = ast.parse(definition.source)
        ast.increment_lineno(tree, definition.first_line - 1)
        _WithoutAnnotations().visit(tree)
        flags = definition.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(tree, "<definition>", "exec", flags=flags, dont_inherit=True, optimize=0)
    return tree, code


class _WithoutAnnotations(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: Any) -> Any:
        node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's name

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.copy_location(ast.Constant(None), node.annotation)
        return self.generic_visit(node)


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _nested(const)


def _instructions(code: types.CodeType) -> Iterator[tuple[str, str, int]]:
    """Return the name, the operation and the line of each instruction that is about a name."""
    lines = {start: line for start, _, line in code.co_lines() if line is not None}
    line = code.co_firstlineno
    for instruction in dis.get_instructions(code):
        line = lines.get(instruction.offset, line)
        if isinstance(instruction.argval, str):
            yield instruction.argval, instruction.opname, line


# --- the text ------------------------------------------------------------------------------------


def _guarded_bodies(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) or type(node).__name__ == "TryStar":
            if node.handlers:  # type: ignore[attr-defined]
                yield node.body  # type: ignore[attr-defined]
        elif isinstance(node, (ast.With, ast.AsyncWith)) and not _runs_to_its_end(node):
            yield node.body


def _runs_to_its_end(node: ast.With | ast.AsyncWith) -> bool:
    return all(_last_name(item.context_expr) not in _SWALLOWS for item in node.items)


def _last_name(node: ast.expr) -> str | None:
    while isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _has_star_import(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
        for node in ast.walk(tree)
    )


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, _DEFINITIONS):
            yield node.name


class _Sure:
    """Walks what surely runs in a function; `lines` holds the first read of each name."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}

    def body(self, statements: Iterable[ast.stmt]) -> bool:
        """Walk statements; False if what follows them may not run."""
        return all(self._statement(statement) for statement in statements)

    def _statement(self, node: Any) -> bool:
        match node:
            case ast.If() | ast.While():
                self._expressions(node.test)
            case ast.For() | ast.AsyncFor():
                self._expressions(node.iter)
            case ast.Match():
                self._expressions(node.subject)
            case ast.With() | ast.AsyncWith():
                self._expressions(*(item.context_expr for item in node.items[:1]))
                if _runs_to_its_end(node):
                    self._expressions(*(item.context_expr for item in node.items[1:]))
                    return self.body(node.body)
            case ast.Try() if not node.handlers and not _leaves(node.finalbody):
                ends = self.body(node.body)
                return self.body(node.finalbody) and ends
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._expressions(*node.decorator_list, *node.args.defaults, *node.args.kw_defaults)
                return True
            case ast.ClassDef():
                self._expressions(*node.decorator_list, *node.bases, *(word.value for word in node.keywords))
                return True
            case ast.Assert():
                self._expressions(node.test)
            case ast.Return() | ast.Raise():
                self._expressions(*ast.iter_child_nodes(node))
                return False
            case ast.Expr() | ast.Assign() | ast.AugAssign() | ast.AnnAssign() | ast.Delete():
                self._expressions(*ast.iter_child_nodes(node))
        return not _leaves([node])

    def _expressions(self, *nodes: ast.AST | None) -> None:
        for node in nodes:
            if node is not None:
                self._expression(node)

    def _expression(self, node: Any) -> None:
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                self.lines.setdefault(name, node.lineno)
            case ast.BoolOp():
                self._expression(node.values[0])
            case ast.IfExp():
                self._expression(node.test)
            case ast.Compare():
                self._expressions(node.left, node.comparators[0])
            case ast.Lambda():
                self._expressions(*node.args.defaults, *node.args.kw_defaults)
            case _ if isinstance(node, _COMPREHENSIONS):
                self._expression(node.generators[0].iter)
            case _:
                self._expressions(*ast.iter_child_nodes(node))


def _leaves(statements: Iterable[ast.stmt]) -> bool:
    """True if the function may end in these statements (loops among them keep their jumps inside)."""
    todo: list[ast.AST] = list(statements)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Return):
            return True
        if not isinstance(node, (*_DEFINITIONS, ast.Lambda)):
            todo += ast.iter_child_nodes(node)
    return False
