"""Factories: functions of a project that make its application, which nothing short of running them gives."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from flash_nb.project.declared import Trouble
from flash_nb.project.scan.module import Module, Modules
from flash_nb.project.scan.value import ABSENT, Definition, Unknown

_APPLICATION = "FastAPI"


def made_applications(modules: Modules, module: Module) -> Iterator[Trouble]:
    """Give what is to be said of each name of a module that a factory gives an application."""
    for name, value in module.names.items():
        value = modules.settled(value)  # noqa: PLW2901 - the same, known now
        if not isinstance(value, Unknown) or not isinstance(value.node, ast.Call):
            continue
        home = next((each for each in modules if each.file == value.place.file), module)
        factory = _definition(modules, home, value.node.func)
        if factory is not None and _makes_one(modules, factory, set()):
            yield Trouble(
                value.place,
                f"{name} is made by {factory.name}() ({factory.place}), which only running it would follow: "
                "the project has no endpoint for its routes",
                f"Write {name} = FastAPI() in {module.file}, and add the routes to it there: "
                f"{name}.include_router(…)",
            )


def _definition(modules: Modules, module: Module, node: ast.expr) -> Definition | None:
    found = _value(modules, module, node)
    return found if isinstance(found, Definition) else None


def _value(modules: Modules, module: Module, node: ast.expr) -> object:
    if isinstance(node, ast.Name):
        return modules.settled(module.names.get(node.id, ABSENT))
    if isinstance(node, ast.Attribute):
        of = _value(modules, module, node.value)
        return modules.attribute(of, node.attr) if isinstance(of, Module) else ABSENT
    return ABSENT


def _makes_one(modules: Modules, factory: Definition, seen: set[Definition]) -> bool:
    """Tell whether a function says that it returns an application, or returns one."""
    node, module = factory.node, modules.find(factory.module)
    if factory in seen or isinstance(node, ast.ClassDef) or module is None:
        return False
    seen.add(factory)
    if _is_application(node.returns):
        return True
    inside = list(_inside(node))
    made = {
        target.id: each.value
        for each in inside
        if isinstance(each, (ast.Assign, ast.AnnAssign)) and each.value is not None
        for target in (each.targets if isinstance(each, ast.Assign) else [each.target])
        if isinstance(target, ast.Name)
    }
    for each in inside:
        if not isinstance(each, ast.Return):
            continue
        value = made.get(each.value.id) if isinstance(each.value, ast.Name) else each.value
        if not isinstance(value, ast.Call):
            continue
        if _is_application(value.func):
            return True
        other = _definition(modules, module, value.func)
        if other is not None and _makes_one(modules, other, seen):
            return True
    return False


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """Give what stands in a function, but not in functions and classes inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield child
            yield from _inside(child)


def _is_application(node: ast.expr | None) -> bool:
    """Tell whether an expression names FastAPI's class, wherever that is imported."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.rpartition(".")[2] == _APPLICATION
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name == _APPLICATION
