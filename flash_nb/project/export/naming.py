"""Names of what has none in the notebook: functions made of cells, and the files of endpoints."""

from __future__ import annotations

import ast
import keyword
import re
import sys
from collections.abc import Collection, Mapping, Sequence

from flash_nb.project.export.origin import Origin

_TAKEN_FILES = frozenset(
    {"app", "conftest", "env", "flash_nb", "flash_runtime", "main", "mothership", "runpod_flash", "server"}
    | {"setup", "tests", "workers"}
)
_MOST_NAMES = 2


def function_name(origin: Origin, outputs: Sequence[str], taken: Collection[str], kept: str) -> str:
    """Return the name of a cell's function: it says what the cell makes, and never the cell's number.

    Args:
        origin: The cell.
        outputs: What it gives back.
        taken: Names that mean something else.
        kept: The name that an earlier export gave it; empty if there was none.
    """
    name = _base(origin, outputs)
    if kept not in taken and (kept == name or kept.startswith(f"{name}_")):
        return kept
    if name not in taken:
        return name
    suffix = re.sub(r"\W+", "_", origin.cell.id).strip("_")[:8].lower()
    candidates = [f"{name}_{suffix}" if suffix else f"{name}_2"]
    candidates += [f"{candidates[0]}_{number}" for number in range(2, len(taken) + 3)]
    return next(each for each in candidates if each not in taken)


def _base(origin: Origin, outputs: Sequence[str]) -> str:
    cell = origin.remote_cell
    assert cell is not None
    targets = [
        name.id
        for node in cell.reading.tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    ]
    telling = list(dict.fromkeys(name for name in targets if name in outputs and not name.startswith("_")))
    if not telling:
        telling = [name for name in outputs if not name.startswith("_")]
    if telling:
        return "make_" + "_and_".join(name.lower() for name in telling[-_MOST_NAMES:])
    last = cell.reading.tree.body[-1]
    called = [
        node.func
        for node in ast.walk(last)
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Call)
    ]
    for function in called:
        word = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if word and word not in {"print", "display", "__flash_shell__"}:
            return f"run_{word.lower()}"
    return "run_cell"


def file_names(endpoints: Mapping[str, str], modules: Collection[str]) -> Mapping[str, str]:
    """Return the file of each endpoint: ``train.py``.

    Args:
        endpoints: Identities of endpoints, each with its name.
        modules: Modules that the project imports: a file must not hide one.
    """
    roots = {module.partition(".")[0] for module in modules}
    taken = set(_TAKEN_FILES | sys.stdlib_module_names | roots)
    made: dict[str, str] = {}
    for identity, name in sorted(endpoints.items()):
        stem = re.sub(r"\W+", "_", name).strip("_").lower() or "endpoint"
        if stem[0].isdigit() or keyword.iskeyword(stem):
            stem = f"endpoint_{stem}"
        if stem in taken or stem.startswith(("test_", "handler_")) or stem.endswith("_test"):
            stem = f"on_{stem}"
        number, base = 1, stem
        while stem in taken:
            number += 1
            stem = f"{base}_{number}"
        taken.add(stem)
        made[identity] = f"{stem}.py"
    return made
