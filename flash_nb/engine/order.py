"""An order: a job as the body of ``/run`` asks for it, made into what the channel's ``submit`` brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flash_nb.engine.gate import RefusalError
from flash_nb.worker.frames import Header

DAY_S = 24 * 3600.0
TIMEOUT_RANGE_S = (5.0, 7 * DAY_S)
TTL_RANGE_S = (10.0, 7 * DAY_S)
EXTRA = ("policy", "webhook", "s3Config")


def submission(
    job_id: str, endpoint_id: str, spec: Mapping[str, Any], body: Mapping[str, Any], *, python: str
) -> tuple[Header, Header]:
    """Return the header of a ``submit`` and its request.

    Args:
        job_id: The new job's id.
        endpoint_id: Whose job it is.
        spec: The endpoint's: with an app its handler takes any input, else the input brings its code.
        body: ``{"input": …, "policy": …, "webhook": …}``.
        python: The interpreter of workers.

    Raises:
        RefusalError: 400, the body makes no sense.
    """
    if "input" not in body:
        raise RefusalError(400, 'The body has no "input".')
    request, needs = _handled(spec, body) if _has_handler(spec) else _live(endpoint_id, spec, body["input"])
    header: Header = {
        "job": job_id,
        "endpoint": endpoint_id,
        "needs": {"python": python, "instance": None, **needs},
        **_policy(body.get("policy")),
    }
    if webhook := body.get("webhook"):
        if not isinstance(webhook, str) or not webhook.startswith(("http://", "https://")):
            raise RefusalError(400, f"webhook must be the address of a web page, not {webhook!r}.")
        header["webhook"] = webhook
    if request["execution_type"] == "live" and request["input"].get("accelerate_downloads") is False:
        header["accelerate"] = False
    return header, request


def _has_handler(spec: Mapping[str, Any]) -> bool:
    """Say if jobs bring no code: an image of somebody's own answers them, or what stands for it."""
    return bool(spec["app"]) or not spec["kind"].removeprefix("Cpu").startswith("Live")


def _handled(spec: Mapping[str, Any], body: Mapping[str, Any]) -> tuple[Header, Header]:
    extra = {name: body[name] for name in EXTRA if name in body}
    request: Header = {"execution_type": "handler", "input": body["input"], "extra": extra}
    return request, {"requirements": spec["requirements"], "system": spec["system"]}


def _live(endpoint_id: str, spec: Mapping[str, Any], given: Any) -> tuple[Header, Header]:
    if not isinstance(given, dict):
        raise RefusalError(
            400,
            f"{spec['name']} is a live endpoint: its input is a function request, an object with "
            "function_name and function_code.",
        )
    instance = given.get("instance_id")
    # An official client counts its objects by itself: two endpoints may know the same name.
    needed = f"{endpoint_id}/{instance}" if instance else None
    request: Header = {"execution_type": "live", "input": given, "instance": needed}
    return request, {
        "requirements": _texts(given, "dependencies"),
        "system": _texts(given, "system_dependencies"),
        "instance": needed,
    }


def _texts(given: Mapping[str, Any], name: str) -> list[str]:
    found = given.get(name) or []
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise RefusalError(400, f"{name} must be a list of texts.")
    return found


def _policy(given: Any) -> Header:
    """Return the times of a policy in seconds; ``lowPriority`` is about what a worker costs: nothing here."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise RefusalError(400, "policy must be an object.")
    times = {
        "timeout": _seconds(given, "executionTimeout", TIMEOUT_RANGE_S),
        "ttl": _seconds(given, "ttl", TTL_RANGE_S),
    }
    return {name: value for name, value in times.items() if value is not None}


def _seconds(policy: Mapping[str, Any], name: str, allowed: tuple[float, float]) -> float | None:
    value = policy.get(name)
    if value is None:
        return None
    low, high = allowed
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value / 1000 <= high:
        raise RefusalError(
            400,
            f"policy.{name} must be from {low * 1000:.0f} to {high * 1000:.0f} milliseconds, not {value!r}.",
        )
    return float(value) / 1000
