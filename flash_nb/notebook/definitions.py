"""A remote cell that only defines: its functions and classes become remote ones.

Nothing runs, here or on a worker. Each function travels with the whole cell, so that it finds the
cell's imports and its other functions.
"""

from __future__ import annotations

import ast
from typing import Any

from flash_nb.cells.definitions import Definition
from flash_nb.cells.imports import imports_of
from flash_nb.cells.options import CellOptions
from flash_nb.cells.plan import CellPlan
from flash_nb.notebook.cell import CellText
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk.capture import Source
from flash_nb.sdk.code import CellCode
from flash_nb.sdk.function import RemoteFunction
from flash_nb.sdk.objects import RemoteClass
from flash_nb.sdk.options import RemoteOptions


def define(
    text: CellText,
    plan: CellPlan,
    chosen: CellOptions,
    resource: ServerlessResource,
    namespace: dict[str, Any],
) -> None:
    """Bind a remote function or class for each one that the cell defines."""
    options = RemoteOptions(
        resource,
        dependencies=(*chosen.deps, *text.translated.dependencies),
        system_dependencies=chosen.system_deps,
        timeout_s=chosen.timeout,
        allow_apt=chosen.allow_apt,
    )
    for node in ast.parse(text.translated.source).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            code = CellCode(
                node.name,
                node,
                definitions=plan.definitions,
                source=_whole_cell(node.name, text, plan),
                namespace=namespace,
            )
            kind = RemoteClass if isinstance(node, ast.ClassDef) else RemoteFunction
            namespace[node.name] = kind(code, options, None)


def _whole_cell(name: str, text: CellText, plan: CellPlan) -> Source:
    """Return the cell as the definition of one of its names."""
    eager = frozenset(read.name for read in plan.reads.values() if read.eager)
    source = text.translated.source
    definition = Definition(
        name=name,
        kind="function",
        is_async=False,
        source=source,
        first_line=1,
        last_line=source.count("\n") + 1,
        eager=eager,
        lazy=frozenset(plan.reads) - eager,
        hints=frozenset(),
        imports=frozenset(plan.imports),
        flags=0,
        guesses=frozenset(each.module for each in imports_of(ast.parse(source)) if each.is_guess),
    )
    return Source(definition, text.filename)
