"""Preflight of a remote cell in the notebook: its text, its values and its packages, in one pass."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flash_nb.cells.finding import Finding, in_order
from flash_nb.cells.options import CellOptions
from flash_nb.cells.plan import CellPlan
from flash_nb.cells.preflight import Around, check_text, guessed_modules, import_lines
from flash_nb.cells.shell import Translated
from flash_nb.cells.syntax import parse
from flash_nb.errors import did_you_mean
from flash_nb.sdk.capture import Capture, survey
from flash_nb.sdk.dependencies import requirements_for
from flash_nb.sdk.preflight import Places, check_packages, check_values, coroutine_names
from flash_nb.sdk.target import Target

_MOST_WARNINGS = 3


@dataclass(frozen=True)
class Checked:
    """A cell and what its preflight found.

    Attributes:
        inputs: The names that it is sent.
        captured: They, with all that they need; not to be sent if there are errors.
        findings: By their lines.
        explicit: The requirements that the user wrote.
    """

    inputs: tuple[str, ...]
    captured: Capture
    findings: tuple[Finding, ...]
    explicit: tuple[str, ...]

    def requirements(self, target: Target) -> tuple[str, ...]:
        """Return what the worker installs; there must be no errors."""
        return requirements_for(self.captured.files.outside, self.explicit, present=target.packages)


def known_around(plan: CellPlan, known: frozenset[str], namespace: Mapping[str, Any]) -> Around:
    """Return what a cell of the running notebook finds."""
    return Around(known, coroutine_names(plan.reads, namespace))


def inspect_cell(
    text: Translated,
    plan: CellPlan,
    options: CellOptions,
    around: Around,
    target: Target,
    *,
    namespace: Mapping[str, Any],
) -> Checked:
    """Find all that stands against sending a cell, and all that it needs.

    Every value is pickled once: what is found in it is found on the way.

    Args:
        text: The cell.
        plan: Its plan.
        options: Its magic line.
        around: What it finds in the notebook.
        target: The worker.
        namespace: The notebook's.
    """
    inputs = plan.inputs if options.inputs is None else options.inputs
    captured = survey([name for name in inputs if name in namespace], namespace)
    places = Places(plan.reads, captured.via)
    tree = parse(text.source)
    lines = import_lines(tree)
    explicit = (*options.deps, *text.dependencies)
    findings = [
        *_missing_inputs(options, namespace),
        *check_text(tree, plan, around, allowed=options.allowed_secrets),
        *check_packages(lines, explicit, captured, places, target, guesses=guessed_modules(tree)),
        *check_values(captured, namespace, places, target=target, allowed=options.allowed_secrets),
    ]
    return Checked(tuple(inputs), captured, in_order(findings), explicit)


def _missing_inputs(options: CellOptions, namespace: Mapping[str, Any]) -> list[Finding]:
    return [
        Finding(
            "undefined",
            1,
            f"--in names {name!r}, which is not defined{did_you_mean(name, namespace)}",
            "define it, or leave it out",
        )
        for name in options.inputs or ()
        if name not in namespace
    ]


def show_warnings(findings: Sequence[Finding], said: set[str]) -> None:
    """Print the first warnings on stderr, a line each; none that this notebook has said before.

    Args:
        findings: Of one cell.
        said: What has been said; added to.
    """
    new = [finding for finding in findings if not finding.is_error and finding.message not in said]
    said.update(finding.message for finding in new)
    for finding in new[:_MOST_WARNINGS]:
        sys.stderr.write(f"⚠ {finding}\n")
    if len(new) > _MOST_WARNINGS:
        sys.stderr.write(f"⚠ and {len(new) - _MOST_WARNINGS} more: %flash check\n")
