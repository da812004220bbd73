"""Resources: how a project declares what a function runs on."""

from __future__ import annotations

import ast
import copy
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeGuard

from flash_nb import resources
from flash_nb.cells.options import CellOptions
from flash_nb.cells.secret import form_of, says_secret
from flash_nb.project.declared import Trouble, TroubleError
from flash_nb.project.export.constant import FLASH, Bound, dotted, value_of
from flash_nb.project.export.place import place_of
from flash_nb.project.export.program import Default, Program, Statement, resource_class
from flash_nb.project.export.target import Target
from flash_nb.sdk.selection import IDLE_TIMEOUT_S, UNNAMED

_WIDTH = 100


@dataclass(frozen=True, eq=False)
class Declaration:
    """A resource as the project declares it.

    Attributes:
        name: Of the endpoint.
        variable: That holds it.
        cls: The name of its class.
        fields: Its other settings, as expressions.
        order: Where these read their names.
        bound: The statement that declares it; None if a magic line or a decorator does.
    """

    name: str
    variable: str
    cls: str
    fields: tuple[tuple[str, ast.expr], ...]
    order: int
    bound: Statement | None = None

    @cached_property
    def identity(self) -> tuple[object, ...]:
        """Equal for resources that are declared alike."""
        return (self.name, self.cls, *((name, ast.dump(value)) for name, value in self.fields))

    @property
    def is_load_balanced(self) -> bool:
        """Whether its functions are routes."""
        return bool(getattr(resources, self.cls).model_fields["type"].default.value == "LB")

    @property
    def is_cpu(self) -> bool:
        """Whether its workers have no GPU."""
        return self.cls.startswith("Cpu") or any(name == "instanceIds" for name, _ in self.fields)

    @property
    def reads(self) -> frozenset[str]:
        """The names that its settings read."""
        return frozenset(
            node.id for _, value in self.fields for node in ast.walk(value) if isinstance(node, ast.Name)
        )

    def with_field(self, name: str, value: ast.expr) -> Declaration:
        """Return it with another setting, unless it has that."""
        if any(known == name for known, _ in self.fields):
            return self
        return replace(self, fields=(*self.fields, (name, value)))

    def class_for(self, target: Target) -> str:
        """Return its class: official CPU workers get the image for GPUs unless the class says it."""
        names = {name for name, _ in self.fields}
        is_plain = self.cls in {"LiveServerless", "LiveLoadBalancer"}
        return f"Cpu{self.cls}" if target.is_official and is_plain and "instanceIds" in names else self.cls

    def text(self, target: Target) -> str:
        """Return the assignment that declares it, as it was typed if that will do."""
        if self.bound is not None and self._is_as_typed(self.bound, target):
            return self.bound.source
        settings = [f"name={_quoted(target.endpoint_name(self.name))}"]
        settings += [f"{name}={_unparsed(value)}" for name, value in self.fields]
        cls = self.class_for(target)
        line = f"{self.variable} = {cls}({', '.join(settings)})"
        if len(line) <= _WIDTH:
            return line
        return f"{self.variable} = {cls}(\n" + "".join(f"    {each},\n" for each in settings) + ")"

    def _is_as_typed(self, bound: Statement, target: Target) -> bool:
        call = bound.value
        assert isinstance(call, ast.Call)
        words = {word.arg: ast.dump(word.value) for word in call.keywords}
        ours = {name: ast.dump(value) for name, value in self.fields}
        name = ast.dump(ast.Constant(target.endpoint_name(self.name)))
        return (
            words == {**ours, "name": name}
            and bound.names.binds == {self.variable}
            and isinstance(bound.node, ast.Assign)
            and isinstance(call.func, ast.Name)
            and call.func.id == self.class_for(target)
        )


def declared(
    call: ast.Call, variable: str, order: int, program: Program, *, bound: Statement | None, at: Statement
) -> Declaration:
    """Return the resource that a call declares.

    Args:
        call: ``LiveServerless(name="train", …)``.
        variable: What it is bound to; empty if to nothing.
        order: Where it stands.
        program: The notebook.
        bound: The statement that is this declaration.
        at: The statement that holds it.

    Raises:
        TroubleError: Its name is not known without running the notebook.
    """
    cls = resource_class(call, lambda name: program.resolve_at(name, order))
    words = {word.arg: word.value for word in call.keywords}
    if call.args or None in words or "name" not in words:
        raise TroubleError(
            [
                Trouble(
                    place_of(program.name, at.cell, at.line),
                    f"a {cls} is declared with arguments that the text does not show",
                    f'write its settings as {cls}(name="…", …)',
                )
            ]
        )
    try:
        name = value_of(words["name"], lambda each: literal(program, each, order))
    except (ValueError, TypeError):
        name = None
    if not isinstance(name, str):
        raise TroubleError(
            [
                Trouble(
                    place_of(program.name, at.cell, at.line),
                    f"the name of a {cls} is computed: {ast.unparse(words['name'])}",
                    'write it as a text: name="…"',
                )
            ]
        )
    plain = _Plain(program, order)
    fields = tuple(
        (str(word.arg), plain.visit(copy.deepcopy(word.value)))
        for word in call.keywords
        if word.arg != "name"
    )
    return Declaration(name, variable or variable_of(name), cls, fields, order, bound)


def literal(program: Program, name: str, order: int) -> tuple[ast.expr, Bound] | None:
    """Return the expression of a constant, and what its names stand for; None if a name is none."""
    bound = program.in_force(name, order)
    if bound is None or bound.kind != "constant" or bound.value is None:
        return None
    return bound.value, lambda each: literal(program, each, bound.order)


def of_cell(program: Program, options: CellOptions, default: Default | None, at: Statement) -> Declaration:
    """Return what a remote cell runs on, as its magic line says it.

    Args:
        program: The notebook.
        options: Of the magic line.
        default: What ``%flash use`` has chosen.
        at: A statement of the cell.

    Raises:
        TroubleError: It is not known without running the notebook.
    """
    if options.resource or (options.is_bare and default is not None):
        variable = options.resource or (default.variable if default else "")
        return of_variable(program, variable, at, at.order)
    hardware = "-".join(options.gpus) or options.cpu
    name = options.name or "-".join(filter(None, (UNNAMED, hardware.lower())))
    call = [f"name={name!r}"]
    if options.gpus:
        members = {str(each): f"GpuGroup.{each.name}" for each in resources.GpuGroup}
        call.append(f"gpus=[{', '.join(members.get(gpu, repr(gpu)) for gpu in options.gpus)}]")
    elif options.cpu:
        members = {str(each): f"CpuInstanceType.{each.name}" for each in resources.CpuInstanceType}
        call.append(f"instanceIds=[{members.get(options.cpu, repr(options.cpu))}]")
    call.append(f"idleTimeout={IDLE_TIMEOUT_S}")
    cls = "LiveServerless" if options.gpus else "CpuLiveServerless"
    node = ast.parse(f"{cls}({', '.join(call)})", mode="eval").body
    assert isinstance(node, ast.Call)
    fields = tuple((str(word.arg), word.value) for word in node.keywords if word.arg != "name")
    return Declaration(name, variable_of(name), cls, fields, at.order)


def of_variable(program: Program, variable: str, at: Statement, order: int) -> Declaration:
    """Return the resource that a variable holds at a place.

    Raises:
        TroubleError: None, as far as the text shows.
    """
    bound = program.in_force(variable, order)
    if bound is not None and bound.kind == "resource" and isinstance(bound.value, ast.Call):
        return declared(bound.value, variable, bound.order, program, bound=bound, at=bound)
    place = place_of(program.name, at.cell, at.line)
    if bound is None:
        trouble = Trouble(place, f"{variable} is not defined", "define a resource of that name above")
    else:
        where = f"cell {bound.cell.number}, line {bound.line}"
        why = f": {bound.note}" if bound.note else ""
        trouble = Trouble(
            place,
            f"what {variable} holds is known only when the notebook runs ({where}{why})",
            f'declare it as {variable} = LiveServerless(name="…", …) in a cell above',
        )
    raise TroubleError([trouble])


def variable_of(name: str) -> str:
    """Return a name of Python for an endpoint's name: ``notebook_ada_80_pro``."""
    variable = re.sub(r"\W+", "_", name).strip("_") or "resource"
    variable = variable.lower()
    if keyword.iskeyword(variable) or variable[0].isdigit():
        variable = f"_{variable}"
    return variable


class _Plain(ast.NodeTransformer):
    """Makes a setting independent of how the notebook imports Flash, and writes no secret.

    ``flash_nb.GpuGroup.ANY`` becomes ``GpuGroup.ANY``, and ``"hf_…"`` becomes ``os.environ["HF_TOKEN"]``.
    """

    def __init__(self, program: Program, order: int) -> None:
        self._resolve = lambda name: program.resolve_at(name, order)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        name = dotted(node, self._resolve)
        package, _, last = name.rpartition(".")
        if package.partition(".")[0] in FLASH and last in resources.__all__:
            return ast.Name(last, ast.Load())
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        package, _, last = self._resolve(node.id).rpartition(".")
        if package.partition(".")[0] in FLASH and last in resources.__all__:
            return ast.Name(last, ast.Load())
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        for name, value in [*named_values(node)]:
            if is_secret(name, value):
                node.values[node.values.index(value)] = from_environment(name)
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and form_of(node.value):
            return from_environment("SECRET")
        return node


def named_values(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield the values that a piece of code gives names: by assignment, in a call, as items of a dict.

    ``{"key": "TOKEN", "value": "…"}``, as templates have it, names the value by its key.
    """
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((each.id, value) for each in targets if isinstance(each, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value
        case ast.keyword(arg=str(name), value=value):
            yield name, value
        case ast.Dict(keys=keys, values=values):
            named = zip(keys, values, strict=True)
            pairs = {str(key.value): value for key, value in named if _is_text(key)}
            yield from pairs.items()
            match pairs.get("key"), pairs.get("value"):
                case ast.Constant(value=str(name)), ast.expr() as value:
                    yield name, value


def _is_text(node: ast.expr | None) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_secret(name: str, value: ast.expr) -> bool:
    """Tell whether an expression is a text that must not be written down."""
    if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
        return False
    return says_secret(name, value.value) or bool(form_of(value.value))


def from_environment(name: str) -> ast.expr:
    """Return ``os.environ["NAME"]``."""
    variable = re.sub(r"\W+", "_", name).upper()
    return ast.parse(f'os.environ["{variable}"]', mode="eval").body


def variables_in(text: str) -> Iterator[str]:
    """Yield the names of environment variables that a text reads."""
    for match in re.finditer(r"""os\.(?:environ(?:\.get\(|\[)|getenv\()\s*(['"])(\w+)\1""", text):
        yield match[2]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unparsed(node: ast.expr) -> str:
    text = ast.unparse(node)
    as_written = re.sub(r"'([^'\"\\]*)'", r'"\1"', text)  # with the quotes that most code has
    try:
        same = ast.dump(ast.parse(as_written, mode="eval").body) == ast.dump(
            ast.parse(text, mode="eval").body
        )
    except SyntaxError:
        return text
    return as_written if same else text
