"""Functions of a project: the text of each, made from its origin and its slice."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from IPython.core.displayhook import DisplayHook

from flash_nb.cells.requirements import requirement_name
from flash_nb.cells.syntax import nodes
from flash_nb.errors import CellError
from flash_nb.project.declared import Trouble, TroubleError
from flash_nb.project.export.body import (
    as_function_body,
    import_order,
    indented,
    with_prelude,
    without_decorator,
)
from flash_nb.project.export.constant import is_immutable, value_of
from flash_nb.project.export.origin import Origin, listed
from flash_nb.project.export.place import place_of
from flash_nb.project.export.program import Program, Statement
from flash_nb.project.export.resource import Declaration, from_environment, is_secret, literal
from flash_nb.project.export.slice import Slice, is_remote_decorator
from flash_nb.project.export.target import Target
from flash_nb.sdk.dependencies import requirements_for
from flash_nb.sdk.target import GPU_IMAGE_PACKAGES

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SIMPLE = frozenset({"bool", "dict", "float", "int", "list", "str"})


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function, as a route takes it.

    Attributes:
        name: Its name.
        annotation: A builtin type; ``Any`` if it is something else.
        default: A literal; empty if there is none.
        is_optional: It need not be given.
        kind: How it is handed over: by name, or all that is left of a list or an object.
    """

    name: str
    annotation: str = "Any"
    default: str = ""
    is_optional: bool = False
    kind: str = "name"


@dataclass(frozen=True, eq=False)
class Work:
    """An origin with what it needs, ready to be written.

    Attributes:
        origin: It.
        slice: What it needs.
        name: Of the function.
        outputs: Of a cell: the names that it gives back, and those of them that may not exist.
    """

    origin: Origin
    slice: Slice
    name: str = ""
    outputs: tuple[tuple[str, ...], frozenset[str]] = ((), frozenset())


def text_of(program: Program, work: Work, resource: Declaration, target: Target) -> str:
    """Return the decorated function or class.

    Raises:
        TroubleError: A cell does not work as a function.
    """
    decorator = _decorator(work, resource, target)
    if work.origin.kind == "cell":
        return f"{decorator}\n{_of_cell(program, work, target)}"
    statement = work.origin.statement
    assert statement is not None
    return without_decorator(
        _with_imports(program, statement, work.slice, -1, target),
        lambda each: is_remote_decorator(program, statement, each),
        decorator,
    )


def carried_text(
    program: Program, statement: Statement, inside: Mapping[str, Sequence[str]], target: Target
) -> str:
    """Return a statement that a function needs, as it stands in a module."""
    value = statement.value
    if statement.kind == "constant" and value is not None:
        (name,) = statement.names.binds or {""}
        if is_secret(name, value):
            return f"{name} = {ast.unparse(from_environment(name))}".replace("'", '"')
    if statement.kind != "definition":
        return statement.source
    if not inside and not getattr(statement.node, "decorator_list", ()):
        return statement.source
    text = with_prelude(statement.source, statement.flags, lambda reads: _lines(inside, reads, target))
    return without_decorator(text, lambda each: is_remote_decorator(program, statement, each), "")


def _with_imports(program: Program, statement: Statement, made: Slice, key: int, target: Target) -> str:
    if not made.inside.get(key) and not made.siblings:
        return statement.source
    siblings = [
        without_decorator(
            with_prelude(
                each.source,
                each.flags,
                lambda reads, order=order: _lines(made.inside.get(order, {}), reads, target),  # type: ignore[misc]
            ),
            lambda decorator, each=each: is_remote_decorator(program, each, decorator),  # type: ignore[misc]
            "",
        )
        for order, each in sorted(made.siblings.items())
    ]
    names = {name for each in made.siblings.values() for name in each.names.binds}

    def prelude(reads: frozenset[str]) -> list[str]:
        lines = _lines(made.inside.get(key, {}), reads, target)
        return [*lines, *siblings] if names & reads else lines

    return with_prelude(statement.source, statement.flags, prelude)


def _lines(inside: Mapping[str, Sequence[str]], reads: frozenset[str], target: Target) -> list[str]:
    wanted = {name: lines for name, lines in inside.items() if name in reads}
    return [for_target(line, target) for line in import_order(wanted)]


def for_target(line: str, target: Target) -> str:
    """Return a line that imports, with Flash from where the project has it."""
    verb, module, *rest = line.split()
    package, dot, below = module.partition(".")
    if package not in {"flash_nb", "runpod_flash"} or package == target.package:
        return line
    if verb == "import" and not rest:
        return f"import {target.package} as {package}"
    return " ".join([verb, target.package + dot + below, *rest])


# --- the decorator -----------------------------------------------------------------------------------


def _decorator(work: Work, resource: Declaration, target: Target) -> str:
    origin = work.origin
    words = [f"resource_config={resource.variable}"]
    if wanted := dependencies_of(work, target):
        words.append(f"dependencies={listed(wanted)}")
    if origin.system_dependencies:
        words.append(f"system_dependencies={listed(origin.system_dependencies)}")
    words += [f"{name}={text}" for name, text in origin.words]
    line = f"@remote({', '.join(words)})"
    return line if len(line) <= 100 else "@remote(\n" + "".join(f"    {word},\n" for word in words) + ")"  # noqa: PLR2004


def dependencies_of(work: Work, target: Target) -> tuple[str, ...]:
    """Return what the decorator asks for: official workers install nothing that it does not name."""
    written = work.origin.dependencies
    if not target.is_official:
        return written
    known = {requirement_name(text) for text in written}
    if not work.origin.resource.is_cpu:
        known |= GPU_IMAGE_PACKAGES
    inferred = (requirement_name(text) for text in requirements_for(work.slice.modules))
    return (*written, *(name for name in inferred if name not in known))


# --- cells -------------------------------------------------------------------------------------------


def parameters_of(program: Program, work: Work) -> tuple[Parameter, ...]:
    """Return the parameters of a function, those without a default first."""
    cell = work.origin.remote_cell
    if work.origin.kind != "cell" or cell is None:
        return _declared_parameters(program, work.origin)
    items = [Parameter(name) for name in dict.fromkeys(cell.reading.item_names)]
    others = [_parameter(program, work, name, bound) for name, bound in work.slice.parameters.items()]
    return (*items, *sorted(others, key=lambda each: each.is_optional))


def _parameter(program: Program, work: Work, name: str, bound: Statement | None) -> Parameter:
    value = bound.value if bound is not None and bound.kind == "constant" else None
    if value is None or bound is None or name in work.slice.secrets or is_secret(name, value):
        return Parameter(name)
    known = lambda each: literal(program, each, bound.order)  # noqa: E731 - of this place
    if not is_immutable(value, known):
        return Parameter(name)
    found = value_of(value, known)
    return Parameter(name, _type_of(found), repr(found), is_optional=True)


def _type_of(value: object) -> str:
    name = type(value).__name__
    return name if name in _SIMPLE else "Any"


def _declared_parameters(program: Program, origin: Origin) -> tuple[Parameter, ...]:
    statement = origin.statement
    assert statement is not None
    node = statement.node
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return ()
    return parameters_in(program, node.args, statement)


def parameters_in(
    program: Program, arguments: ast.arguments, statement: Statement, *, bound: int = 0
) -> tuple[Parameter, ...]:
    """Return the parameters that a definition declares, those without a default first.

    Args:
        program: The notebook.
        arguments: As they are written.
        statement: In which they are.
        bound: How many of the first are given already, such as ``self``.
    """
    named = [*arguments.posonlyargs, *arguments.args][bound:]
    defaults = arguments.defaults[max(0, len(arguments.defaults) - len(named)) :]
    without = len(named) - len(defaults)
    pairs: list[tuple[ast.arg, ast.expr | None]] = [(each, None) for each in named[:without]]
    pairs += list(zip(named[without:], defaults, strict=True))
    pairs += list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    made = []
    for argument, default in pairs:
        text = ""
        if default is not None:
            try:
                text = repr(value_of(default, lambda name: literal(program, name, statement.order)))
            except (ValueError, TypeError):
                text = ""
        kind = "place" if argument in arguments.posonlyargs else "name"
        made.append(Parameter(argument.arg, _annotation(argument), text, default is not None, kind))
    made.sort(key=lambda each: each.is_optional and each.kind != "place")
    if arguments.vararg is not None:
        made.append(Parameter(arguments.vararg.arg, "list", "[]", is_optional=True, kind="rest"))
    if arguments.kwarg is not None:
        made.append(Parameter(arguments.kwarg.arg, "dict", "{}", is_optional=True, kind="words"))
    return tuple(made)


def _annotation(argument: ast.arg) -> str:
    node = argument.annotation
    if node is None:
        return "Any"
    text = ast.unparse(node)
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    plain = (ast.Name, ast.Subscript, ast.Tuple, ast.BinOp, ast.BitOr, ast.Constant, ast.expr_context)
    is_simple = all(isinstance(each, plain) for each in ast.walk(node)) and names <= _SIMPLE
    is_simple = is_simple and all(
        each.value is None for each in ast.walk(node) if isinstance(each, ast.Constant)
    )
    return text if is_simple else "Any"


def _of_cell(program: Program, work: Work, target: Target) -> str:
    cell, plan = work.origin.remote_cell, work.slice.plan
    assert cell is not None
    assert plan is not None
    tree, source = cell.reading.tree, cell.reading.text.source
    names, unsure = work.outputs
    value, key = _value(tree, source, names)
    parameters = parameters_of(program, work)
    own = {each.name for each in parameters} | _bound_at_top(tree)
    body, foreign = as_function_body(source, value=value, own=own)
    if foreign:
        raise TroubleError(
            [
                Trouble(
                    place_of(program.name, cell.cell, 1),
                    f"the cell's functions bind {', '.join(sorted(set(foreign)))} with `global` alone",
                    "bind it at the top of the cell too",
                )
            ]
        )
    reads = frozenset(work.slice.inside.get(-1, {}))
    lines = [
        *_lines(work.slice.inside.get(-1, {}), reads, target),
        body,
        *_giving_back(names, unsure, value, key),
    ]
    signature = ", ".join(
        f"{each.name}={each.default}" if each.is_optional else each.name for each in parameters
    )
    word = "async def" if plan.is_async else "def"
    return f"{word} {work.name}({signature}):\n" + indented("\n".join(lines))


def _value(tree: ast.Module, source: str, outputs: Sequence[str]) -> tuple[str, str]:
    """Return the variable for the value of the last expression, and the key that it is returned under."""
    last = tree.body[-1]
    if not isinstance(last, ast.Expr) or DisplayHook.semicolon_at_end_of_expression(source):
        return "", ""
    match last.value:
        case ast.Call(func=ast.Name(id="print" | "display" | "__flash_shell__")):
            return "", ""
        case ast.Name(id="result") if "result" in outputs:
            return "", ""
    used = {node.id for node in nodes(tree) if isinstance(node, ast.Name)}
    variable = "result"
    while variable in used or variable in outputs:
        variable = f"_{variable}"
    return variable, "value" if "result" in outputs else "result"


def _giving_back(names: Sequence[str], unsure: frozenset[str], value: str, key: str) -> list[str]:
    pairs = [f'"{name}": {name}' for name in names if name not in unsure]
    if value:
        pairs.append(f'"{key}": {value}')
    whole = "{" + ", ".join(pairs) + "}"
    if not unsure:
        return [f"return {whole}"]
    lines = [f"_returned = {whole}"]
    for name in names:
        if name in unsure:
            lines += [f'if "{name}" in locals():', f'    _returned["{name}"] = {name}']
    return [*lines, "return _returned"]


def _bound_at_top(tree: ast.Module) -> set[str]:
    """Return the names that a cell binds as variables of its own, not only in its functions."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.ExceptHandler(name=str(name)):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
                continue
            case ast.alias(name=name, asname=other):
                found.add(other or name.partition(".")[0])
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                found.add(name)
            case ast.Lambda():
                continue
        waiting.extend(ast.iter_child_nodes(node))
    return found


def requirements_of(modules: Sequence[str], written: Sequence[str]) -> tuple[str, ...]:
    """Return what a project must install; modules that nothing provides have been refused before."""
    try:
        return requirements_for(modules, written)
    except CellError:
        return requirements_for((), written)
