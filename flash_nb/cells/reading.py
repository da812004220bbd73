"""Reading: a cell of a notebook file as Python, with what its magic line says. Nothing is executed.

It is what everything starts from that looks at a whole notebook: the check and the export.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from IPython.core.error import UsageError

from flash_nb.cells.clause import Clause
from flash_nb.cells.finding import Finding
from flash_nb.cells.magic_line import MAGICS
from flash_nb.cells.options import CellOptions, parse_magic
from flash_nb.cells.plan import CellPlan, plan_cell
from flash_nb.cells.preflight import binds_unseen
from flash_nb.cells.shell import Translated, translate, without_magics
from flash_nb.cells.syntax import parse
from flash_nb.errors import CellError, ResourceError, UnsupportedMagicError
from flash_nb.resources import CpuLiveServerless, LiveServerless

# Cell magics whose body is Python that runs in the notebook, and line magics that bind no names.
_PYTHON_MAGICS = frozenset({"capture", "memit", "mprun", "prun", "snakeviz", "time", "timeit"})
_OTHER_LANGUAGES = frozenset(
    {"bash", "html", "javascript", "js", "latex", "markdown", "sh", "svg", "writefile"}
)
_CHOOSES = re.compile(r"%flash (use|pick)(\s+--[\w-]+[ =]\S+)*(\s+(?P<name>[^\W\d]\w*))?\s*$")
_BINDING_NOTHING = frozenset(
    {"alias", "autoreload", "cd", "conda", "config", "debug", "env", "flash", "load_ext", "ls", "mamba"}
    | {"matplotlib", "memit", "pip", "prun", "pwd", "reload_ext", "time", "timeit", "unload_ext", "uv", "who"}
    | {"whos", "xmode"}
)


@dataclass(frozen=True)
class Cell:
    """A code cell.

    Attributes:
        number: Its place in the notebook, from 1, text cells counted.
        source: Its text.
        id: Its id in the file; empty if it has none.
        may_fail: It is tagged ``raises-exception``: its errors stop nothing.
    """

    number: int
    source: str
    id: str = ""
    may_fail: bool = False


@dataclass(frozen=True)
class Reading:
    """A cell that could be read.

    Attributes:
        text: It as plain Python, lines as in the cell.
        tree, plan: Of it.
        options: Of its magic line; None for a cell that runs here.
        opaque: It may bind names that its text does not show.
        resources: The variables that ``%flash use`` and ``%flash pick`` bind.
    """

    text: Translated
    tree: ast.Module
    plan: CellPlan
    options: CellOptions | None
    opaque: bool
    resources: frozenset[str] = frozenset()

    @property
    def items(self) -> Clause | None:
        """Of a map."""
        return None if self.options is None else self.options.items

    @property
    def item_names(self) -> Sequence[str]:
        """The names that each item of a map binds, in the cell alone."""
        return () if self.items is None else self.items.names

    @property
    def only_defines(self) -> bool:
        """Whether it makes functions remote, and runs nothing."""
        return (
            self.options is not None
            and self.items is None
            and (self.options.define or (self.plan.defines_only and not self.options.run))
        )

    @property
    def binds(self) -> frozenset[str]:
        """The names that it leaves behind."""
        outputs = self.plan.outputs
        if self.options is not None and self.options.outputs is not None:
            outputs = tuple(self.options.outputs)
        return self.resources.union(outputs)

    @property
    def remote_definitions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
        """Its functions and classes that run on a resource."""
        for node in self.tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and (
                self.only_defines or any(map(is_remote, node.decorator_list))
            ):
                yield node


def read(cell: Cell) -> tuple[Reading | None, list[Finding]]:
    """Return a cell as Python; None, with the reason, if it is not."""
    lines = cell.source.split("\n")
    first = lines.pop(magic_at(lines))
    lines.insert(0, first)  # as the notebook has them: all lines below keep their numbers
    first = first.strip()
    try:
        if first.split(" ", 1)[0] in MAGICS:
            return _read_remote(first, lines), []
        return _read_here(first, lines), []
    except UnsupportedMagicError as error:
        finding = Finding.of_error("magic", error.line, error)
        return None, [replace(finding, message=re.sub(r"^Line \d+, ", "", finding.message))]
    except CellError as error:
        return None, [Finding.of_error("option", 1, error)]
    except SyntaxError as error:
        line = error.lineno or 1
        return None, [Finding("syntax", line, f"it is not Python: {error.msg}", "correct it")]
    except (ValueError, RecursionError, MemoryError) as error:
        return None, [Finding("syntax", 1, f"it is not Python: {error}", "correct it")]


def _read_remote(first: str, lines: Sequence[str]) -> Reading:
    options = _options(first)
    text = translate("\n".join(["", *lines[1:]]))
    return Reading(text, parse(text.source), plan_cell(text.source), options, opaque=False)


def _read_here(first: str, lines: Sequence[str]) -> Reading | None:
    magic = re.match(r"%%(\w+)", first)
    if magic and (magic[1] in _OTHER_LANGUAGES or first.endswith("?")):
        return None
    if magic and magic[1] not in _PYTHON_MAGICS:
        nothing = Translated("")
        return Reading(nothing, parse(""), plan_cell(""), None, opaque=True)
    body = ["", *lines[1:]] if magic else list(lines)
    source, magics = without_magics("\n".join(body))
    plan = plan_cell(source)
    tree = parse(source)
    opaque = binds_unseen(tree) or not magics <= _BINDING_NOTHING
    return Reading(Translated(source), tree, plan, None, opaque, resources=_resources_bound(lines))


def _options(line: str) -> CellOptions:
    """Parse a line with one of our magics.

    Raises:
        CellError: It makes no sense.
    """
    magic = line.partition(" ")[0]
    try:
        options = parse_magic(line)
    except UsageError as error:
        raise CellError(str(error).removeprefix(f"{magic}: "), hint=f"see {magic}?") from None
    if options.gpus or options.cpu:
        _check_hardware(options.gpus, options.cpu)
    return options


def _check_hardware(gpus: Sequence[str], cpu: str) -> None:
    fields: dict[str, Any] = {"gpus": list(gpus)} if gpus else {"instanceIds": [cpu]}
    try:
        (LiveServerless if gpus else CpuLiveServerless)(name="checked", **fields)
    except ResourceError as error:
        raise CellError(error.message, hint=error.hint or "see %%flash_remote?") from None


def _resources_bound(lines: Iterable[str]) -> frozenset[str]:
    """Return the names that lines with ``%flash use`` and ``%flash pick`` bind."""
    found = filter(None, map(_CHOOSES.match, lines))
    return frozenset(match["name"] or "resource" for match in found)


def magic_at(lines: Sequence[str]) -> int:
    """Return the index of a cell's magic line, 0 if it has none.

    Blank lines may stand above any, and comments above ours.
    """
    for index, line in enumerate(lines):
        if line.startswith(MAGICS) or (line.startswith("%%") and not "".join(lines[:index]).strip()):
            return index
        if line.strip() and not line.startswith("#"):
            break
    return 0


def _last_name(node: ast.expr) -> str | None:
    target = node.func if isinstance(node, ast.Call) else node
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", None)


def is_remote(decorator: ast.expr) -> bool:
    """Tell whether a decorator is ``remote``, however it is reached."""
    return _last_name(decorator) == "remote"
