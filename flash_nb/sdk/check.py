"""Check: the preflight of a whole notebook, from its text, cell by cell from the top.

Nothing of the notebook is executed or imported. What a cell finds is what the cells above it bind; where
one of them may bind names that its text does not show (``from x import *``, ``%run``, a magic that
nobody here knows), names are no longer judged. In a kernel, the values that exist there are looked at
too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flash_nb.cells.definitions import find_definitions, names_remote, without_decorators
from flash_nb.cells.finding import Finding, Severity, in_order
from flash_nb.cells.options import CellOptions
from flash_nb.cells.plan import PROVIDED_NAMES, CellPlan, plan_cell
from flash_nb.cells.preflight import (
    Around,
    allow_fix,
    check_text,
    coroutine_functions,
    guessed_modules,
    import_lines,
    imported_names,
    sounds_secret,
)
from flash_nb.cells.reading import Cell, Reading, magic_at, read
from flash_nb.errors import did_you_mean
from flash_nb.sdk.capture import survey
from flash_nb.sdk.preflight import Places, check_packages, check_values, not_on_a_worker
from flash_nb.sdk.scope import missing_names, reads_of
from flash_nb.sdk.target import GPU_IMAGE_PACKAGES, Target

_OF_IPYTHON = frozenset(
    {"In", "Out", "_", "__", "___", "_dh", "_i", "_ih", "_ii", "_iii", "_oh", "exit", "get_ipython", "quit"}
)
_HISTORY = re.compile(r"_i?\d+$")


@dataclass(frozen=True)
class CellFinding:
    """A finding and its cell; its line counts in that cell."""

    cell: Cell
    finding: Finding


def check_notebook(
    cells: Sequence[Cell],
    *,
    folder: Path | None = None,
    known: Iterable[str] = (),
    namespace: Mapping[str, Any] | None = None,
) -> list[CellFinding]:
    """Return what a preflight of every cell finds, in order.

    Args:
        cells: The notebook's.
        folder: Where it lies: modules beside it are not on a worker.
        known: Names that exist before the first cell.
        namespace: Of the running notebook: its values are looked at too.
    """
    notebook = _Notebook(folder, known, namespace or {})
    found_in = [(cell, *read(cell)) for cell in cells]
    notebook.look_ahead(found_in)
    results = []
    for cell, found, trouble in found_in:
        if trouble:
            notebook.lose_track()
        findings = [*trouble, *(notebook.check(cell, found) if found is not None else ())]
        results += [CellFinding(cell, finding) for finding in in_order(_as_typed(findings, cell))]
    return results


class _Notebook:
    """What is known of a notebook at one of its cells."""

    def __init__(self, folder: Path | None, known: Iterable[str], namespace: Mapping[str, Any]) -> None:
        self._folder = folder
        self._namespace = namespace
        self._names = _OF_IPYTHON.union(known)
        self._opaque = False  # names may exist that no text shows
        self._any_opaque = False  # … or will, further down
        self._coroutines: set[str] = set()
        self._remote: set[str] = set()
        self._imported: dict[str, str] = {}
        self._defined: set[str] = set()
        self._binding: dict[str, list[int]] = {}  # the cells that bind each name

    def lose_track(self) -> None:
        """Take a cell as run that could not be read: names may exist from here on that no text shows."""
        self._opaque = True

    def look_ahead(self, cells: Iterable[tuple[Cell, Reading | None, Sequence[Finding]]]) -> None:
        """Note which cell binds which name."""
        for cell, found, trouble in cells:
            self._any_opaque |= bool(trouble) or (found is not None and found.opaque)
            for name in found.binds if found is not None else ():
                self._binding.setdefault(name, []).append(cell.number)

    # --- checking -------------------------------------------------------------------------------

    def check(self, cell: Cell, found: Reading) -> Iterator[Finding]:
        """Yield what is wrong with a cell, then take it as run."""
        history = filter(_HISTORY.match, found.plan.reads)
        plan = plan_cell(found.text.source, self._names.union(history, found.item_names))
        yield from self._items(found)
        yield from self._text(cell, found, plan)
        if found.options is None:
            yield from self._remote_functions(found)
        elif not found.only_defines:
            yield from self._remote_cell(found, found.options, plan)
        self._opaque |= found.opaque
        self._take(found)

    def _items(self, found: Reading) -> Iterator[Finding]:
        """Yield the names that the items of a map are made from and that do not exist."""
        if found.items is None or self._opaque:
            return
        plan = plan_cell(ast.unparse(found.items.iterable), frozenset(self._names))
        for missing in plan.undefined:
            near = did_you_mean(missing.name, self._names)
            message = f"the items are made from {missing.name}, which is not defined{near}"
            yield Finding("undefined", 1, message, "define it in a cell above")

    def _text(self, cell: Cell, found: Reading, plan: CellPlan) -> Iterator[Finding]:
        below = {
            name: f"cell {min(numbers)}"
            for name, numbers in self._binding.items()
            if min(numbers) > cell.number
        }
        coroutines = self._coroutines if found.options is None else self._coroutines - self._remote
        around = Around(frozenset(self._names.union(found.item_names)), frozenset(coroutines), below)
        allowed = found.options.allowed_secrets if found.options else ()
        for each in check_text(found.tree, plan, around, allowed=allowed):
            if each.code in {"undefined", "below"} and self._opaque:
                continue
            if each.code == "secret" and found.options is None:
                fix = "read it from os.environ, or ask for it with getpass"
                yield replace(each, fix=fix, severity=Severity.WARNING)
            else:
                yield each

    def _remote_cell(self, found: Reading, options: CellOptions, plan: CellPlan) -> Iterator[Finding]:
        named = plan.inputs if options.inputs is None else options.inputs
        inputs = [name for name in named if name not in found.item_names]
        here = [name for name in inputs if name in self._namespace]
        captured = survey(here, self._namespace)
        places = Places(plan.reads, captured.via)
        resource = options.resource
        if resource and resource not in self._names and not self._opaque:
            message = f"-r names {resource!r}, which is not defined{did_you_mean(resource, self._names)}"
            yield Finding("undefined", 1, message, "define a resource of that name above")
        for name in inputs:
            if name not in self._names and name not in self._namespace and not self._opaque:
                near = did_you_mean(name, self._names)
                message = f"--in names {name!r}, which is not defined{near}"
                yield Finding("undefined", 1, message, "define it, or leave it out")
            elif name in self._remote:
                yield not_on_a_worker(name, name, places.line(name))
            elif self._may_be_secret(name) and name not in options.allowed_secrets:
                message = f"{name} has the name of a secret"
                yield Finding("secret", places.line(name), message, allow_fix(name))
        has_torch = options.gpus and options.backend != "local"
        target = Target(packages=GPU_IMAGE_PACKAGES if has_torch else frozenset())
        modules = {self._imported[name]: places.line(name) for name in inputs if name in self._imported}
        yield from check_packages(
            {**modules, **import_lines(found.tree)},
            [*options.deps, *found.text.dependencies],
            captured,
            places,
            target,
            folder=self._folder,
            guesses=guessed_modules(found.tree),
        )
        allowed = options.allowed_secrets
        yield from check_values(captured, self._namespace, places, target=target, allowed=allowed)

    def _may_be_secret(self, name: str) -> bool:
        """Tell by its name alone, if its value is not here, whether a value is a secret."""
        if name in self._namespace or name in self._imported or name in self._defined:
            return False
        return sounds_secret(name)

    def _remote_functions(self, found: Reading) -> Iterator[Finding]:
        """Check what runs on a resource against the rules of scope."""
        definitions = find_definitions(found.text.source)
        for node in found.remote_definitions:
            definition = without_decorators(definitions[node.name], names_remote)
            reads = reads_of(definition)
            if any(map(_is_strict, node.decorator_list)):
                for name, line in reads.lines.items():
                    if name not in PROVIDED_NAMES and name not in reads.binds and name not in reads.guarded:
                        message = f"{node.name} reads {name} from outside, and strict=True does not allow it"
                        fix = "pass it as an argument, or import or define it inside"
                        yield Finding("scope", line, message, fix)
            elif not self._any_opaque:
                everything = self._names | self._binding.keys()
                absent = {name for name in reads.lines if name not in everything}
                missing = missing_names(definition, _paths(node), absent, [definition])
                for name, line in missing.items():
                    near = did_you_mean(name, everything | reads.locals)
                    message = f"{node.name} reads {name}, which is not defined{near}"
                    yield Finding("undefined", line, message, "define it, or pass it as an argument")

    def _take(self, found: Reading) -> None:
        """Bind what a cell binds."""
        binds = found.binds
        self._names |= binds
        self._coroutines -= binds
        self._remote -= binds
        self._defined -= binds
        for name in binds:
            self._imported.pop(name, None)
        self._imported |= {
            name: module for name, module in imported_names(found.tree).items() if name in binds
        }
        self._defined |= set(found.plan.only_defined)
        self._coroutines |= coroutine_functions(found.tree) & set(found.plan.only_defined)
        for node in found.remote_definitions:
            self._remote.add(node.name)
            if not isinstance(node, ast.ClassDef):
                self._coroutines.add(node.name)


def _as_typed(findings: Iterable[Finding], cell: Cell) -> Iterator[Finding]:
    """Yield findings with the line where the magic line was typed, and as warnings if the cell may fail."""
    above = magic_at(cell.source.split("\n"))
    for each in findings:
        line = each.line + above if each.line == 1 else each.line
        yield replace(each, line=line, severity=Severity.WARNING if cell.may_fail else each.severity)


def _is_strict(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and any(
        word.arg == "strict" and isinstance(word.value, ast.Constant) and word.value.value is True
        for word in decorator.keywords
    )


def _paths(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> list[tuple[str, ...]]:
    if not isinstance(node, ast.ClassDef):
        return [(node.name,)]
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(node.name, member.name) for member in node.body if isinstance(member, functions)]
