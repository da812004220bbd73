"""The handler of an endpoint: what answers jobs that bring only a payload, as in an image of Runpod's."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from . import artifact
from .app import load, provide


class HandlerError(Exception):
    """A handler said that it failed: it returned a dict with ``error``."""


class Handler:
    """A user's handler function, executed when the first job comes; or a deployed project's, see `prepare`.

    Args:
        app: The endpoint's app: ``{"kind": "handler", "group": …}``, or ``"artifact"`` for its group.
    """

    def __init__(self, app: Mapping[str, Any]) -> None:
        self._app = app
        self._function: Callable[[dict[str, Any]], Any] | None = None

    def prepare(self) -> None:
        """Import an artifact's handler before the first job: models are loaded while nobody waits.

        If that fails, the log has the traceback, and so will each job that tries again.
        """
        if "artifact" in self._app:
            try:
                self._load()
            except Exception:  # noqa: BLE001 - importing runs what the user wrote
                traceback.print_exc()

    def call(self, job: dict[str, Any]) -> Any:
        """Call the handler with ``{"id": …, "input": …}``."""
        return self._load()(job)

    def _load(self) -> Callable[[dict[str, Any]], Any]:
        if self._function is None and "artifact" in self._app:
            self._function = artifact.load(self._app["artifact"], "handler")
        elif self._function is None:
            provide([self._app["group"]])
            self._function = load(self._app["group"], self._app["group"]["function"])
        return self._function


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
