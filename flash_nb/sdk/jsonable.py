"""Values as JSON has them, for whoever is called by HTTP or by a payload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from flash_nb.errors import SerializationError
from flash_nb.jobs import JobOutput


def jsonable(label: str, value: Any) -> Any:
    """Return a value in JSON's own types. Dates, dataclasses, pydantic models and sets are converted.

    Args:
        label: What it is, for the message: ``argument image``.
        value: The value; a `JobOutput` stands for its output.

    Raises:
        SerializationError: Some part cannot be JSON; the message has the path to it.
    """
    if isinstance(value, JobOutput):
        value = value.unwrap()
    try:
        return to_jsonable_python(value, inf_nan_mode="constants")
    except (PydanticSerializationError, UnicodeDecodeError, ValueError) as error:
        path, part = _culprit(label, value)
        kind = type(part)
        raise SerializationError(
            f"{path} cannot be sent as JSON: it is a {kind.__module__}.{kind.__qualname__}.",
            hint=_HINTS.get(kind.__module__.split(".")[0], "Send plain data: numbers, text, lists, dicts."),
        ) from error


_HINTS = {
    "numpy": "Send array.tolist(), or a URL to the data.",
    "pandas": 'Send frame.to_dict("records"), or a URL to the data.',
    "torch": "Send tensor.tolist(), or a URL to the data.",
}


def _culprit(path: str, value: Any) -> tuple[str, Any]:
    for step, part in _parts(value):
        if not _is_jsonable(part):
            return _culprit(path + step, part)
    return path, value


def _is_jsonable(value: Any) -> bool:
    try:
        to_jsonable_python(value)
    except (PydanticSerializationError, UnicodeDecodeError, ValueError):
        return False
    return True


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    return []
