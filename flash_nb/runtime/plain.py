"""Values as JSON has them: what a handler answers with, and what a route is called with."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from pathlib import PurePath
from typing import Any
from uuid import UUID

from .errors import SerializationError
from .jobs import JobOutput


def given(value: Any) -> Any:
    """Return what an argument stands for: a `JobOutput` its output."""
    return value.unwrap() if isinstance(value, JobOutput) else value


def given_each(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what arguments by name stand for."""
    return {name: given(value) for name, value in values.items()}


def jsonable(label: str, value: Any) -> Any:
    """Return a value in JSON's own types. Dates, dataclasses, pydantic models, sets and arrays are converted.

    Raises:
        SerializationError: Some part cannot be JSON.
    """
    try:
        return json.loads(json.dumps(value, default=_converted))
    except (TypeError, ValueError, RecursionError) as error:
        raise SerializationError(
            f"{label} cannot be sent as JSON: {error}.",
            hint="Send plain data: numbers, text, lists, dicts; or a URL to the data.",
        ) from error


def _converted(value: Any) -> Any:  # noqa: PLR0911 - a table
    """Return a part that JSON does not know in other words."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (UUID, PurePath)):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return value.decode()
    if isinstance(value, Mapping):
        return dict(value)
    for name in ("model_dump", "tolist"):  # of pydantic's models; of NumPy's and PyTorch's arrays
        if callable(convert := getattr(value, name, None)):
            return convert()
    kind = type(value)
    raise TypeError(f"a part of it is a {kind.__module__}.{kind.__qualname__}")
