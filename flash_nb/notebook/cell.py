"""One remote cell, from its text to what may be sent.

`CellText` knows where the cell's lines are, and `prepare` decides everything before anything is sent.
"""

from __future__ import annotations

import ast
import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from IPython.core.displayhook import DisplayHook

from flash_nb.cells.definitions import find_definitions
from flash_nb.cells.finding import Finding, refuse
from flash_nb.cells.options import CellOptions
from flash_nb.cells.plan import CellPlan, plan_cell
from flash_nb.cells.shell import Translated, translate
from flash_nb.errors import CellError
from flash_nb.notebook.preflight import inspect_cell, known_around
from flash_nb.sdk.capture import Capture, Source
from flash_nb.sdk.target import Target
from flash_nb.worker.namespace import Item, remember_source


@dataclass(frozen=True)
class CellText:
    """A cell's text, and the name under which tracebacks find it.

    Attributes:
        raw: What the user typed, the magic line included.
        filename: The name of its code.
        translated: Its body as plain Python, moved down by the magic line.
    """

    raw: str
    filename: str
    translated: Translated

    @classmethod
    def of(
        cls, line: str, body: str, name_code: Callable[[str, str], str], *, magic: str = "%%flash_remote"
    ) -> CellText:
        """Make it from what IPython hands to a cell magic.

        Args:
            line: The rest of the magic line.
            body: The lines below it.
            name_code: Registers ``(source, raw)`` with IPython and returns the code's name.
            magic: What stands before the line.
        """
        raw = f"{magic} {line}".rstrip() + "\n" + body
        source = "\n" + body
        filename = name_code(source, raw)
        remember_source(filename, raw)
        return cls(raw, filename, translate(source))

    def plan(self, known: frozenset[str]) -> CellPlan:
        """Analyse the cell.

        Args:
            known: The names that the notebook has.

        Raises:
            SyntaxError: It is not Python; the error points at the user's line.
        """
        try:
            return plan_cell(self.translated.source, known)
        except SyntaxError as error:
            error.filename = self.filename
            raise


@dataclass(frozen=True)
class PreparedCell:
    """A cell that may be sent."""

    text: CellText
    options: CellOptions
    captured: Capture
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    requirements: tuple[str, ...]
    definitions: tuple[Item, ...]
    warnings: tuple[Finding, ...] = ()

    @property
    def request(self) -> dict[str, Any]:
        """The `flash_nb.protocol.channel.CellRequest`."""
        request: dict[str, Any] = {
            "execution_type": "cell",
            "source": self.text.translated.source,
            "filename": self.text.filename,
            "cell": self.text.raw,
            "namespace": self.captured.items,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "definitions": [item["name"] for item in self.definitions],
            "show_value": not DisplayHook.semicolon_at_end_of_expression(self.text.translated.source),
        }
        if self.captured.files.items:
            request["modules"] = self.captured.files.items
        return request


def check_syntax(raw: str, name_code: Callable[[str, str], str]) -> None:
    """Raise the syntax error of a remote cell, if it has one.

    Args:
        raw: The cell, the magic line included.
        name_code: As for `CellText.of`.
    """
    source = "\n" + raw.partition("\n")[2]
    with contextlib.suppress(CellError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the worker says it again
        try:
            compile(
                translate(source).source, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
            )
        except SyntaxError as error:
            error.filename = name_code(source, raw)
            raise


def prepare(
    text: CellText,
    found: CellPlan,
    options: CellOptions,
    namespace: Mapping[str, Any],
    *,
    known: frozenset[str],
    target: Target,
) -> PreparedCell:
    """Collect all that the cell needs, and all that stands against sending it.

    Raises:
        FlashError: Something does: see `flash_nb.cells.finding.refuse`.
    """
    around = known_around(found, known, namespace)
    checked = inspect_cell(text.translated, found, options, around, target, namespace=namespace)
    refuse(checked.findings)
    definitions = tuple(_definition_items(text, found, options))
    defined = {item["name"] for item in definitions}
    outputs = found.outputs if options.outputs is None else options.outputs
    return PreparedCell(
        text=text,
        options=options,
        captured=checked.captured,
        inputs=checked.inputs,
        outputs=tuple(name for name in outputs if name not in defined),
        requirements=checked.requirements(target),
        definitions=definitions,
        warnings=checked.findings,
    )


def _definition_items(text: CellText, found: CellPlan, options: CellOptions) -> Sequence[Item]:
    """Return what the cell defines and nothing else binds: that is executed here, not brought back."""
    wanted = found.only_defined
    if options.outputs is not None:
        wanted = tuple(name for name in wanted if name in options.outputs)
    definitions = find_definitions(text.translated.source) if wanted else {}
    return [Source(definitions[name], text.filename).item for name in wanted if name in definitions]
