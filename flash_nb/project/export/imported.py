"""Import statements: what each binds, a line for each name."""

from __future__ import annotations

import ast
from collections.abc import Mapping


def imports_of(node: ast.stmt) -> Mapping[str, str]:
    """Return the names that an import statement binds, each with the line that binds it alone."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: f"import {alias.name}"
            + (f" as {alias.asname}" if alias.asname else "")
            for alias in node.names
        }
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return {
            alias.asname or alias.name: f"from {node.module} import {alias.name}"
            + (f" as {alias.asname}" if alias.asname else "")
            for alias in node.names
            if alias.name != "*"
        }
    return {}


def imported(line: str) -> str:
    """Return the dotted name of what a line of `imports_of` binds: ``os.path`` for both ways to get it."""
    node = ast.parse(line).body[0]
    if isinstance(node, ast.ImportFrom):
        return f"{node.module}.{node.names[0].name}"
    assert isinstance(node, ast.Import)
    alias = node.names[0]
    return alias.name if alias.asname else alias.name.partition(".")[0]
