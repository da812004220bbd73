"""Findings: what a preflight says of a cell, each with its line and a way out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, get_args

from flash_nb.errors import (
    CellError,
    FlashError,
    PayloadTooLargeError,
    PreflightError,
    ScopeError,
    SerializationError,
    UndefinedNameError,
    UnsupportedMagicError,
)

Code = Literal[
    "await",  # a coroutine is used, or dropped, where its result is meant
    "below",  # a name that only a cell below defines
    "file",  # an open file
    "generator",
    "gpu",  # a value in the memory of this machine's GPU
    "import",  # a module that no package provides on a worker
    "lock",
    "magic",  # IPython syntax that a worker cannot run
    "option",  # the magic line makes no sense
    "python",  # bytecode for a worker of another Python
    "redefined",  # an instance of a class that has been defined again
    "remote",  # a remote function called on a worker
    "scope",  # strict=True, and a name from outside
    "secret",
    "socket",
    "syntax",
    "too-large",
    "undefined",
    "unpicklable",
]
CODES: tuple[Code, ...] = get_args(Code)

_ERRORS: dict[Code, type[FlashError]] = {
    "below": UndefinedNameError,
    "file": SerializationError,
    "generator": SerializationError,
    "gpu": SerializationError,
    "lock": SerializationError,
    "magic": UnsupportedMagicError,
    "python": SerializationError,
    "scope": ScopeError,
    "socket": SerializationError,
    "too-large": PayloadTooLargeError,
    "undefined": UndefinedNameError,
    "unpicklable": SerializationError,
}
"""What one finding raises; `CellError` for all others."""


class Severity(str, Enum):
    """Whether a finding forbids the run."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a preflight found.

    Attributes:
        code: What sort of thing.
        line: Where, as the cell counts: its magic line is line 1.
        message: What it is, without a full stop.
        fix: What to do about it, in a line: "import it inside".
        severity: Whether the cell may run all the same.
    """

    code: Code
    line: int
    message: str
    fix: str
    severity: Severity = Severity.ERROR

    @classmethod
    def of_error(cls, code: Code, line: int, error: FlashError) -> Finding:
        """Return an error of ours as a finding: its message, and its hint as the fix."""
        fix = (error.hint or "correct it").rstrip(".")
        return cls(code, line, error.message.rstrip("."), fix[0].lower() + fix[1:])

    def __str__(self) -> str:
        return f"line {self.line}: {self.message} – {self.fix}"

    @property
    def described(self) -> str:
        """The same, with a word before it if it is a warning."""
        return str(self) if self.is_error else f"line {self.line}: warning: {self.message} – {self.fix}"

    @property
    def is_error(self) -> bool:
        """Whether it forbids the run."""
        return self.severity is Severity.ERROR


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings by their lines, each once; of one line, in the order in which they came."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: finding.line))


def refuse(findings: Sequence[Finding]) -> None:
    """Raise what the errors among findings amount to; warnings are passed over.

    Errors of one sort raise the error of that sort, so that whoever expects an `UndefinedNameError`
    gets one whether one name is missing or two. Those of several sorts raise a `PreflightError`.

    Raises:
        CellError, FlashRuntimeError: There are errors; the message lists all of them.
    """
    errors = [finding for finding in findings if finding.is_error]
    if not errors:
        return
    kinds = {_ERRORS.get(finding.code, CellError) for finding in errors}
    kind = kinds.pop() if len(kinds) == 1 else PreflightError
    if len(errors) == 1:
        only = errors[0]
        raise kind(f"Line {only.line}: {only.message}.", hint=f"{_sentence(only.fix)} Nothing was sent.")
    listed = "".join(f"\n  {finding.described}" for finding in findings)
    error = kind(f"The cell has {counted(findings)}:{listed}", hint="Nothing was sent.")
    if isinstance(error, PreflightError):
        error.findings = tuple(findings)
    raise error


def counted(findings: Iterable[Finding]) -> str:
    """Return how many there are: ``2 errors and 1 warning``, ``no errors``."""
    severities = [finding.severity for finding in findings]
    counts = [(severities.count(severity), severity.value) for severity in Severity]
    return (
        " and ".join(f"{count} {word}{'s' * (count != 1)}" for count, word in counts if count) or "no errors"
    )


def _sentence(text: str) -> str:
    text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
