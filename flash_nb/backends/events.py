"""A worker's event, as it travels in JSON, made into what a job's handle takes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from flash_nb.errors import EngineError
from flash_nb.jobs import ClearEvent, DisplayEvent, ItemEvent, JobEvent, PhaseEvent, StreamEvent


def worker_event(event: Mapping[str, Any]) -> JobEvent:
    """Return the event that a worker sent.

    Raises:
        EngineError: Its type is not known.
    """
    match event["type"]:
        case "stream":
            return StreamEvent(event["name"], event["text"])
        case "display" | "result":
            return DisplayEvent(
                event["data"],
                event["metadata"],
                event.get("display_id"),
                event.get("update", False),
                is_result=event["type"] == "result",
            )
        case "clear":
            return ClearEvent(event["wait"])
        case "item":
            return ItemEvent(event["index"], base64.b64decode(event["value"]))
        case "phase":
            return PhaseEvent(event["phase"])
    raise EngineError(f"A worker sent an event of an unknown type: {event['type']!r}.")
