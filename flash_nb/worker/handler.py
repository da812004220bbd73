"""The handler of an endpoint: what answers jobs that bring only a payload, as in an image of Runpod's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from .app import load


class HandlerError(Exception):
    """A handler said that it failed: it returned a dict with ``error``."""


class Handler:
    """A user's handler function, executed when the first job comes.

    Args:
        app: The endpoint's app: ``{"kind": "handler", "group": …}``.
    """

    def __init__(self, app: Mapping[str, Any]) -> None:
        self._group = app["group"]
        self._function: Callable[[dict[str, Any]], Any] | None = None

    def call(self, job: dict[str, Any]) -> Any:
        """Call the handler with ``{"id": …, "input": …}``."""
        if self._function is None:
            self._function = load(self._group, self._group["function"])
        return self._function(job)


def answer(result: Any) -> bytes:
    """Return a handler's result as JSON.

    Raises:
        HandlerError: The result says that the job failed.
        TypeError: JSON cannot hold it.
    """
    if isinstance(result, Mapping) and result.get("error"):
        raise HandlerError(str(result["error"]))
    try:
        return json.dumps(result).encode()
    except (TypeError, ValueError) as error:
        raise TypeError(f"the handler returned what JSON cannot hold: {error}") from None
