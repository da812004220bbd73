"""Preflight of a cell's text: what its reader can tell without running anything.

Only what is sure to go wrong is an error here. So a call of a coroutine function counts as a
forgotten ``await`` where its result is thrown away or used as if it were there (``f(x).output``,
``f(x) + 1``), not where it is passed on; and only names that the cell binds at most once are judged,
because one that is bound twice may be something else by then.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from flash_nb.cells.finding import Finding, Severity
from flash_nb.cells.imports import imports_of
from flash_nb.cells.plan import CellPlan
from flash_nb.cells.secret import doubt, form_of
from flash_nb.cells.syntax import nodes
from flash_nb.errors import did_you_mean

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
# Modules' functions that only make a coroutine, which then does nothing.
_WELL_KNOWN = frozenset({"asyncio.sleep", "asyncio.to_thread", "asyncio.wait", "asyncio.wait_for"})
_COROUTINES_OWN = re.compile(r"close$|send$|throw$|cr_|__")


@dataclass(frozen=True, slots=True)
class Around:
    """What a cell finds in the notebook.

    Attributes:
        names: All names that exist.
        coroutines: Those whose call gives a coroutine.
        below: Names that do not exist yet, each with what defines it: ``"cell 7"``.
    """

    names: frozenset[str]
    coroutines: frozenset[str] = frozenset()
    below: Mapping[str, str] | None = None


def check_text(
    tree: ast.Module, plan: CellPlan, around: Around, *, allowed: Collection[str] = ()
) -> Iterator[Finding]:
    """Yield what is wrong with the text of a cell, be it remote or not.

    Args:
        tree: It, from `flash_nb.cells.syntax.parse`.
        plan: Its plan.
        around: What it finds in the notebook.
        allowed: Names whose secrets may stand in it.
    """
    yield from undefined_names(plan, around)
    yield from forgotten_awaits(tree, around.coroutines)
    yield from written_secrets(tree, allowed)


def undefined_names(plan: CellPlan, around: Around) -> Iterator[Finding]:
    """Yield the names that the cell reads and that do not exist when it runs."""
    below = around.below or {}
    for read in plan.undefined:
        if read.name in below:
            message = f"{read.name} is only defined in {below[read.name]}, below this one"
            yield Finding("below", read.line, message, "move that cell up")
        else:
            near = did_you_mean(read.name, around.names)
            message = f"{read.name} is not defined{near}"
            yield Finding("undefined", read.line, message, "define it in the notebook or in this cell")


def import_lines(tree: ast.AST) -> Mapping[str, int]:
    """Return the absolute modules that are imported anywhere, each with the line of the first time."""
    lines: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        for name in names:
            lines[name] = min(node.lineno, lines.get(name, node.lineno))
    return lines


def guessed_modules(tree: ast.AST) -> frozenset[str]:
    """Return what may be a module that is imported anywhere: ``a.b`` for ``from a import b``."""
    return frozenset(each.module for each in imports_of(tree) if each.is_guess)


_DOORS = frozenset({"exec", "get_ipython", "globals", "locals", "vars"})


def binds_unseen(tree: ast.AST) -> bool:
    """Tell whether a cell can bind names that its text does not show."""
    for node in nodes(tree):
        if isinstance(node, ast.Name) and node.id in _DOORS:
            return True
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return True
    return False


def imported_names(tree: ast.AST) -> Mapping[str, str]:
    """Return the names that absolute imports bind anywhere in a cell, each with its module."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {alias.asname or alias.name: node.module for alias in node.names}
    return found


# --- await ---------------------------------------------------------------------------------------


def coroutine_functions(tree: ast.Module) -> frozenset[str]:
    """Return the names whose call surely gives a coroutine: undecorated ``async def``, no generators."""
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.AsyncFunctionDef) and not node.decorator_list and not _yields(node)
    )


def forgotten_awaits(tree: ast.Module, coroutines: Collection[str]) -> Iterator[Finding]:
    """Yield the calls of coroutine functions whose results are used, or dropped, without ``await``.

    Args:
        tree: A cell.
        coroutines: Names of the notebook whose call gives a coroutine.
    """
    own = coroutine_functions(tree)
    if not own and not coroutines and "asyncio" not in _read_names(tree):
        return
    bound = _bindings(tree)
    known = {name for name in coroutines if not bound[name]} | {name for name in own if bound[name] == 1}
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (label := _makes_coroutine(node, known)):
            misuse = _misuse(node, parents) or _misuse_of_variable(node, parents, tree, bound)
            if misuse:
                yield Finding(
                    "await", node.lineno, f"{label}(…) is not awaited: {misuse}", _how(node, label, parents)
                )


def _makes_coroutine(call: ast.Call, known: Collection[str]) -> str:
    match call.func:
        case ast.Name(id=name) if name in known:
            return name
        case ast.Attribute(value=ast.Name(id=module), attr=name) if f"{module}.{name}" in _WELL_KNOWN:
            return f"{module}.{name}"
    return ""


def _misuse(node: ast.expr, parents: Mapping[ast.AST, ast.AST]) -> str:
    """Say what goes wrong with a coroutine where it stands; empty if nothing does."""
    says = ""
    match parents[node]:
        case ast.Expr():
            says = "it never runs"
        case ast.Attribute(attr=name) if not _COROUTINES_OWN.match(name):
            says = f"a coroutine has no .{name}"
        case ast.Subscript(value=used) | ast.For(iter=used) | ast.comprehension(iter=used, is_async=0):
            says = "a coroutine has no items" if used is node else ""
        case ast.BinOp() | ast.UnaryOp() | ast.AugAssign():
            says = "a coroutine is not its result"
        case ast.Compare(ops=ops) if not any(isinstance(op, (ast.Is, ast.IsNot)) for op in ops):
            says = "a coroutine is not its result"
        case ast.If(test=used) | ast.While(test=used) | ast.IfExp(test=used) if used is node:
            says = "a coroutine is always true"
        case ast.FormattedValue():
            says = "the text would show the coroutine"
    return says


def _misuse_of_variable(
    call: ast.Call, parents: Mapping[ast.AST, ast.AST], tree: ast.Module, bound: Counter[str]
) -> str:
    """Say what goes wrong with ``x = f()`` if every use of ``x`` in the cell goes wrong."""
    match parents[call]:
        case ast.Assign(targets=[ast.Name(id=name)]) if bound[name] == 1:
            uses = [
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
            ]
            wrong = [_misuse(node, parents) for node in uses if not isinstance(parents[node], ast.Expr)]
            return wrong[0] if wrong and all(wrong) else ""
    return ""


def _how(node: ast.AST, label: str, parents: Mapping[ast.AST, ast.AST]) -> str:
    around = parents.get(node)
    while around is not None and not isinstance(around, _FUNCTIONS):
        around = parents.get(around)
    if isinstance(around, ast.FunctionDef):
        return f"write await {label}(…), in async def {around.name}"
    return f"write await {label}(…)"


def _read_names(tree: ast.AST) -> frozenset[str]:
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def _bindings(tree: ast.AST) -> Counter[str]:
    """Count how often each name is bound in a cell, whatever the scope."""
    bound: Counter[str] = Counter()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                bound[name] += 1
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound[name] += 1
            case ast.alias(name=name, asname=other):
                bound[other or name.partition(".")[0]] += 1
            case (
                ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
                | ast.ExceptHandler(name=str(name))
            ):
                bound[name] += 1
            case ast.MatchMapping(rest=str(name)):
                bound[name] += 1
    return bound


def _yields(function: ast.AsyncFunctionDef) -> bool:
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            todo += ast.iter_child_nodes(node)
    return False


# --- secrets -------------------------------------------------------------------------------------

ENV_FIX = "give it to the resource, env={…}, and read it from os.environ"


def allow_fix(name: str) -> str:
    """Return the way out for a secret that goes by a name."""
    return f"{ENV_FIX}; or --allow-secret {name}"


def written_secrets(tree: ast.AST, allowed: Collection[str]) -> Iterator[Finding]:
    """Yield the texts of a cell that have the form of a key.

    One that goes by a name (a variable, a keyword, a key of a dict) is an error unless that name is
    allowed. Else it is a warning: there would be no name to allow.
    """
    forms = {
        node: form
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (form := form_of(node.value))
    }
    names = _names_of_texts(tree) if forms else {}
    for node, form in forms.items():
        name = names.get(node, "")
        message = f"{name or 'a text'} looks like {form}, and stands in the notebook"
        if name and name not in allowed:
            yield Finding("secret", node.lineno, message, allow_fix(name))
        elif not name:
            yield Finding("secret", node.lineno, message, ENV_FIX, Severity.WARNING)


def _names_of_texts(tree: ast.AST) -> Mapping[ast.AST, str]:
    """Return the name of each value that has one: ``k = v``, ``f(k=v)``, ``{"k": v}``, ``d["k"] = v``."""
    names: dict[ast.AST, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                names[value] = name
            case ast.Assign(targets=[ast.Subscript(slice=ast.Constant(value=str(name)))], value=value):
                names[value] = name
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                names[value] = name
            case ast.keyword(arg=str(name), value=value):
                names[value] = name
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        names[value] = key.value
    return {node: name for node, name in names.items() if name.isidentifier()}


def sounds_secret(name: str) -> bool:
    """Tell whether a name alone, its value unknown, says that it holds a secret."""
    return doubt(name) == "yes"
