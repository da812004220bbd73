"""Nested uses of `remote`: inside functions, where only running them would show what they decorate."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from flash_nb.cells.syntax import nodes
from flash_nb.project.declared import Place, Trouble
from flash_nb.project.scan.evaluation import is_ours, package_name
from flash_nb.project.scan.module import Module, Modules
from flash_nb.project.scan.value import PACKAGES, Decorator, Package, Remote

_FIX = "Move what it decorates to the top level of the module, or write local=True."


def nested_uses(modules: Modules, module: Module) -> Iterator[Trouble]:
    """Give a trouble for each use of `remote` inside a function of a module."""
    names = {name: modules.settled(value) for name, value in module.names.items()}
    names = {
        name: value
        for name, value in names.items()
        if isinstance(value, Remote | Decorator | Package | Module)
    }
    # Most modules and functions do not name any of these: the text tells that at once.
    if not names and not any(package in module.text for package in PACKAGES):
        return
    lines = re.split(r"\r\n?|\n", module.text)  # where the parser begins them
    for function in _functions(module.tree):
        text = "\n".join(lines[function.lineno - 1 : function.end_lineno])
        inner = {name: value for name, value in names.items() if name in text}
        if any(package in text for package in PACKAGES):
            inner.update(_imported(function))
        if not inner:
            continue
        for statement in function.body:
            for node in nodes(statement):
                if (
                    isinstance(node, ast.Call)
                    and _is_remote(modules, node.func, inner)
                    and not _is_local(node)
                ):
                    message = f"@remote inside {function.name} is seen only when that runs"
                    yield Trouble(Place(module.file, node.lineno), message, _FIX)
                elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    for decorator in node.decorator_list:
                        if isinstance(_value(modules, decorator, inner), Decorator):
                            message = f"{node.name} is decorated inside {function.name}"
                            yield Trouble(Place(module.file, node.lineno), message, _FIX)


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Give the outermost functions: those of classes and branches too."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            for part in ("body", "orelse", "finalbody", "handlers", "cases"):
                waiting += getattr(node, part, ())


def _imported(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, object]]:
    for statement in function.body:
        for node in nodes(statement):
            if isinstance(node, ast.ImportFrom) and not node.level and is_ours(node.module or ""):
                for alias in node.names:
                    yield alias.asname or alias.name, package_name(node.module or "", alias.name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if is_ours(alias.name):
                        name = alias.name if alias.asname else alias.name.partition(".")[0]
                        yield alias.asname or name, Package(name)


def _value(modules: Modules, node: ast.expr, names: dict[str, object]) -> object:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        base = _value(modules, node.value, names)
        if isinstance(base, Package):
            return package_name(base.path, node.attr)
        if isinstance(base, Module):
            return modules.settled(base.names.get(node.attr))
    return None


def _is_remote(modules: Modules, node: ast.expr, names: dict[str, object]) -> bool:
    return isinstance(_value(modules, node, names), Remote)


def _is_local(node: ast.Call) -> bool:
    return any(
        keyword.arg == "local" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        for keyword in node.keywords
    )
