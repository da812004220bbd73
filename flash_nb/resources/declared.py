"""A declared value: frozen, strict, and refused in whole sentences."""

import re
import reprlib
from collections.abc import Iterator, Mapping
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from flash_nb.errors import ResourceError, did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,99}")


class Declared(BaseModel):
    """Base of what a user declares.

    Strict: ``workersMax="3"`` and ``workersMin=True`` are mistakes, not numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    not_fields: ClassVar[Mapping[str, str]] = {}
    """Why a name that somebody may expect is not a field; it reads on from the name."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Give ``?`` in a notebook a signature of names and defaults, without pydantic's annotations."""
        cls.__signature__ = Signature(
            [
                Parameter(
                    name,
                    Parameter.KEYWORD_ONLY,
                    default=Parameter.empty if field.is_required() else field.default,
                )
                for name, field in cls.model_fields.items()
            ]
        )

    def __init__(self, /, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            problems = [self._sentence(problem) for problem in error.errors(include_url=False)]
            # Not chained: pydantic's own text quotes the input, which may hold secrets.
            raise ResourceError("\n".join(problems)) from None
        if conflicts := [f"{type(self).__name__}: {conflict}" for conflict in self._conflicts()]:
            raise ResourceError("\n".join(conflicts))

    def _conflicts(self) -> Iterator[str]:
        """Yield a sentence for each pair of fields that cannot go together."""
        yield from ()

    def __setattr__(self, name: str, value: object) -> None:
        raise ResourceError(f"{type(self).__name__}: {name} cannot be changed: declare a new one")

    @classmethod
    def _sentence(cls, problem: "ErrorDetails") -> str:
        name = _path(problem["loc"])
        if problem["type"] == "extra_forbidden":
            return f"{cls.__name__}: {name} {cls.not_fields.get(name) or cls._unknown(name)}"
        if problem["type"] == "missing":
            return f"{cls.__name__}: {name} is required"
        if not name:
            return f"{cls.__name__}: {_reason(problem)}"
        if isinstance(problem.get("ctx", {}).get("error"), ResourceError):
            return f"{cls.__name__}: {name}: {_reason(problem)}"
        return f"{cls.__name__}: {name}{_shown(name, problem['input'])} {_reason(problem)}"

    @classmethod
    def _unknown(cls, name: str) -> str:
        fields = sorted(cls.model_fields)
        return f"is not a field{did_you_mean(name, fields) or '; the fields are ' + ', '.join(fields)}"

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield what differs from the defaults: that is what the user wrote."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if field.is_required() or value != field.get_default(call_default_factory=True):
                yield name, list(value) if isinstance(value, tuple) else value

    __str__ = BaseModel.__repr__


def between(low: int, high: int | None = None) -> AfterValidator:
    """Return a check that a number is from `low` to `high` (None: without limit)."""
    allowed = f"{low} or more" if high is None else f"from {low} to {high}"

    def check(value: int) -> int:
        if value < low or (high is not None and value > high):
            raise ValueError(f"must be {allowed}")
        return value

    return AfterValidator(check)


def one_word(example: str) -> AfterValidator:
    """Return a check that a text is one word, such as `example`."""

    def check(text: str) -> str:
        if not re.fullmatch(r"\S+", text):
            raise ValueError(f"must be one word, such as {example!r}")
        return text

    return AfterValidator(check)


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "must have 1 to 100 letters, digits, spaces, '_', '.' or '-', and begin with a letter or digit"
        )
    return name


Name = Annotated[str, AfterValidator(_check_name)]
"""A name that a user gives. The length is our own limit: Runpod documents none."""


def as_tuple(value: object) -> tuple[object, ...]:
    """Return a list, tuple or set as a tuple: a set sorted, None as an empty one.

    Raises:
        ValueError: It is something else, for example one text.
    """
    if isinstance(value, set | frozenset):
        return tuple(sorted(value, key=str))
    if isinstance(value, list | tuple | None):
        return tuple(value or ())
    raise ValueError("must be a list")


def _path(location: tuple[int | str, ...]) -> str:
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return name.removeprefix(".")


def _shown(name: str, value: object) -> str:
    """Return ``=value`` for a plain value, cut if it is long; nothing for what may hold secrets."""
    if "env" in name or not isinstance(value, str | int | float | None):
        return ""
    return f"={reprlib.repr(value)}"


def _reason(problem: "ErrorDetails") -> str:
    """Return what follows the name and value: our validators' own words, or pydantic's."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return problem["msg"].replace("Input should", "must")
